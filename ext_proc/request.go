package extproc

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// forwarded holds the headers that decisions read, beside those that begin with x-logos-.
var forwarded = []string{
	":method", ":path", "x-request-id", "content-length", "upgrade", "anthropic-version", "proxy",
	"logos_key", "logos-key", "authorization", "x-api-key", "api-key", "x-goog-api-key",
}

// RequestHeaders returns the names of the headers that Envoy must send, beside all that begin with
// x-logos-; it keeps the others to itself.
func RequestHeaders() []string { return forwarded }

// A request is what the headers say.
type request struct {
	id            logos.CallID
	method, path  string
	route         dialect.Route
	contentLength int64 // -1: not given
	endStream     bool  // there is no body
	upgrade       bool
	anthropic     bool // the caller is an Anthropic client

	keys       []string // Logos keys presented, each once
	keyHeaders []string // the headers that hold them
	ownHeaders bool     // the caller sends provider headers of its own
	others     []header // those that may be such headers

	profile, policy, provider, user, session string
	proxy                                    bool
}

// A header is one as it came.
type header struct{ name, value string }

// decode reads HttpHeaders. Nothing of it keeps the encoded bytes.
func (r *request) decode(raw []byte) error {
	r.contentLength = -1
	err := eachField(raw, func(n protowire.Number, v []byte) error {
		switch n {
		case 1: // headers, a HeaderMap
			return eachField(v, func(n protowire.Number, v []byte) error {
				if n == 1 { // headers, each a HeaderValue
					return r.decodeHeader(v)
				}
				return nil
			})
		case 3: // end_of_stream
			ends, _ := protowire.ConsumeVarint(v)
			r.endStream = ends != 0
		}
		return nil
	})
	r.sortOthers()
	r.route = dialect.ParsePath(r.path)
	return err
}

// sortOthers tells the caller's own provider headers from those that hold a Logos key in a form that is not
// read, which no provider may see.
func (r *request) sortOthers() {
	for _, h := range r.others {
		if slices.ContainsFunc(r.keys, func(key string) bool { return key != "" && strings.Contains(h.value, key) }) {
			r.keyHeaders = append(r.keyHeaders, h.name)
		} else {
			r.ownHeaders = true
		}
	}
}

func (r *request) decodeHeader(raw []byte) error {
	var key, value, rawValue []byte
	err := eachField(raw, func(n protowire.Number, v []byte) error {
		switch n {
		case 1:
			key = v
		case 2:
			value = v
		case 3:
			rawValue = v
		}
		return nil
	})
	if len(rawValue) > 0 { // Envoy sends this one, for values that are not UTF-8
		value = rawValue
	}
	r.header(string(key), string(value))
	return err
}

func (r *request) header(name, v string) {
	switch name {
	case ":method":
		r.method = v
	case ":path":
		r.path = v
	case "x-request-id":
		r.id = logos.CallID(v)
	case "content-length":
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			r.contentLength = n
		}
	case "upgrade":
		r.upgrade = true
	case "anthropic-version":
		r.anthropic = true
	case "logos_key", "logos-key":
		r.addKey(name, strings.TrimSpace(v))
	case "authorization":
		if key, ok := logos.HeaderKey(v); ok {
			r.addKey(name, key)
		} else {
			r.others = append(r.others, header{name, v})
		}
	case "x-api-key", "api-key":
		if strings.HasPrefix(v, logos.KeyPrefix) {
			r.addKey(name, v)
		} else {
			r.others = append(r.others, header{name, v})
		}
	case "x-goog-api-key":
		r.others = append(r.others, header{name, v})
	case "x-logos-profile":
		r.profile = v
	case "x-logos-policy":
		r.policy = v
	case "x-logos-provider":
		r.provider = v
	case "x-logos-user":
		r.user = v
	case "x-logos-session":
		r.session = v
	case "x-logos-proxy", "proxy":
		r.proxy = v != "" && v != "0" && !strings.EqualFold(v, "false")
	}
}

func (r *request) addKey(header, key string) {
	r.keyHeaders = append(r.keyHeaders, header)
	for _, k := range r.keys {
		if k == key {
			return
		}
	}
	r.keys = append(r.keys, key)
}
