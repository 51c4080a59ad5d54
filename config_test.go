package logos_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// resources is a small installation: one project with a profile that grants model 1 at two providers,
// of which the second has no credential for it.
func resources(t *testing.T) logos.Resources {
	return logos.Resources{
		Projects:    []*logos.Project{{ID: 1, Name: "app"}},
		APIKeys:     []*logos.APIKey{{ID: 1, ProjectID: 1, Hash: logos.KeyHash{1}}},
		Profiles:    []*logos.Profile{{ID: 1, ProjectID: 1, Name: "p", Grants: []logos.Grant{{Provider: 1, Credential: 1}}, Models: []logos.ModelID{1}}},
		Providers:   []*logos.Provider{{ID: 1, Name: "one", BaseURL: mustURL(t, "https://one.example/v1"), AuthHeader: "authorization", AuthFormat: "Bearer {}"}, {ID: 2, Name: "two", BaseURL: mustURL(t, "http://two.example:81")}},
		Credentials: []*logos.Credential{{ID: 1, Provider: 1, Secret: "sk-1"}},
		Models:      []*logos.Model{{ID: 1, Name: "m"}},
		Deployments: []*logos.Deployment{{ID: 2, Model: 1, Provider: 2}, {ID: 1, Model: 1, Provider: 1}},
	}
}

func TestCompilesCandidatesInOrderOfID(t *testing.T) {
	cfg, err := logos.NewConfig(7, resources(t))
	if err != nil {
		t.Fatal(err)
	}
	candidates := cfg.Profiles(1)[0].Candidates[1]
	if len(candidates) != 2 || candidates[0].Deployment.ID != 1 || candidates[1].Deployment.ID != 2 {
		t.Fatalf("candidates are %+v, want deployments 1 and 2", candidates)
	}
	if candidates[0].Target == nil || candidates[0].Target.Credential.ID != 1 {
		t.Errorf("deployment 1 has target %+v, want the profile's credential", candidates[0].Target)
	}
	if candidates[1].Target != nil || candidates[1].Excluded != "no_credential" {
		t.Errorf("deployment 2 is %+v, want it excluded for want of a credential", candidates[1])
	}
}

func TestClusterNameChangesWithWhatTheClusterIs(t *testing.T) {
	name := func(change func(*logos.Resources)) string {
		r := resources(t)
		change(&r)
		cfg, err := logos.NewConfig(1, r)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Profiles(1)[0].Candidates[1][0].Target.Cluster
	}
	base := name(func(*logos.Resources) {})
	for what, change := range map[string]func(*logos.Resources){
		"the host":        func(r *logos.Resources) { r.Providers[0].BaseURL = mustURL(t, "https://other.example/v1") },
		"the scheme":      func(r *logos.Resources) { r.Providers[0].BaseURL = mustURL(t, "http://one.example/v1") },
		"the auth header": func(r *logos.Resources) { r.Providers[0].AuthHeader = "api-key" },
		"no secret":       func(r *logos.Resources) { r.Credentials[0].Secret = "" },
	} {
		if name(change) == base {
			t.Errorf("the cluster's name stays %q with another value of %s", base, what)
		}
	}
	if other := name(func(r *logos.Resources) { r.Credentials[0].Secret = "sk-2" }); other != base {
		t.Errorf("a new secret renames the cluster to %q, want %q: secrets are resources of their own", other, base)
	}
}

func TestRefusesContradictoryResources(t *testing.T) {
	for name, change := range map[string]func(*logos.Resources){
		"another provider's credential":   func(r *logos.Resources) { r.Deployments[0].Credential = 1 },
		"a grant of another's credential": func(r *logos.Resources) { r.Profiles[0].Grants[0].Provider = 2 },
		"a provider without URL":          func(r *logos.Resources) { r.Providers[0].BaseURL = nil },
		"a provider with another scheme":  func(r *logos.Resources) { r.Providers[0].BaseURL = &url.URL{Scheme: "ftp", Host: "x"} },
	} {
		r := resources(t)
		change(&r)
		if _, err := logos.NewConfig(1, r); err == nil {
			t.Errorf("%s compiles", name)
		}
	}
}

func TestKnowsWhatAProviderHas(t *testing.T) {
	r := resources(t)
	r.Providers = append(r.Providers, &logos.Provider{ID: 50, BaseURL: mustURL(t, "https://fifty.example")})
	r.Credentials = append(r.Credentials, &logos.Credential{ID: 52, Provider: 50}, &logos.Credential{ID: 51, Provider: 50})
	r.Deployments = append(r.Deployments, &logos.Deployment{ID: 54, Model: r.Models[0].ID, Provider: 50}, &logos.Deployment{ID: 53, Model: r.Models[0].ID, Provider: 50})
	r.Egress.Hosts = []string{"vllm.example"}
	c, err := logos.NewConfig(1, r)
	if err != nil {
		t.Fatal(err)
	}
	p, credentials, deployments := c.Provider(50), c.Credentials(50), c.Deployments(50)
	if p == nil || p.ID != 50 || len(credentials) != 2 || credentials[0].ID != 51 || len(deployments) != 2 || deployments[0].ID != 53 {
		t.Errorf("provider 50 is %+v with %v and %v", p, credentials, deployments)
	}
	if c.Provider(51) != nil || c.Credentials(51) != nil || c.Deployments(51) != nil || len(c.Egress.Hosts) != 1 {
		t.Error("a provider that is not there has something, or the allowed hosts are lost")
	}
	// What leads to a provider itself is one target, granted or not.
	granted := c.Profiles(1)[0]
	for _, route := range granted.Routes {
		if got := logos.ProviderTarget(route.Own.Provider, nil); got.Cluster != route.Own.Cluster {
			t.Errorf("the target of provider %d has the cluster %s, want %s", route.Own.Provider.ID, got.Cluster, route.Own.Cluster)
		}
	}
}

func TestStatNameKeepsToOneWordPerPart(t *testing.T) {
	target := logos.Target{Provider: &logos.Provider{ID: 3, Name: "my.provider:x"}, Credential: &logos.Credential{ID: 4}, Deployment: &logos.Deployment{ID: 5}, Model: &logos.Model{Name: "gpt-4.1"}}
	if got, want := target.StatName(), "my_provider_x_gpt-4_1_d5_c4"; got != want {
		t.Errorf("stat name is %q, want %q", got, want)
	}
}

func TestAuthorityLeavesOutDefaultPort(t *testing.T) {
	for base, want := range map[string]string{
		"https://a.example/v1": "a.example", "https://a.example:443": "a.example", "http://a.example:443": "a.example:443",
		"http://127.0.0.1:8080": "127.0.0.1:8080", "http://[::1]": "[::1]", "https://[::1]:8443": "[::1]:8443",
	} {
		p := logos.Provider{BaseURL: mustURL(t, base)}
		if got := p.Authority(); got != want {
			t.Errorf("authority of %s is %q, want %q", base, got, want)
		}
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	secret := logos.Credential{Secret: "sk-canary"}
	asJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q", secret, secret, secret, secret.Secret, secret.Secret) + string(asJSON)
	if strings.Contains(all, "canary") {
		t.Errorf("the secret shows in %s", all)
	}
}
