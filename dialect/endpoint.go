package dialect

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// suffixes holds the last part of each API's path, the longer of two that end alike first.
var suffixes = []struct {
	api    logos.API
	suffix string
}{
	{logos.APIChat, "chat/completions"},
	{logos.APICompletions, "completions"},
	{logos.APIResponses, "responses"},
	{logos.APIEmbeddings, "embeddings"},
	{logos.APIMessages, "messages"},
}

// served holds the APIs that a dialect's providers usually serve.
var served = map[logos.Dialect][]logos.API{
	logos.DialectOpenAI:     {logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIEmbeddings},
	logos.DialectAzure:      {logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIEmbeddings},
	logos.DialectAnthropic:  {logos.APIMessages},
	logos.DialectGemini:     {logos.APIChat, logos.APIEmbeddings},
	logos.DialectCompatible: {logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIEmbeddings, logos.APIMessages},
}

// A Route is what the path of a request asks for.
type Route struct {
	API    logos.API // APINone: none that goes by model
	Models bool      // the list of models, or one of them
	Model  string    // named in the path: Azure's deployment, or the one model of /v1/models/{model}
	Query  string    // raw, without the question mark
}

// ParsePath reads a request's path, with its query: OpenAI's and Anthropic's /v1/…, Azure's
// /openai/v1/… and /openai/deployments/{model}/….
func ParsePath(path string) Route {
	path, query, _ := strings.Cut(path, "?")
	r := Route{Query: query}
	rest, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		rest, ok = strings.CutPrefix(path, "/openai/v1/")
	}
	if !ok {
		if rest, ok = strings.CutPrefix(path, "/openai/deployments/"); !ok {
			return r
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		model, err := url.PathUnescape(name)
		if err != nil || model == "" {
			return r
		}
		r.Model = model
	}
	rest = strings.TrimSuffix(rest, "/")
	for _, s := range suffixes {
		if rest == s.suffix {
			r.API = s.api
			return r
		}
	}
	if rest == "models" {
		r.Models = true
	} else if name, one := strings.CutPrefix(rest, "models/"); one {
		if model, err := url.PathUnescape(name); err == nil {
			r.Models, r.Model = true, model
		}
	}
	return r
}

// Serves says whether a target's deployment serves an API.
func Serves(t *logos.Target, api logos.API) bool {
	apis := t.Deployment.APIs
	if len(apis) == 0 {
		apis = served[t.Provider.Dialect]
	}
	return slices.Contains(apis, api)
}

// TargetPath returns the path and query of an API at a target. A model's endpoint names the path of one
// API, whose siblings stand beside it, or the part that all its APIs share; without one, the path is the
// dialect's own.
func TargetPath(t *logos.Target, api logos.API, query string) string {
	endpoint := t.Deployment.Endpoint
	if endpoint == "" {
		endpoint = t.Model.Endpoint
	}
	endpoint, own, _ := strings.Cut(endpoint, "?")
	base := t.Provider.BaseURL
	var path string
	if endpoint = strings.Trim(endpoint, "/"); endpoint != "" {
		path = join(base.EscapedPath(), "/"+sibling(endpoint, api))
	} else {
		path = join(apiRoot(t.Provider), "/"+suffixOf(api))
	}
	if t.Provider.Dialect != logos.DialectAzure {
		query = without(query, "api-version")
	}
	return withQuery(path, own, base.RawQuery, query)
}

// PassthroughPath returns the path and query that a request of another path has at a provider. A path
// that could leave the provider's base path, by dots or in disguise, is refused.
func PassthroughPath(p *logos.Provider, path string) (string, error) {
	path, query, _ := strings.Cut(path, "?")
	decoded, err := url.PathUnescape(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(decoded, "\\\x00\r\n") || leaves(decoded) {
		return "", logos.Errorf(logos.Invalid, "invalid_path", "the path %.200q can't be passed through: it must not hold dot segments, empty segments or backslashes", path)
	}
	return withQuery(join(p.BaseURL.EscapedPath(), path), "", p.BaseURL.RawQuery, query), nil
}

// leaves says whether a decoded path has segments that a server may resolve to somewhere else. Some
// servers decode twice, and some pass over escapes that are wrong, so both are tried.
func leaves(decoded string) bool {
	for range 4 {
		if strings.Contains(decoded, "//") || strings.ContainsAny(decoded, "\\\x00") {
			return true
		}
		for segment := range strings.SplitSeq(decoded, "/") {
			if s, _, _ := strings.Cut(segment, ";"); s == "." || s == ".." {
				return true
			}
		}
		again := decodeLeniently(decoded)
		if again == decoded {
			return false
		}
		if strings.Count(again, "/") > strings.Count(decoded, "/") {
			return true // a slash escaped twice
		}
		decoded = again
	}
	return true // nobody has a reason to escape so often
}

// DecodePath decodes a path until nothing is escaped in it any more.
func DecodePath(path string) (string, error) {
	for range 4 {
		decoded := decodeLeniently(path)
		if decoded == path {
			return path, nil
		}
		path = decoded
	}
	return "", logos.Errorf(logos.Invalid, "invalid_path", "the path is escaped several times over")
}

// decodeLeniently decodes what is escaped well, and leaves the rest.
func decodeLeniently(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func suffixOf(api logos.API) string {
	for _, s := range suffixes {
		if s.api == api {
			return s.suffix
		}
	}
	return ""
}

// sibling returns the path of an API, given that of another or what all have in common.
func sibling(endpoint string, api logos.API) string {
	for _, s := range suffixes {
		if prefix, ok := strings.CutSuffix(endpoint, s.suffix); ok && (prefix == "" || strings.HasSuffix(prefix, "/")) {
			return prefix + suffixOf(api)
		}
	}
	return endpoint + "/" + suffixOf(api)
}

// apiRoot is the path below which a provider's APIs stand. A base URL with a path of its own names it.
func apiRoot(p *logos.Provider) string {
	base := strings.TrimSuffix(p.BaseURL.EscapedPath(), "/")
	switch {
	case p.Dialect == logos.DialectAzure && (base == "" || base == "/openai"):
		return "/openai/v1"
	case p.Dialect == logos.DialectGemini && base == "":
		return "/v1beta/openai"
	case base == "":
		return "/v1"
	}
	return base
}

// join puts a path below a base; a base that ends in /v1 and a path /v1/… make one /v1.
func join(base, path string) string {
	base = strings.TrimSuffix(base, "/")
	if strings.HasSuffix(base, "/v1") && (strings.HasPrefix(path, "/v1/") || path == "/v1") {
		path = strings.TrimPrefix(path, "/v1")
	}
	return base + path
}

// withQuery appends queries to a path; a parameter of an earlier one wins.
func withQuery(path string, queries ...string) string {
	seen := make(map[string]bool)
	sep := "?"
	for _, q := range queries {
		var names []string
		for pair := range strings.SplitSeq(q, "&") {
			name := queryName(pair)
			if pair == "" || seen[name] {
				continue
			}
			names = append(names, name)
			path += sep + pair
			sep = "&"
		}
		for _, n := range names {
			seen[n] = true
		}
	}
	return path
}

// without leaves a parameter out of a query.
func without(query, name string) string {
	if query == "" {
		return ""
	}
	pairs := strings.Split(query, "&")
	return strings.Join(slices.DeleteFunc(pairs, func(p string) bool { return queryName(p) == name }), "&")
}

// queryName returns the decoded name of a query's parameter.
func queryName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err == nil {
		return decoded
	}
	return name
}
