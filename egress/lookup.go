package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

const maxAddresses = 16 // of one host; a name may answer with any number

// A Resolver finds the addresses of a name; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// find returns the addresses of a host, each once, IPv4 as IPv4.
func find(ctx context.Context, r Resolver, host string) ([]netip.Addr, error) {
	if a, ok := literal(host); ok {
		if a.Zone() != "" {
			return nil, errors.New("it is bound to a link of one machine")
		}
		return []netip.Addr{a}, nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // never asked of anyone (RFC 6761)
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	answer, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("%.256s does not resolve: %w", host, plain(err))
	}
	found := make([]netip.Addr, 0, min(len(answer), maxAddresses))
	for _, a := range answer {
		if a = a.Unmap().WithZone(""); a.IsValid() && !slices.Contains(found, a) && len(found) < maxAddresses {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%.256s does not resolve: it has no address", host)
	}
	return found, nil
}

// plain leaves out which server was asked: that is of no use to who reads it, and nobody else's business.
func plain(err error) error {
	dns, ok := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || ok && dns.IsTimeout:
		return errors.New("no answer in time")
	case ok && dns.IsNotFound:
		return errors.New("no such host")
	case ok:
		return errors.New("the name server failed")
	}
	return err
}

// listeners are the host:port at which this gateway itself listens.
type listeners []string

func (l listeners) usePort(port string) bool {
	return slices.ContainsFunc(l, func(own string) bool {
		_, p, err := net.SplitHostPort(own)
		return err == nil && p == port
	})
}

// names returns the hosts among them that must be looked up: Envoy may be on another machine.
func (l listeners) names() (names []string) {
	for _, own := range l {
		host, _, err := net.SplitHostPort(own)
		if _, isAddress := literal(host); err == nil && host != "" && !isAddress {
			names = append(names, Normal(host))
		}
	}
	return names
}

// lead says whether an address, at a port of theirs, is this machine or one of the named hosts.
func (l listeners) lead(a netip.Addr, named []netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() || slices.Contains(named, a) {
		return true
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return true // better a provider less than a call that goes round in circles
	}
	for _, own := range l {
		if host, _, err := net.SplitHostPort(own); err == nil {
			if b, ok := literal(host); ok && b == a {
				return true
			}
		}
	}
	return slices.ContainsFunc(local, func(x net.Addr) bool {
		p, err := netip.ParsePrefix(x.String())
		return err == nil && p.Addr().Unmap().WithZone("") == a
	})
}
