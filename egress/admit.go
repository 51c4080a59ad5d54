package egress

import (
	"context"
	"net/netip"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// inspectTimeout bounds how long somebody who configures a provider waits for name servers.
const inspectTimeout = time.Second

// Admit says whether a provider may be configured at host and port under what the settings allow, as far as
// its name resolves now. Where it leads later is checked later.
func (b *Book) Admit(ctx context.Context, allow logos.Egress, host, port string) error {
	found, err := b.inspect(ctx, host, port)
	if err != nil || found == nil {
		return err
	}
	return b.check(NewRules(allow), host, found)
}

// Vouch is for those whose word is enough to allow a host: root's set-up calls and the demo. needed says
// that the host must be added to those allowed: it leads to an address that is not public, or does not
// resolve yet. A name that leads to public addresses needs no allowance, and so can't be turned later to
// where it does.
func (b *Book) Vouch(ctx context.Context, host, port string) (needed bool, err error) {
	found, err := b.inspect(ctx, host, port)
	if err != nil {
		return false, err
	}
	rules := b.present()
	if found == nil {
		return !rules.allowsHost(Normal(host)), nil
	}
	if b.check(rules, host, found) == nil {
		return false, nil
	}
	return true, b.check(rules.with(host), host, found)
}

// inspect looks a host up for Admit and Vouch; nil if it does not resolve. Their callers are few, and wait
// for it, so it is not left to Run.
func (b *Book) inspect(ctx context.Context, host, port string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	found, err := find(ctx, b.resolver, Normal(host))
	if err != nil {
		return nil, nil //nolint:nilerr // the name may resolve one day
	}
	if !b.own.usePort(port) {
		return found, nil
	}
	var named []netip.Addr
	for _, name := range b.own.names() {
		if at, err := find(ctx, b.resolver, name); err == nil {
			named = append(named, at...)
		}
	}
	for _, a := range found {
		if b.own.lead(a, named) {
			return nil, logos.Errorf(logos.Invalid, "base_url_is_gateway", "base_url leads to this gateway itself: give the provider's address")
		}
	}
	return found, nil
}

func (b *Book) check(rules Rules, host string, found []netip.Addr) error {
	for _, a := range found {
		if err := rules.Check(host, a); err != nil {
			return logos.Errorf(logos.Invalid, "base_url_not_allowed", "base_url can't be used: %s", err)
		}
	}
	return nil
}

func (b *Book) present() Rules {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rules
}
