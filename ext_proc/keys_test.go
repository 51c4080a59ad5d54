package extproc_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

const importedKey = "sk-litellm-1234567890abcdef"

// imported adds a key that another gateway made.
func imported(r *logos.Resources, secret string) {
	r.APIKeys = append(r.APIKeys, &logos.APIKey{ID: 7, ProjectID: 1, Hash: r.Hasher.APIKey(secret)})
}

// digested adds one of which that gateway knew the SHA-256 alone.
func digested(r *logos.Resources, secret string) {
	r.APIKeys = append(r.APIKeys, &logos.APIKey{ID: 7, ProjectID: 1, Hash: r.Hasher.APIKeyDigest(sha256.Sum256([]byte(secret))), Digest: true})
}

// rotated gives the key a new secret; the old one works until a time.
func rotated(r *logos.Resources, until time.Time) {
	k := r.APIKeys[0]
	k.Hash, k.PreviousHash, k.PreviousExpiresAt = r.Hasher.APIKey("lg-the-new-key"), k.Hash, until
}

func TestAnImportedKeyWorksInEachHeaderAndIsRemoved(t *testing.T) {
	for how, add := range map[string]func(*logos.Resources, string){"as it is": imported, "by its SHA-256": digested} {
		for _, c := range []struct {
			headers []string
			removed []string
		}{
			{[]string{"authorization", "Bearer " + importedKey}, []string{"authorization"}},
			{[]string{"x-api-key", importedKey}, []string{"x-api-key"}},
			{[]string{"api-key", " " + importedKey + " "}, []string{"api-key"}},
			{[]string{"x-goog-api-key", importedKey}, []string{"x-goog-api-key"}},
			{[]string{"logos-key", importedKey}, []string{"logos-key"}},
			{[]string{"authorization", "bearer  " + importedKey, "x-api-key", importedKey}, []string{"authorization", "x-api-key"}},
			{[]string{"authorization", "Bearer sk-of-the-caller", "x-api-key", importedKey}, []string{"x-api-key"}},
		} {
			g := newGateway(t, config(t, func(r *logos.Resources) { add(r, importedKey) }))
			x := g.call("POST", chat, `{"model":"small"}`, c.headers...)
			d, _ := g.decisionOf(x.last())
			_, removed := mutation(x.last().GetRequestBody().GetResponse().GetHeaderMutation())
			if !slices.Equal(removed, c.removed) || d == nil || d.APIKey != 7 {
				t.Errorf("imported %s, with %q, it removes %q, want %q; answer %v", how, c.headers, removed, c.removed, x.last().GetImmediateResponse())
			}
		}
	}
}

func TestTheDigestOfAnImportedKeyIsNoKey(t *testing.T) {
	g := newGateway(t, config(t, func(r *logos.Resources) { digested(r, "sk-x") }))
	digest := sha256.Sum256([]byte("sk-x"))
	x := g.call("POST", chat, `{"model":"small"}`, "authorization", "Bearer "+hex.EncodeToString(digest[:]))
	expectRefusal(t, g, x, false, 401, "missing_api_key", "authentication_error")
}

// What the caller sends to the provider reaches it, and the key does not.
func TestPassesThroughWithAnImportedKey(t *testing.T) {
	for _, c := range []struct {
		name       string
		headers    []string
		removed    []string
		credential logos.CredentialID // 0: the caller's own
	}{
		{"alone", []string{"authorization", "Bearer " + importedKey}, []string{"authorization"}, 1},
		{"beside the caller's own", []string{"authorization", "Bearer " + importedKey, "x-api-key", "sk-of-the-caller"}, []string{"authorization"}, 0},
		{"in our header, beside the caller's own", []string{"logos-key", importedKey, "authorization", "Bearer sk-of-the-caller"}, []string{"logos-key"}, 0},
		{"in each header", []string{"authorization", "Bearer " + importedKey, "api-key", importedKey, "x-goog-api-key", importedKey}, []string{"authorization", "api-key", "x-goog-api-key"}, 1},
		{"beside the caller's own of another scheme", []string{"authorization", "Basic x", "x-api-key", importedKey}, []string{"x-api-key"}, 0},
		{"beside a token too long for a key", []string{"authorization", "Bearer " + strings.Repeat("x", 257), "x-api-key", importedKey}, []string{"x-api-key"}, 0},
		{"twice in one header, once the caller's own", []string{"x-api-key", "sk-of-the-caller", "x-api-key", importedKey}, []string{"x-api-key"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := config(t, func(r *logos.Resources) { passing(r); imported(r, importedKey) })
			g := newGateway(t, config)
			x := g.call("GET", "/v1/files", "", append([]string{"x-logos-provider", "one"}, c.headers...)...)
			d, _ := g.decisionOf(x.last())
			_, removed := mutation(x.last().GetRequestHeaders().GetResponse().GetHeaderMutation())
			if d == nil || len(d.Targets) != 1 || d.Targets[0].Credential != c.credential || d.APIKey != 7 || !slices.Equal(removed, c.removed) {
				t.Errorf("it removes %q for %+v, want %q; answer %v", removed, d, c.removed, x.last().GetImmediateResponse())
			}
		})
	}
}

func TestARotatedKeyWorksByBothSecretsForAWhile(t *testing.T) {
	for secret, until := range map[string]time.Time{key: now.Add(time.Second), "lg-the-new-key": now.Add(-time.Hour)} {
		g := newGateway(t, config(t, func(r *logos.Resources) { rotated(r, until) }))
		if d, _ := g.decisionOf(g.call("POST", chat, `{"model":"small"}`, "x-api-key", secret).last()); d == nil || d.Refusal != "" || d.APIKey != 3 {
			t.Errorf("with %s, which works until %v, the decision is %+v", secret, until, d)
		}
	}
	g := newGateway(t, config(t, func(r *logos.Resources) { rotated(r, now.Add(-time.Minute)) }))
	if body := string(g.chat(`{"model":"small"}`).last().GetImmediateResponse().GetBody()); !strings.Contains(body, "was replaced, and worked until 2026-11-24 11:59 UTC") {
		t.Errorf("the refusal of the old secret is %s", body)
	}
	g = newGateway(t, config(t, func(r *logos.Resources) { rotated(r, now.Add(time.Hour)); r.APIKeys[0].Revoked = true }))
	for _, secret := range []string{key, "lg-the-new-key"} {
		expectRefusal(t, g, g.call("POST", chat, `{"model":"small"}`, "x-api-key", secret), false, 401, "revoked_api_key", "authentication_error")
	}
}
