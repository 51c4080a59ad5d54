package dialect_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func TestParsePath(t *testing.T) {
	type route = dialect.Route
	for _, c := range []struct {
		path string
		want route
	}{
		{"/v1/chat/completions", route{API: logos.APIChat}},
		{"/v1/completions", route{API: logos.APICompletions}},
		{"/v1/responses", route{API: logos.APIResponses}},
		{"/v1/embeddings", route{API: logos.APIEmbeddings}},
		{"/v1/messages", route{API: logos.APIMessages}},
		{"/v1/chat/completions/", route{API: logos.APIChat}},
		{"/v1/messages?beta=true", route{API: logos.APIMessages, Query: "beta=true"}},
		{"/v1/responses?a=1?b=2", route{API: logos.APIResponses, Query: "a=1?b=2"}},
		{"/openai/v1/responses?api-version=preview", route{API: logos.APIResponses, Query: "api-version=preview"}},
		{"/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", route{API: logos.APIChat, Model: "gpt-4o", Query: "api-version=2024-10-21"}},
		{"/openai/deployments/org%2Fgpt%204/embeddings", route{API: logos.APIEmbeddings, Model: "org/gpt 4"}},
		{"/v1/models", route{Models: true}},
		{"/v1/models/", route{Models: true}},
		{"/openai/v1/models", route{Models: true}},
		{"/v1/models/gpt-4o", route{Models: true, Model: "gpt-4o"}},
		{"/v1/models/org%2Fgpt?x", route{Models: true, Model: "org/gpt", Query: "x"}},
		{"/v1/models/org/gpt", route{Models: true, Model: "org/gpt"}},

		{"", route{}},
		{"/", route{}},
		{"?a", route{Query: "a"}},
		{"/v1", route{}},
		{"/v1/", route{}},
		{"/v1/files", route{}},
		{"/v1/chat", route{}},
		{"/v1/xcompletions", route{}},
		{"/v1/chat/completions/x", route{}},
		{"/v1/chat/completions//", route{}},
		{"/v1//chat/completions", route{}},
		{"/V1/chat/completions", route{}},
		{"/v1/chat%2Fcompletions", route{}},
		{"/v2/chat/completions", route{}},
		{"v1/chat/completions", route{}},
		{"/x/v1/chat/completions", route{}},
		{"/v1/messages/count_tokens", route{}},
		{"/v1/responses/resp_1/cancel", route{}},
		{"/v1/models/%zz", route{}},
		{"/openai/deployments/%zz/chat/completions", route{}},
		{"/openai/deployments//chat/completions", route{}},
		{"/openai/deployments/gpt-4o", route{Model: "gpt-4o"}},
		{"/openai/deployments/gpt-4o/images/generations", route{Model: "gpt-4o"}},
	} {
		if diff := cmp.Diff(c.want, dialect.ParsePath(c.path)); diff != "" {
			t.Errorf("ParsePath(%q) differs (-want +got):\n%s", c.path, diff)
		}
	}
}

func provider(t testing.TB, d logos.Dialect, base string) *logos.Provider {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return &logos.Provider{Dialect: d, BaseURL: u}
}

