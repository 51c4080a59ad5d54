// Package egress decides at which addresses providers may be, so that no base URL leads into the networks
// around the gateway unless somebody who may has allowed it. [Rules] judges addresses; a [Book] resolves the
// hosts of providers, again and again, and knows the addresses that may be called. Those addresses, not the
// names, are what Envoy is given: a name that leads elsewhere between the check and the call changes nothing.
// The package makes no call to a provider. api asks it when a provider is added, xds where clusters lead.
package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// Rules says where providers may be beside public addresses. The zero value allows nothing more.
type Rules struct {
	hosts  map[string]bool // as Normal writes them
	below  map[string]bool // domains whose subdomains are allowed
	ranges []netip.Prefix
}

// NewRules compiles what the settings allow.
func NewRules(e logos.Egress) Rules {
	r := Rules{hosts: make(map[string]bool, len(e.Hosts)), below: make(map[string]bool), ranges: make([]netip.Prefix, 0, len(e.Ranges))}
	for _, h := range e.Hosts {
		if domain, ok := strings.CutPrefix(h, "*."); ok {
			r.below[Normal(domain)] = true
		} else {
			r.hosts[Normal(h)] = true
		}
	}
	for _, p := range e.Ranges {
		r.ranges = append(r.ranges, unmapped(p))
	}
	return r
}

// Parse reads the settings as people write them, and says which one is wrong and what would be right.
func Parse(hosts, ranges []string) (logos.Egress, error) {
	e := logos.Egress{Hosts: hosts}
	for _, h := range hosts {
		name := strings.TrimPrefix(h, "*.")
		_, isAddress := literal(name)
		if name == "" || strings.ContainsAny(name, "*/@%[] ") || strings.Contains(name, ":") && !isAddress || isAddress && name != h {
			return e, logos.Errorf(logos.Invalid, "invalid_egress_host", "%.256q is not a host: write a name like vllm.example.org, an address, or *.example.org for all below", h)
		}
	}
	for _, text := range ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return e, logos.Errorf(logos.Invalid, "invalid_egress_cidr", "%.64q is not a range of addresses: write it like 10.20.0.0/16 or fd00::/8", text)
		}
		e.Ranges = append(e.Ranges, p.Masked())
	}
	return e, nil
}

// Check returns a [*Refusal] if no provider at host may be called at the address. An allowed host opens what
// stands behind its name in one's own network: loopback and private addresses. Where host is itself an
// address there is no name to turn, so all but metadata is opened; those give credentials away to whoever
// can make the machine ask, and must be allowed one by one, by a range of a single address.
func (r Rules) Check(host string, a netip.Addr) error {
	a = a.Unmap()
	class := Classify(a)
	if class == Public {
		return nil
	}
	for _, p := range r.ranges {
		if p.Contains(a) && (class != Metadata || p.IsSingleIP()) {
			return nil
		}
	}
	_, isAddress := literal(host)
	opens := class == Loopback || class == Private || isAddress && class != Metadata
	if opens && r.allowsHost(Normal(host)) {
		return nil
	}
	return &Refusal{Host: host, Address: a, Class: class}
}

func (r Rules) allowsHost(host string) bool {
	if r.hosts[host] {
		return true
	}
	for _, domain, more := strings.Cut(host, "."); more; _, domain, more = strings.Cut(domain, ".") {
		if r.below[domain] {
			return true
		}
	}
	return false
}

// with returns the rules with one host more.
func (r Rules) with(host string) Rules {
	hosts := make(map[string]bool, len(r.hosts)+1)
	for h := range r.hosts {
		hosts[h] = true
	}
	hosts[Normal(host)] = true
	r.hosts = hosts
	return r
}

// A Refusal says that a host leads to an address at which no provider may be.
type Refusal struct {
	Host    string
	Address netip.Addr
	Class   Class
}

// Error says what is wrong and what would be right.
func (r *Refusal) Error() string {
	switch _, isAddress := literal(r.Host); {
	case r.Class == Own:
		return fmt.Sprintf("%.256s leads to this gateway itself (%s): give the provider's address", r.Host, r.Address)
	case r.Class == Metadata:
		return fmt.Sprintf("%.256s leads to %s, %s, which hands out credentials: give the provider's address", r.Host, r.Address, r.Class.words())
	case r.Class == Loopback, r.Class == Private, isAddress:
		return fmt.Sprintf("%.256s leads to %s, %s: to allow it, add the host to egress_hosts or its range to egress_cidrs in the settings", r.Host, r.Address, r.Class.words())
	}
	return fmt.Sprintf("%.256s leads to %s, %s: to allow it, add its range to egress_cidrs in the settings", r.Host, r.Address, r.Class.words())
}

// Normal writes a host in the one way in which hosts are compared.
func Normal(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, ok := literal(host); ok {
		return a.String()
	}
	return host
}

// literal returns the address that a host is written as.
func literal(host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
	a, err := netip.ParseAddr(host)
	return a.Unmap(), err == nil
}

// unmapped writes a range of IPv4 addresses in IPv6 form as one of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

// Hosts returns the hosts of providers, each once, in the form in which they are compared.
func Hosts(targets []*logos.Target) []string {
	hosts := make([]string, 0, len(targets))
	for _, t := range targets {
		host, _ := t.Provider.Address()
		hosts = append(hosts, Normal(host))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
