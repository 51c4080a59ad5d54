package logos_test

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

// large is an installation of 1,000 providers, 2,000 models, 5,000 deployments, 10,000 projects with a
// profile each, and 100,000 keys.
func large() logos.Resources {
	var r logos.Resources
	for n := range 1000 {
		r.Providers = append(r.Providers, &logos.Provider{ID: logos.ProviderID(n + 1), Name: fmt.Sprint("p", n), BaseURL: &url.URL{Scheme: "https", Host: fmt.Sprintf("p%d.example", n)}, AuthHeader: "authorization"})
		r.Credentials = append(r.Credentials, &logos.Credential{ID: logos.CredentialID(n + 1), Provider: logos.ProviderID(n + 1), Secret: "sk"})
	}
	for n := range 2000 {
		r.Models = append(r.Models, &logos.Model{ID: logos.ModelID(n + 1), Name: fmt.Sprint("m", n)})
	}
	for n := range 5000 {
		provider := logos.ProviderID(n*7%1000 + 1)
		r.Deployments = append(r.Deployments, &logos.Deployment{ID: logos.DeploymentID(n + 1), Model: logos.ModelID(n%2000 + 1), Provider: provider, Credential: logos.CredentialID(provider)})
	}
	for n := range 10_000 {
		r.Projects = append(r.Projects, &logos.Project{ID: logos.ProjectID(n + 1), Name: fmt.Sprint("j", n)})
		p := &logos.Profile{ID: logos.ProfileID(n + 1), ProjectID: logos.ProjectID(n + 1), Name: "default", Grants: []logos.Grant{{Provider: logos.ProviderID(n%1000 + 1), Credential: logos.CredentialID(n%1000 + 1)}}}
		for m := range 10 {
			p.Models = append(p.Models, logos.ModelID((n+m*201)%2000+1))
		}
		r.Profiles = append(r.Profiles, p)
	}
	for n := range 100_000 {
		r.APIKeys = append(r.APIKeys, &logos.APIKey{ID: logos.APIKeyID(n + 1), ProjectID: logos.ProjectID(n%10_000 + 1), Role: logos.RoleMember, Hash: hashOf(n)})
	}
	return r
}

func hashOf(n int) (h logos.KeyHash) {
	binary.BigEndian.PutUint64(h[:], uint64(n)*0x9e3779b97f4a7c15)
	return h
}

func BenchmarkFindsOneOf100000Keys(b *testing.B) {
	config, err := logos.NewConfig(1, large())
	if err != nil {
		b.Fatal(err)
	}
	plain := make(map[logos.KeyHash]*logos.APIKey)
	for _, k := range large().APIKeys {
		plain[k.Hash] = k
	}
	b.Run("in a Config", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			if config.APIKey(hashOf(n%100_000)) == nil {
				b.Fatal("a key is not there")
			}
		}
	})
	b.Run("in a plain map", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			if plain[hashOf(n%100_000)] == nil {
				b.Fatal("a key is not there")
			}
		}
	})
}

func BenchmarkCompiles(b *testing.B) {
	r := large()
	b.Run("everything", func(b *testing.B) {
		for b.Loop() {
			if _, err := logos.NewConfig(1, r); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, change := range map[string]func(n int) logos.Resources{
		"one key": func(n int) logos.Resources {
			return logos.Resources{APIKeys: []*logos.APIKey{{ID: logos.APIKeyID(n%100_000 + 1), ProjectID: 1, Hash: hashOf(n + 1_000_000)}}}
		},
		"one deployment": func(n int) logos.Resources {
			return logos.Resources{Deployments: []*logos.Deployment{{ID: 1, Model: 1, Provider: 1, Credential: 1, MaxParallel: n}}}
		},
		"one profile": func(n int) logos.Resources {
			return logos.Resources{Profiles: []*logos.Profile{{ID: 1, ProjectID: 1, Models: []logos.ModelID{1, logos.ModelID(n%2000 + 2)}}}}
		},
		"one project": func(n int) logos.Resources {
			return logos.Resources{Projects: []*logos.Project{{ID: 1, Name: fmt.Sprint(n)}}}
		},
	} {
		b.Run(name, func(b *testing.B) {
			c := logos.NewCompiler(logos.Hasher{})
			if _, err := c.Apply(1, logos.Changes{Resources: r}); err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				n++
				if _, err := c.Apply(int64(n+1), logos.Changes{Resources: change(n)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
