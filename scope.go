package logos

import (
	"net/netip"
	"slices"
	"strings"
)

// CallsModels says whether keys of a role may be used on the data plane. A viewer's may not: what looks at
// reports shall cost nothing, nor reach a provider.
func (r Role) CallsModels() bool { return r != RoleViewer }

// AllowsAPI says whether a key may use a model API, [ScopeModels] or [ScopePassthrough].
func (k *APIKey) AllowsAPI(name string) bool {
	return len(k.APIs) == 0 || slices.Contains(k.APIs, name)
}

// AllowsModel says whether a key's scope has a model; whether it may use that is for its profiles to say.
func (k *APIKey) AllowsModel(id ModelID) bool {
	return len(k.Models) == 0 || slices.Contains(k.Models, id)
}

// AllowsSource says whether a key may be used from an address.
func (k *APIKey) AllowsSource(a netip.Addr) bool {
	if len(k.Sources) == 0 {
		return true
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(k.Sources, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ParseSource reads a range of addresses, like 10.1.0.0/16, or one address. What it returns has no bits
// beside the range, and an IPv4 range written as IPv6 is the IPv4 range.
func ParseSource(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && a.Zone() == "" {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if p.IsValid() && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if err != nil || !p.IsValid() {
		return netip.Prefix{}, Errorf(Invalid, "invalid_source", "%.64q is no range of source addresses: write one like 10.1.0.0/16, 2001:db8::/32 or 192.0.2.7", text)
	}
	return p.Masked(), nil
}
