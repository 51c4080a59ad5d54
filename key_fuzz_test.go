package logos_test

import (
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

// FuzzAuthorization holds the other half of [FuzzHeaderKey]: which headers have a key, and that neither the
// case of the scheme nor blanks around the key decide.
func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"Bearer", "bEARER", "Basic", "", "Bearer\t"} {
		for _, key := range []string{"", "lg-", "lg-abc", "LG-abc", "sk-abc", "xlg-abc", "lg-a b", "lg-" + strings.Repeat("a", logos.MaxKeyLength-3), "lg-" + strings.Repeat("a", logos.MaxKeyLength-2)} {
			f.Add(s, key)
		}
	}
	f.Fuzz(func(t *testing.T, scheme, key string) {
		if strings.Contains(scheme, " ") || strings.TrimSpace(key) != key {
			return
		}
		want := ""
		if strings.EqualFold(scheme, "Bearer") && key != "" && len(key) <= 256 {
			want = key
		}
		for _, header := range []string{scheme + " " + key, strings.ToLower(scheme) + "   " + key, strings.ToUpper(scheme) + " " + key + " \t"} {
			if got, ok := logos.HeaderKey(header); got != want || ok != (want != "") {
				t.Errorf("HeaderKey(%q) = %q, %t; want %q", header, got, ok, want)
			}
		}
		for _, header := range []string{scheme + key, key, " " + scheme + " " + key} {
			if got, ok := logos.HeaderKey(header); ok && !strings.Contains(key, " ") {
				t.Errorf("HeaderKey(%q) = %q, but it is no scheme and a key", header, got)
			}
		}
	})
}