func TestTargetPath(t *testing.T) {
	const (
		openai, azure, anthropic, gemini = logos.DialectOpenAI, logos.DialectAzure, logos.DialectAnthropic, logos.DialectGemini
		local                            = logos.DialectCompatible
	)
	for _, c := range []struct {
		dialect        logos.Dialect
		base, endpoint string
		api            logos.API
		query, want    string
	}{
		{openai, "https://x", "", logos.APIChat, "", "/v1/chat/completions"},
		{openai, "https://x/", "", logos.APICompletions, "", "/v1/completions"},
		{openai, "https://x/v1", "", logos.APIResponses, "", "/v1/responses"},
		{openai, "https://x/v1/", "", logos.APIEmbeddings, "", "/v1/embeddings"},
		{local, "http://x/llm/v1", "", logos.APIChat, "", "/llm/v1/chat/completions"},
		{local, "http://x/api", "", logos.APIChat, "", "/api/chat/completions"},
		{local, "http://x/a%2Fb/v1", "", logos.APIChat, "", "/a%2Fb/v1/chat/completions"},
		{local, "http://x", "", logos.APIMessages, "", "/v1/messages"},
		{anthropic, "https://x", "", logos.APIMessages, "beta=true", "/v1/messages?beta=true"},
		{anthropic, "https://x/v1", "", logos.APIMessages, "", "/v1/messages"},
		{gemini, "https://x", "", logos.APIChat, "", "/v1beta/openai/chat/completions"},
		{gemini, "https://x/", "", logos.APIEmbeddings, "", "/v1beta/openai/embeddings"},
		{gemini, "https://x/v1beta/openai/", "", logos.APIChat, "", "/v1beta/openai/chat/completions"},
		{azure, "https://x", "", logos.APIChat, "", "/openai/v1/chat/completions"},
		{azure, "https://x/openai", "", logos.APIChat, "", "/openai/v1/chat/completions"},
		{azure, "https://x/openai/", "", logos.APIChat, "", "/openai/v1/chat/completions"},
		{azure, "https://x/openai/v1/", "", logos.APIResponses, "", "/openai/v1/responses"},
		{azure, "https://x/openai/deployments/d", "", logos.APIChat, "", "/openai/deployments/d/chat/completions"},

		// An endpoint of one API tells where its siblings stand.
		{openai, "https://x/v1", "/v1/chat/completions", logos.APIChat, "", "/v1/chat/completions"},
		{openai, "https://x/v1", "chat/completions", logos.APIResponses, "", "/v1/responses"},
		{openai, "https://x/v1", "responses/", logos.APIChat, "", "/v1/chat/completions"},
		{openai, "https://x", "v1/completions", logos.APIChat, "", "/v1/chat/completions"},
		{openai, "https://x", "/v1", logos.APIChat, "", "/v1/chat/completions"},
		{local, "http://x/a", "b", logos.APIMessages, "", "/a/b/messages"},
		{local, "http://x/a", "v1/messages", logos.APIChat, "", "/a/v1/chat/completions"},
		{local, "http://x", "mycompletions", logos.APIChat, "", "/mycompletions/chat/completions"},
		{azure, "https://x", "openai/deployments/d/chat/completions?api-version=1", logos.APIEmbeddings, "", "/openai/deployments/d/embeddings?api-version=1"},
		{azure, "https://x/openai/deployments/", "d/chat/completions?api-version=1", logos.APIChat, "", "/openai/deployments/d/chat/completions?api-version=1"},

		// Of a parameter said twice, the endpoint's counts, then the base URL's.
		{azure, "https://x/openai", "", logos.APIChat, "api-version=2", "/openai/v1/chat/completions?api-version=2"},
		{azure, "https://x?api-version=3", "", logos.APIChat, "api-version=2&a=b", "/openai/v1/chat/completions?api-version=3&a=b"},
		{azure, "https://x?api-version=3&k=v", "d/chat/completions?api-version=1", logos.APIChat, "api-version=2&k=w", "/d/chat/completions?api-version=1&k=v"},
		{openai, "https://x/v1", "", logos.APIChat, "a=1&a=2&&b", "/v1/chat/completions?a=1&a=2&b"},
		{openai, "https://x/v1?a=0", "", logos.APIChat, "a=1&a=2&b", "/v1/chat/completions?a=0&b"},
		{openai, "https://x/v1", "", logos.APIChat, "api-version=1", "/v1/chat/completions"},
		{openai, "https://x/v1", "", logos.APIChat, "a=1&api-version=1&api-versions=2&api-version", "/v1/chat/completions?a=1&api-versions=2"},
	} {
		target := &logos.Target{Provider: provider(t, c.dialect, c.base), Deployment: &logos.Deployment{}, Model: &logos.Model{Endpoint: c.endpoint}}
		if got := dialect.TargetPath(target, c.api, c.query); got != c.want {
			t.Errorf("%s at %s, endpoint %q: path of %s with %q is %s, want %s", c.dialect, c.base, c.endpoint, c.api, c.query, got, c.want)
		}
	}
}

func TestDeploymentsEndpointOverridesItsModels(t *testing.T) {
	target := &logos.Target{Provider: provider(t, logos.DialectOpenAI, "https://x"), Deployment: &logos.Deployment{Endpoint: "own"}, Model: &logos.Model{Endpoint: "models"}}
	if got, want := dialect.TargetPath(target, logos.APIChat, ""), "/own/chat/completions"; got != want {
		t.Errorf("path is %s, want %s", got, want)
	}
}

