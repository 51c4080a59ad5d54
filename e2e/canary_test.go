package e2e_test

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// page returns what a URL answers.
func page(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s answers %s, %v", url, resp.Status, err)
	}
	return string(body)
}

// TestARunningGatewayTellsNoSecret uses every kind of secret, and looks for it in what a gateway shows and writes.
func TestARunningGatewayTellsNoSecret(t *testing.T) {
	p := plain(t, usage{input: 11, output: 7})
	master := base64.StdEncoding.EncodeToString([]byte("canary-of-the-master-key-32bytes"))
	secrets := map[string]string{"the master key": master, "a credential": "sk-canary-credential-1a2b3c", "an imported key": "canary-imported-key-4d5e6f", "a wrong key": "lg-canary-wrong-key-7a8b9c"}
	g := start(t, map[string]string{"LOGOS_MASTER_KEY": master})
	g.deploy("m", "", target{"p", p.URL, secrets["a credential"], "authorization", "Bearer {}"})
	secrets["the root key"] = g.root
	g.key(object{"secret": secrets["an imported key"]})
	g.waitRevision()
	for _, key := range []string{g.root, secrets["an imported key"]} {
		if r := g.call("POST", "/v1/chat/completions", chatBody("m", false), "authorization: Bearer "+key); r.status != 200 {
			t.Fatalf("the call is answered %v", r)
		}
	}
	if r := g.call("POST", "/v1/chat/completions", chatBody("m", false), "authorization: Bearer "+secrets["a wrong key"]); r.status != 401 {
		t.Errorf("a wrong key is answered %v", r)
	}
	if got := p.requests()[0].header.Get("authorization"); got != "Bearer "+secrets["a credential"] {
		t.Fatalf("the provider was sent %q", got)
	}
	shown := map[string]string{}
	for _, url := range []string{g.stats + "/config_dump?include_eds", g.stats + "/clusters", g.stats + "/stats", g.stats + "/server_info", g.admin + "/metrics", g.admin + "/readyz"} {
		shown[url] = page(t, "http://"+url)
	}
	if !strings.Contains(shown[g.stats+"/config_dump?include_eds"], "[redacted]") {
		t.Error("Envoy's configuration holds nothing redacted: is the credential in it at all?")
	}
	// All files but the database's own, which holds what is looked at elsewhere.
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), "postgres") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			shown[path] = string(text)
		}
		return nil
	})
	if err != nil || len(shown) < 9 {
		t.Fatalf("looked at %d texts, %v", len(shown), err)
	}
	for what, secret := range secrets {
		for where, text := range shown {
			for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(text, form) {
					t.Errorf("%s is in %s", what, where)
				}
			}
		}
	}
}
