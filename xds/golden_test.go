package xds_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/xds"
)

var update = flag.Bool("update", false, "write the golden files anew")

// canary is in every stored secret of these tests.
const canary = "canary"

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func options() xds.Options {
	return xds.Options{
		Listen: "127.0.0.1:8080", ExtProcSocket: "ext_proc.sock",
		MaxBodyBytes: 32 << 20, MaxResponseBytes: 16 << 20,
		FirstByteTimeout: 5 * time.Minute, IdleTimeout: 10 * time.Minute, MaxDuration: time.Hour,
		Addresses:      addresses,
		CAFile:         "/etc/ssl/ca.pem",
		CallFormat:     map[string]string{"t": "call", "id": "%REQ(X-REQUEST-ID)%"},
		AttemptFormat:  map[string]string{"t": "attempt"},
		LiveFormat:     map[string]string{"t": "live"},
		StreamFields:   []dialect.UsageField{{Key: "uu", Path: []string{"usage"}, Limit: 9}, {Key: "rs", Path: []string{"response", "status"}, Limit: 9}},
		StreamKinds:    []dialect.StreamKind{{Name: "chat", Paths: []string{"/v1/chat/completions"}, Fields: []dialect.UsageField{{Key: "uu", Path: []string{"usage"}, Limit: 9}}}},
		AnswerFields:   []dialect.UsageField{{Key: "n", Path: []string{"usage", "n"}}},
		RequestHeaders: []string{":path", "authorization"}, EpochHeader: "x-epoch", SourceHeader: "x-source",
		Namespace: "logos", RouteNamespace: "logos.route", AgainMark: "mark", NumberNamespace: "logos.usage", TextNamespace: "logos.text",
	}
}

// addresses stands for what hosts lead to: literals to themselves, one host nowhere, names to two.
func addresses(host, _ string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}
	}
	if host == "x.openai.azure.com" {
		return nil
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
}

// A setup is one configuration of those that the goldens show.
type setup struct {
	name      string
	options   func(*xds.Options) // nil: as they are
	resources logos.Resources
}

// setups returns them anew: tests may change them.
func setups(t *testing.T) []setup {
	project := []*logos.Project{{ID: 1, Name: "app"}}
	profile := func(passthrough bool, models []logos.ModelID, grants ...logos.Grant) []*logos.Profile {
		return []*logos.Profile{{ID: 1, ProjectID: 1, Name: "p", Passthrough: passthrough, Grants: grants, Models: models}}
	}
	openai := func() *logos.Provider {
		return &logos.Provider{ID: 1, Name: "openai", BaseURL: mustURL(t, "https://api.openai.com/v1"), Dialect: logos.DialectOpenAI, AuthHeader: "authorization", AuthFormat: "Bearer {}"}
	}
	return []setup{
		{"openai", nil, logos.Resources{
			Projects: project, Profiles: profile(false, []logos.ModelID{1}, logos.Grant{Provider: 1, Credential: 1}),
			Providers:   []*logos.Provider{openai()},
			Credentials: []*logos.Credential{{ID: 1, Provider: 1, Secret: "sk-" + canary}},
			Models:      []*logos.Model{{ID: 1, Name: "gpt-4.1"}},
			Deployments: []*logos.Deployment{{ID: 1, Model: 1, Provider: 1}},
		}},
		{"azure", nil, logos.Resources{
			Projects: project, Profiles: profile(false, []logos.ModelID{1, 2}, logos.Grant{Provider: 2, Credential: 2}),
			Providers: []*logos.Provider{
				openai(),
				{ID: 2, Name: "azure", BaseURL: mustURL(t, "https://x.openai.azure.com:8443/openai"), Dialect: logos.DialectAzure, AuthHeader: "api-key", AuthFormat: "{}"},
			},
			Credentials: []*logos.Credential{{ID: 1, Provider: 1, Secret: "sk-" + canary}, {ID: 2, Provider: 2, Secret: "az-" + canary}},
			Models:      []*logos.Model{{ID: 1, Name: "gpt"}, {ID: 2, Name: "mini"}},
			Deployments: []*logos.Deployment{{ID: 1, Model: 1, Provider: 2}, {ID: 2, Model: 2, Provider: 2}, {ID: 3, Model: 1, Provider: 1, Credential: 1}},
		}},
		{"local", nil, logos.Resources{
			Projects: project, Profiles: profile(false, []logos.ModelID{1}, logos.Grant{Provider: 1, Credential: 1}, logos.Grant{Provider: 2, Credential: 2}),
			Providers: []*logos.Provider{
				{ID: 1, Name: "vllm", BaseURL: mustURL(t, "http://127.0.0.1:8000/v1"), Dialect: logos.DialectCompatible},
				{ID: 2, Name: "rack", BaseURL: mustURL(t, "https://[2001:db8::1]"), Dialect: logos.DialectCompatible, AuthHeader: "authorization", AuthFormat: "Bearer {}"},
			},
			Credentials: []*logos.Credential{{ID: 1, Provider: 1}, {ID: 2, Provider: 2}},
			Models:      []*logos.Model{{ID: 1, Name: "llama"}},
			Deployments: []*logos.Deployment{{ID: 1, Model: 1, Provider: 1}, {ID: 2, Model: 1, Provider: 2}},
		}},
		{"passthrough", func(o *xds.Options) {
			o.CertFile, o.KeyFile, o.AdminRoute, o.TrustedHops = "/tls/cert.pem", "/tls/key.pem", "127.0.0.1:8081", 1
		}, logos.Resources{
			Projects: project, Profiles: profile(true, nil, logos.Grant{Provider: 1, Credential: 1}),
			Providers:   []*logos.Provider{openai()},
			Credentials: []*logos.Credential{{ID: 1, Provider: 1, Secret: "sk-" + canary}},
		}},
	}
}

func config(t *testing.T, r logos.Resources) *logos.Config {
	t.Helper()
	cfg, err := logos.NewConfig(1, r)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func build(t *testing.T, s setup, extra ...*logos.Target) *xds.Resources {
	t.Helper()
	o := options()
	if s.options != nil {
		s.options(&o)
	}
	r, err := xds.Build(config(t, s.resources), extra, o, "epoch-1")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func messages[T proto.Message](list []T) (out []proto.Message) {
	for _, m := range list {
		out = append(out, m)
	}
	return out
}

// render writes resources as JSON. protojson's blanks are random on purpose, so encoding/json sets them.
func render(t *testing.T, resources []proto.Message) string {
	t.Helper()
	var tree []any
	for _, m := range resources {
		raw, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, map[string]json.RawMessage{string(m.ProtoReflect().Descriptor().Name()): raw})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(tree); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBuildsWhatTheGoldensShow(t *testing.T) {
	for i, s := range setups(t) {
		t.Run(s.name, func(t *testing.T) {
			r := build(t, s)
			resources := slices.Concat(messages(r.Clusters), messages(r.Endpoints), messages(r.Secrets))
			if i == 0 || s.options != nil { // the others have the first one's listener and route
				resources = append(append(resources, messages(r.Routes)...), messages(r.Listeners)...)
			}
			got := render(t, resources)
			path := filepath.Join("testdata", s.name+".json")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s differs (-want +got); if it should, run go test ./xds -update:\n%s", path, diff)
			}
		})
	}
}
