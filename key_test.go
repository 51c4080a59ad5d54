package logos_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

func TestHashDependsOnKeyAndPurpose(t *testing.T) {
	a, b := logos.NewHasher([]byte("a")), logos.NewHasher([]byte("b"))
	if a.APIKey("lg-x") == b.APIKey("lg-x") {
		t.Error("two hash keys give the same hash")
	}
	if again := logos.NewHasher([]byte("a")); a.APIKey("lg-x") != again.APIKey("lg-x") {
		t.Error("the hash isn't stable")
	}
	if a.EndUser(1, "ada") == a.EndUser(2, "ada") {
		t.Error("an end user has the same pseudonym in two projects")
	}
	if a.EndUser(1, "") != "" {
		t.Error("no end user has a pseudonym")
	}
}

func TestNewKeysAreDistinctAndRecognisable(t *testing.T) {
	one, two := string(logos.NewAPIKey()), string(logos.NewAPIKey())
	if one == two {
		t.Fatal("two new keys are the same")
	}
	if got, ok := logos.HeaderKey("Bearer " + one); !ok || got != one {
		t.Errorf("a new key isn't recognised in its header: %q", got)
	}
}

func TestExpiredAndRevokedKeysAreNotUsable(t *testing.T) {
	now := time.Unix(1000, 0)
	present, previous := logos.KeyHash{1}, logos.KeyHash{2}
	for _, c := range []struct {
		key  logos.APIKey
		by   logos.KeyHash
		want bool
	}{
		{logos.APIKey{}, present, true},
		{logos.APIKey{Revoked: true}, present, false},
		{logos.APIKey{ExpiresAt: now.Add(1)}, present, true},
		{logos.APIKey{ExpiresAt: now}, present, false},
		{logos.APIKey{PreviousExpiresAt: now}, present, true},
		{logos.APIKey{PreviousExpiresAt: now.Add(1)}, previous, true},
		{logos.APIKey{PreviousExpiresAt: now}, previous, false},
		{logos.APIKey{}, previous, false},
		{logos.APIKey{PreviousExpiresAt: now.Add(1), ExpiresAt: now}, previous, false},
		{logos.APIKey{PreviousExpiresAt: now, ExpiresAt: now.Add(1)}, previous, false},
		{logos.APIKey{PreviousExpiresAt: now.Add(1), Revoked: true}, previous, false},
	} {
		c.key.Hash, c.key.PreviousHash = present, previous
		if got := c.key.Usable(c.by, now); got != c.want {
			t.Errorf("%+v usable by %v: %t, want %t", c.key, c.by[:1], got, c.want)
		}
	}
}

// keys compiles a configuration with these keys, all of one project.
func keys(t *testing.T, h logos.Hasher, keys ...*logos.APIKey) *logos.Config {
	t.Helper()
	c, err := logos.NewConfig(1, logos.Resources{Hasher: h, Projects: []*logos.Project{{ID: 1}}, APIKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFindsAKeyByItsPreviousSecret(t *testing.T) {
	h := logos.NewHasher([]byte("a"))
	later := time.Unix(1000, 0)
	c := keys(t, h,
		&logos.APIKey{ID: 1, ProjectID: 1, Hash: h.APIKey("lg-new"), PreviousHash: h.APIKey("lg-old"), PreviousExpiresAt: later},
		&logos.APIKey{ID: 2, ProjectID: 1, Hash: h.APIKey("lg-taken"), PreviousHash: h.APIKey("lg-new"), PreviousExpiresAt: later},
		&logos.APIKey{ID: 3, ProjectID: 1, Hash: h.APIKey("lg-never"), PreviousHash: h.APIKey("lg-gone")})
	for secret, want := range map[string]struct {
		id      logos.APIKeyID
		expires time.Time
	}{"lg-new": {1, time.Time{}}, "lg-old": {1, later}, "lg-taken": {2, time.Time{}}, "lg-never": {3, time.Time{}}, "lg-gone": {}, "lg-other": {}} {
		k, hash := c.FindKey(secret)
		if k == nil && want.id == 0 {
			continue
		}
		if k == nil || k.ID != want.id || !k.ExpiryOf(hash).Equal(want.expires) {
			t.Errorf("by %s, the key found is %+v", secret, k)
		}
	}
}

func TestFindsAnImportedKey(t *testing.T) {
	h := logos.NewHasher([]byte("a"))
	digest := sha256.Sum256([]byte("sk-imported-by-digest"))
	c := keys(t, h, &logos.APIKey{ID: 1, ProjectID: 1, Hash: h.APIKey("sk-imported-as-it-is")}, &logos.APIKey{ID: 2, ProjectID: 1, Hash: h.APIKeyDigest(digest), Digest: true})
	for secret, want := range map[string]logos.APIKeyID{"sk-imported-as-it-is": 1, "sk-imported-by-digest": 2, "sk-another": 0, "": 0, strings.Repeat("x", 257): 0} {
		if k, _ := c.FindKey(secret); (k == nil) != (want == 0) || k != nil && k.ID != want {
			t.Errorf("by %.30s, the key found is %+v, want %d", secret, k, want)
		}
	}
	// Who has stolen another gateway's database has this.
	for _, stolen := range []string{hex.EncodeToString(digest[:]), strings.ToUpper(hex.EncodeToString(digest[:])), string(digest[:])} {
		if k, _ := c.FindKey(stolen); k != nil {
			t.Errorf("the digest itself works as the secret of key %d", k.ID)
		}
	}
}

func FuzzHeaderKey(f *testing.F) {
	for _, s := range []string{"", "Bearer ", "Bearer lg-abc", "bearer  lg-abc ", "Basic lg-abc", "Bearer sk-abc", "lg-abc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		key, ok := logos.HeaderKey(header)
		if ok && (key == "" || len(key) > logos.MaxKeyLength || !strings.Contains(header, key)) {
			t.Errorf("HeaderKey(%q) = %q", header, key)
		}
		if !ok && key != "" {
			t.Errorf("HeaderKey(%q) gives %q without ok", header, key)
		}
	})
}
