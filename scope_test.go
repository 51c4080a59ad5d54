package logos_test

import (
	"net/netip"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

func TestReadsSourceRanges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.1.0.0/16": "10.1.0.0/16", "10.1.2.3/16": "10.1.0.0/16", "192.0.2.7": "192.0.2.7/32", "0.0.0.0/0": "0.0.0.0/0",
		"2001:db8::/32": "2001:db8::/32", "2001:db8::1": "2001:db8::1/128", "2001:DB8:0::1/64": "2001:db8::/64",
		"::ffff:10.1.2.3/104": "10.0.0.0/8", "::ffff:192.0.2.7": "192.0.2.7/32",
	} {
		if got, err := logos.ParseSource(text); err != nil || got.String() != want {
			t.Errorf("%s is read as %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "10.1.0.0/33", "10.1.0.0/", "10.1/16", "/8", "10.0.0.1:80", "fe80::1%eth0", "fe80::1%eth0/64", "10.0.0.0/8 ", "010.0.0.0/8"} {
		if got, err := logos.ParseSource(text); logos.KindOf(err) != logos.Invalid {
			t.Errorf("%q is read as %v, %v", text, got, err)
		}
	}
}

func TestAKeyWorksFromItsSourcesAlone(t *testing.T) {
	t.Parallel()
	var k logos.APIKey
	if !k.AllowsSource(netip.Addr{}) || !k.AllowsSource(netip.MustParseAddr("192.0.2.1")) {
		t.Error("a key without sources is refused")
	}
	for _, text := range []string{"10.1.0.0/16", "2001:db8::/32", "fe80::/10"} {
		p, err := logos.ParseSource(text)
		if err != nil {
			t.Fatal(err)
		}
		k.Sources = append(k.Sources, p)
	}
	for text, want := range map[string]bool{
		"10.1.255.255": true, "::ffff:10.1.0.1": true, "2001:db8::9": true, "fe80::1%eth0": true,
		"10.2.0.1": false, "::ffff:10.2.0.1": false, "2001:db9::": false, "127.0.0.1": false, "::10.1.0.1": false,
	} {
		if got := k.AllowsSource(netip.MustParseAddr(text)); got != want {
			t.Errorf("a call from %s is allowed: %t, want %t", text, got, want)
		}
	}
	if k.AllowsSource(netip.Addr{}) {
		t.Error("a call from nowhere is allowed")
	}
}

func TestAKeyMayDoWhatItsScopesSay(t *testing.T) {
	t.Parallel()
	var all logos.APIKey
	some := logos.APIKey{APIs: []string{"chat", logos.ScopePassthrough}, Models: []logos.ModelID{2}}
	for name, want := range map[string]bool{"chat": true, "passthrough": true, "embeddings": false, "models": false, "": false} {
		if !all.AllowsAPI(name) || some.AllowsAPI(name) != want {
			t.Errorf("the API %q: %t and %t, want true and %t", name, all.AllowsAPI(name), some.AllowsAPI(name), want)
		}
	}
	if !all.AllowsModel(1) || some.AllowsModel(1) || !some.AllowsModel(2) {
		t.Error("a scope of models does not hold")
	}
}

func TestAViewersKeysCallNoModels(t *testing.T) {
	t.Parallel()
	for _, r := range []logos.Role{logos.RoleRoot, logos.RoleAdmin, logos.RoleTeamOwner, logos.RoleMember, logos.RoleService} {
		if !r.CallsModels() {
			t.Errorf("a key of role %s may not call models", r)
		}
	}
	if logos.RoleViewer.CallsModels() {
		t.Error("a viewer may call models")
	}
}
