package logos_test

import (
	"strings"
	"testing"

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

func FuzzHeaderKey(f *testing.F) {
	for _, s := range []string{"", "Bearer ", "Bearer lg-abc", "bearer  lg-abc ", "Basic lg-abc", "Bearer sk-abc", "lg-abc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		key, ok := logos.HeaderKey(header)
		if ok && (!strings.HasPrefix(key, logos.KeyPrefix) || len(key) > logos.MaxKeyLength || !strings.Contains(header, key)) {
			t.Errorf("HeaderKey(%q) = %q", header, key)
		}
		if !ok && key != "" {
			t.Errorf("HeaderKey(%q) gives %q without ok", header, key)
		}
	})
}
