package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

func TestWritesWhatItReads(t *testing.T) {
	t.Parallel()
	off, limit := false, int32(0)
	all := &adminv1.Configuration{
		Teams:       []*adminv1.Team{{Name: "yes", MemberKeyLimit: &limit, Labels: map[string]string{"a": "01", "b": "null", "c": "x: y # z"}}},
		Providers:   []*adminv1.Provider{{Name: "p \"q\" 'r'", BaseUrl: "https://p.example/v1"}},
		Credentials: []*adminv1.Credential{{Name: "main", Provider: "OpenAI (EU)"}},
		Deployments: []*adminv1.Deployment{{Model: "m", Provider: "p", IncludeUsage: &off, MaxTokensPerMinute: 1 << 53}},
		ApiKeys:     []*adminv1.ApiKey{{Name: "k", Project: "course"}},
	}
	text, err := writeYAML(all)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	d, err := readYAML(text, func(name string) (string, bool) { asked[name] = true; return "secret of " + name, true }, os.ReadFile)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	all.Credentials[0].Secret = proto.String("secret of LOGOS_SECRET_OPENAI_EU_MAIN")
	all.ApiKeys[0].Secret = proto.String("secret of LOGOS_SECRET_COURSE_K")
	if diff := cmp.Diff(all, d.configuration, protocmp.Transform()); diff != "" {
		t.Errorf("it comes back otherwise (-written +read):\n%s\n%s", diff, text)
	}
	if len(asked) != 2 || len(d.missing) != 0 {
		t.Errorf("it asks for %v and misses %v", asked, d.missing)
	}
}

func TestNamesTheSecretsThatAreMissing(t *testing.T) {
	t.Parallel()
	d, err := readYAML([]byte(`
credentials:
  - {name: main, provider: p, secret: {env: NOWHERE}}
  - {name: other, provider: p, secret: {file: here}}
  - {name: gone, provider: p, secret: {file: nowhere}}
  - {name: plain, provider: p, secret: sk-1}
`), func(string) (string, bool) { return "", false }, func(path string) ([]byte, error) {
		if path == "here" {
			return []byte("sk-2\n"), nil
		}
		return nil, os.ErrNotExist
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"credential p/main": "NOWHERE", "credential p/gone": "nowhere"}, d.missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	for i, want := range []string{"", "sk-2", "", "sk-1"} {
		if got := d.configuration.Credentials[i].GetSecret(); got != want {
			t.Errorf("secret %d is %q, want %q", i, got, want)
		}
	}
}

func TestRefusesWhatIsNoConfiguration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                            "empty",
		"teams: [":                    "no YAML",
		"teams: 3":                    "no configuration",
		"unknown: []":                 "unknown",
		"teams: [{nome: x}]":          "nome",
		"? {a: b}\n: c":               "no YAML",
		"credentials: [{secret: {}}]": "{env: NAME} or {file: PATH}",
		"credentials: [{secret: {env: A, file: B}}]": "{env: NAME} or {file: PATH}",
		"api_keys: [{secret: {env: 3, x: y}}]":       "",
		"credentials: 7":                             "no configuration",
	} {
		_, err := readYAML([]byte(text), func(string) (string, bool) { return "x", true }, func(string) ([]byte, error) { return nil, errors.New("no") })
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q gives %v, want something of %q", text, err, want)
		}
	}
}

func TestShowsAPlan(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	writePlan(&b, []*adminv1.Change{
		{Action: "create", Kind: "team", Name: "t", Fields: []*adminv1.FieldChange{{Field: "name", After: `"t"`}}},
		{Action: "update", Kind: "credential", Name: "p/c", Fields: []*adminv1.FieldChange{{Field: "secret", After: `"***"`}}},
		{Action: "delete", Kind: "model", Name: "m"},
	}, true)
	want := "+ team t\n    name: \"t\"\n~ credential p/c\n    secret: (none) -> \"***\"\n- model m\n\nWould be: 1 created, 1 updated, 1 deleted. Nothing was changed.\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
}