func TestServesWhatTheDeploymentSaysElseTheDialect(t *testing.T) {
	all := []logos.API{logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIEmbeddings, logos.APIMessages, logos.APINone}
	for _, c := range []struct {
		dialect logos.Dialect
		apis    []logos.API
		want    []logos.API
	}{
		{logos.DialectOpenAI, nil, all[:4]},
		{logos.DialectAzure, nil, all[:4]},
		{logos.DialectAnthropic, nil, []logos.API{logos.APIMessages}},
		{logos.DialectGemini, nil, []logos.API{logos.APIChat, logos.APIEmbeddings}},
		{logos.DialectCompatible, nil, all[:5]},
		{"unheard-of", nil, nil},
		{logos.DialectAnthropic, []logos.API{logos.APIChat}, []logos.API{logos.APIChat}},
	} {
		target := &logos.Target{Provider: &logos.Provider{Dialect: c.dialect}, Deployment: &logos.Deployment{APIs: c.apis}}
		var got []logos.API
		for _, api := range all {
			if dialect.Serves(target, api) {
				got = append(got, api)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s with %v serves (-want +got):\n%s", c.dialect, c.apis, diff)
		}
	}
}

func TestPassthroughPath(t *testing.T) {
	for _, c := range []struct{ base, path, want string }{
		{"https://x", "/", "/"},
		{"https://x", "/v1/files", "/v1/files"},
		{"https://x/v1", "/v1/files", "/v1/files"},
		{"https://x/v1/", "/v1/files/", "/v1/files/"},
		{"https://x/v1", "/v1", "/v1"},
		{"https://x/v1", "/files", "/v1/files"},
		{"https://x/v1", "/v1beta/files", "/v1/v1beta/files"},
		{"https://x/a/v1", "/v1/v1/files", "/a/v1/v1/files"},
		{"https://x/xv1", "/v1/files", "/xv1/v1/files"},
		{"https://x/v2", "/v1/files", "/v2/v1/files"},
		{"https://x/a%2Fb", "/c%2Fd/%20e", "/a%2Fb/c%2Fd/%20e"},
		{"https://x", "/a.b/..c/d../.../.e", "/a.b/..c/d../.../.e"},
		{"https://x", "/models/gemini:generateContent;v=1", "/models/gemini:generateContent;v=1"},
		{"https://x", "/v1/files?", "/v1/files"},
		{"https://x", "/v1/files?a=1&a=2", "/v1/files?a=1&a=2"},
		{"https://x", "/v1/files?next=/../%2e%2e//", "/v1/files?next=/../%2e%2e//"},
		{"https://x?k=v", "/v1/files", "/v1/files?k=v"},
		{"https://x?k=v", "/v1/files?a=1&k=w&k=z&b", "/v1/files?k=v&a=1&b"},
	} {
		got, err := dialect.PassthroughPath(provider(t, logos.DialectOpenAI, c.base), c.path)
		if err != nil || got != c.want {
			t.Errorf("%s at %s leads to %q, %v; want %q", c.path, c.base, got, err, c.want)
		}
	}
}

func TestPassthroughRefusesToLeaveTheBasePath(t *testing.T) {
	p := provider(t, logos.DialectOpenAI, "https://x/v1")
	for _, out := range []string{
		"", "*", "v1/files", "?a=b", "%2Fv1",
		"/..", "/../admin", "/v1/../../admin", "/v1/..", "/v1/.", "/./v1", "/v1/./files",
		"/%2e%2e/admin", "/%2E%2e/admin", "/.%2e/admin", "/v1/%2e", "/v1/..%2fadmin", "/v1%2f..%2f..%2fadmin",
		"/%252e%252e/admin", "/.%252e/admin", "/%25252e%25252e/admin", "/v1/..%252fadmin", "/v1%252f..%252fadmin", "/a%252Fb",
		"/..;/admin", "/..;a=b/admin", "/%2e%2e;/admin", "/..%3b/admin", "/..%253b/admin", "/%252e%252e%253bx/admin", "/.;/files",
		`/..\admin`, "/..%5cadmin", "/v1%5c..", "/a%255cb", `/a\b`,
		"//admin", "/v1//files", "/v1/%2Ffiles", "/v1%2f%2Ffiles",
		"/v1/%00", "/v1/%0d%0aX: y", "/v1/%0A", "/v1/%", "/v1/%zz", "/v1/%2",
	} {
		got, err := dialect.PassthroughPath(p, out)
		if logos.KindOf(err) != logos.Invalid {
			t.Errorf("%q leads to %q, %v; want an error of kind Invalid", out, got, err)
		}
	}
}

func TestPassthroughRefusesDotsBesideAWrongEscape(t *testing.T) {
	p := provider(t, logos.DialectOpenAI, "https://x/v1")
	if got, err := dialect.PassthroughPath(p, "/v1/%252e%252e;%25zz/admin"); err == nil {
		t.Errorf("it leads to %q", got)
	}
}

func TestQueriesNameAParameterOnceHoweverSpelt(t *testing.T) {
	p := provider(t, logos.DialectGemini, "https://x?key=ours")
	if got, err := dialect.PassthroughPath(p, "/files?k%65y=theirs"); err != nil || got != "/files?key=ours" {
		t.Errorf("it leads to %q, %v; want the base URL's key alone", got, err)
	}
}

func FuzzPassthroughPath(f *testing.F) {
	for _, p := range []string{"/v1/files?a=b", "/%2e%2e/x", "/..;a/x", "/%252e%252e%253bx/admin", "/v1%252f..%252fx", `/..\x`, "/v1", "//"} {
		f.Add(p)
	}
	p := provider(f, logos.DialectOpenAI, "https://x/base/v1?k=v")
	f.Fuzz(func(t *testing.T, in string) {
		out, err := dialect.PassthroughPath(p, in)
		if err != nil {
			return
		}
		got, query, _ := strings.Cut(out, "?")
		if first, _, _ := strings.Cut(query, "&"); first != "k=v" {
			t.Errorf("%q leads to %q, without the base URL's query", in, out)
		}
		for range 3 { // servers decode never, once or twice
			if at := resolve(got); at != "/base/v1" && !strings.HasPrefix(at, "/base/v1/") {
				t.Fatalf("%q leads to %q, which may be read as %q", in, out, at)
			}
			again, err := url.PathUnescape(got)
			if err != nil {
				return
			}
			got = again
		}
	})
}

// resolve reads a path as the most obliging server does: backslashes divide, parameters fall away.
func resolve(p string) string {
	segments := strings.Split(strings.ReplaceAll(p, `\`, "/"), "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return path.Clean(strings.Join(segments, "/"))
}
