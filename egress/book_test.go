package egress_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/egress"
)

// names is a name server whose answers a test changes.
type names struct {
	mu      sync.Mutex
	answers map[string][]string // nil: the lookup fails
	takes   time.Duration
	asked   map[string]int
	running int
	most    int // lookups at once
}

func newNames(answers map[string][]string) *names {
	return &names{answers: answers, asked: make(map[string]int)}
}

func (n *names) set(host string, answer ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[host] = answer
}

func (n *names) count(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[host]
}

func (n *names) LookupNetIP(ctx context.Context, _, host string) (out []netip.Addr, err error) {
	n.mu.Lock()
	n.asked[host]++
	n.running++
	n.most = max(n.most, n.running)
	answer, takes := n.answers[host], n.takes
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.running--
	}()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if answer == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, Server: "10.0.0.53:53", IsNotFound: true}
	}
	for _, a := range answer {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

// A book is one that runs, in the time of a synctest bubble.
type book struct {
	*egress.Book
	t       *testing.T
	reg     *prometheus.Registry
	changes chan struct{}
}

func newBook(t *testing.T, n *names, o egress.Options, own ...string) *book {
	t.Helper()
	b := &book{t: t, reg: prometheus.NewRegistry(), changes: make(chan struct{}, 1000)}
	b.Book = egress.NewBook(n, own, o, zap.NewNop(), b.reg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx, func() { b.changes <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// expect compares where a host leads.
func (b *book) expect(host, port string, want ...string) {
	b.t.Helper()
	var got []string
	for _, a := range b.Addresses(host, port) {
		got = append(got, a.String())
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("%s:%s may be called at %v, want %v", host, port, got, want)
	}
}

func TestKnowsWhereHostsLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8"}, "mixed.example": {"10.0.0.1", "8.8.4.4"}, "in.example": {"10.0.0.7"}})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{Hosts: []string{"in.example"}}, []string{"P.example.", "mixed.example", "in.example", "gone.example", "8.8.4.4", "192.168.0.1", "[::1]", "localhost"})
		b.expect("p.EXAMPLE", "443", "8.8.8.8", "2606:4700::1")
		b.expect("mixed.example", "443", "8.8.4.4")
		b.expect("in.example", "443", "10.0.0.7")
		b.expect("gone.example", "443")
		b.expect("8.8.4.4", "443", "8.8.4.4")
		for _, host := range []string{"192.168.0.1", "::1", "localhost", "unknown.example"} {
			b.expect(host, "443")
		}
		if f := b.Find("192.168.0.1", "443"); f.Refused == nil || f.Refused.Class != egress.Private {
			t.Errorf("a private address is found as %+v", f)
		}
		f := b.Find("gone.example", "443")
		if f.Failed == nil || !strings.Contains(f.Failed.Error(), "no such host") || strings.Contains(f.Failed.Error(), "10.0.0.53") {
			t.Errorf("a name that does not resolve is found as %+v", f)
		}
		if n.count("localhost")+n.count("8.8.4.4") != 0 {
			t.Error("what needs no name server is asked of one")
		}
		if got := unreachable(t, b.reg); got != 4 {
			t.Errorf("%v hosts count as unreachable, want 4", got)
		}
	})
}

// unreachable returns the metric of hosts without an address.
func unreachable(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "logos_egress_unreachable_hosts" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("there is no such metric")
	return 0
}

func TestANameThatTurnsIsNotFollowed(t *testing.T) {
	for _, turned := range [][]string{{"169.254.169.254"}, {"10.0.0.1"}, {"::ffff:169.254.169.254"}, {"64:ff9b::a9fe:a9fe"}, {"127.0.0.1"}, {"::1"}, {"0.0.0.0"}} {
		synctest.Test(t, func(t *testing.T) {
			n := newNames(map[string][]string{"p.example": {"8.8.8.8"}})
			b := newBook(t, n, egress.Options{})
			b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
			b.expect("p.example", "80", "8.8.8.8")
			n.set("p.example", turned...)
			time.Sleep(time.Minute)
			synctest.Wait()
			b.expect("p.example", "80")
			n.set("p.example", append(turned, "9.9.9.9")...)
			time.Sleep(time.Minute)
			synctest.Wait()
			b.expect("p.example", "80", "9.9.9.9")
			if len(b.changes) != 3 {
				t.Errorf("%d changes are told of, want 3", len(b.changes))
			}
		})
	}
}

func TestKeepsTheLastGoodAddressesWhileNamesDoNotResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"8.8.8.8"}})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		n.set("p.example")
		n.mu.Lock()
		n.answers["p.example"] = nil
		n.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		b.expect("p.example", "80", "8.8.8.8")
		if f := b.Find("p.example", "80"); f.Failed == nil {
			t.Error("that the lookup fails is not known")
		}
		n.set("p.example", "9.9.9.9")
		time.Sleep(time.Minute)
		synctest.Wait()
		b.expect("p.example", "80", "9.9.9.9")
	})
}

func TestANameThatDoesNotResolveIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, []string{"late.example"})
		n.set("late.example", "8.8.8.8")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.expect("late.example", "80", "8.8.8.8")
	})
}

func TestNewRulesHoldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"10.0.0.1"}})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		b.expect("p.example", "80")
		b.Apply(t.Context(), logos.Egress{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}, []string{"p.example"})
		b.expect("p.example", "80", "10.0.0.1")
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		b.expect("p.example", "80")
		if n.count("p.example") != 1 {
			t.Errorf("it is looked up %d times, want once", n.count("p.example"))
		}
	})
}

// The same addresses in another order are no reason for new connections.
func TestTheOrderOfAnswersChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"8.8.8.8", "9.9.9.9"}})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		time.Sleep(time.Second)
		n.set("p.example", "9.9.9.9", "8.8.8.8")
		time.Sleep(time.Minute)
		synctest.Wait()
		b.expect("p.example", "80", "8.8.8.8", "9.9.9.9")
		if len(b.changes) != 1 {
			t.Errorf("%d changes are told of, want that of the first answer", len(b.changes))
		}
	})
}

// A list of addresses that rotates is no reason for new connections either, but an address that is gone is.
func TestRotatingAnswersChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"8.8.8.1", "8.8.8.2"}})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		answer := func(after time.Duration, addresses ...string) {
			n.set("p.example", addresses...)
			time.Sleep(after)
			synctest.Wait()
		}
		for range 20 {
			answer(time.Minute, "8.8.8.2", "8.8.8.3")
			answer(time.Minute, "8.8.8.3", "8.8.8.1")
		}
		b.expect("p.example", "80", "8.8.8.1", "8.8.8.2")
		if len(b.changes) != 1 {
			t.Errorf("%d changes are told of, want that of the first answer", len(b.changes))
		}
		answer(4*time.Minute, "8.8.8.2", "8.8.8.3")
		b.expect("p.example", "80", "8.8.8.1", "8.8.8.2")
		answer(2*time.Minute, "8.8.8.2", "8.8.8.3")
		b.expect("p.example", "80", "8.8.8.2", "8.8.8.3")
		answer(time.Minute, "8.8.8.2", "8.8.8.3", "8.8.8.4")
		b.expect("p.example", "80", "8.8.8.2", "8.8.8.3", "8.8.8.4")
		answer(time.Minute, "8.8.8.9")
		b.expect("p.example", "80", "8.8.8.9")
	})
}

func TestAThousandHostsAreAFewLookupsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{})
		n.takes = 20 * time.Millisecond
		var hosts []string
		for i := range 1000 {
			hosts = append(hosts, fmt.Sprintf("p%d.example", i))
			n.answers[hosts[i]] = []string{"8.8.8.8"}
		}
		b := newBook(t, n, egress.Options{})
		begin := time.Now()
		b.Apply(t.Context(), logos.Egress{}, hosts)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a thousand new hosts hold a change up for %v", took)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, h := range hosts {
			b.expect(h, "443", "8.8.8.8")
		}
		if len(b.changes) > 150 {
			t.Errorf("%d changes are told of in 4 s", len(b.changes))
		}
		before := total(n)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n.most > 8 {
			t.Errorf("%d lookups run at once", n.most)
		}
		// Each about twice a minute.
		if perHost := float64(total(n)-before) / 1000; perHost < 5 || perHost > 8 {
			t.Errorf("each host is looked up %.1f times in three minutes", perHost)
		}
	})
}

func total(n *names) (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range maps.Values(n.asked) {
		sum += c
	}
	return sum
}

// A new host does not wait behind all those whose turn it is.
func TestNewHostsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"new.example": {"8.8.8.8"}})
		n.takes = 100 * time.Millisecond
		var hosts []string
		for i := range 500 {
			hosts = append(hosts, fmt.Sprintf("p%d.example", i))
			n.answers[hosts[i]] = []string{"8.8.8.8"}
		}
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, hosts)
		time.Sleep(27 * time.Second) // many are due again
		begin := time.Now()
		b.Apply(t.Context(), logos.Egress{}, append(hosts, "new.example"))
		if took := time.Since(begin); took > 250*time.Millisecond {
			t.Errorf("a new host takes %v", took)
		}
		b.expect("new.example", "443", "8.8.8.8")
	})
}

func TestASilentNameServerHoldsUpNothingForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{})
		n.takes = time.Hour
		b := newBook(t, n, egress.Options{})
		begin := time.Now()
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		if took := time.Since(begin); took > time.Second {
			t.Errorf("a change waits for %v", took)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if f := b.Find("p.example", "80"); f.Failed == nil || !strings.Contains(f.Failed.Error(), "no answer in time") {
			t.Errorf("it is found as %+v", f)
		}
	})
}

func TestForgetsHostsThatNobodyNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"old.example": {"8.8.8.8"}, "tried.example": {"8.8.4.4"}})
		b := newBook(t, n, egress.Options{Linger: 10 * time.Minute})
		b.Apply(t.Context(), logos.Egress{}, []string{"old.example"})
		b.Apply(t.Context(), logos.Egress{}, nil)
		if f := b.Look(t.Context(), "tried.example", "80"); len(f.Addresses) != 1 {
			t.Errorf("a host that is looked at is found as %+v", f)
		}
		time.Sleep(9 * time.Minute)
		b.expect("old.example", "80", "8.8.8.8") // calls under way may go there yet
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.expect("old.example", "80")
		b.expect("tried.example", "80")
		before := total(n)
		time.Sleep(time.Hour)
		synctest.Wait()
		if total(n) != before {
			t.Error("hosts that are forgotten are looked up")
		}
	})
}

func TestLookAsksAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"8.8.8.8"}})
		b := newBook(t, n, egress.Options{})
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		n.set("p.example", "10.0.0.1")
		if f := b.Look(t.Context(), "P.example", "80"); len(f.Addresses) != 0 || f.Refused == nil {
			t.Errorf("a host that turned is found as %+v", f)
		}
		n.takes = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		b.Look(ctx, "p.example", "80")
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a look takes %v", took)
		}
	})
}

func TestTheGatewaysOwnListenersAreNoProviders(t *testing.T) {
	local := machine(t)
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"envoy": {"10.9.9.9"}, "turned.example": {"10.9.9.9"}, "here.example": {local}, "p.example": {"8.8.8.8"}})
		b := newBook(t, n, egress.Options{}, "0.0.0.0:8080", "envoy:9901", "8.8.4.4:8081")
		everything := logos.Egress{Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
		b.Apply(t.Context(), everything, []string{"127.0.0.1", "0.0.0.0", "localhost", "turned.example", "here.example", "p.example", "8.8.4.4"})
		time.Sleep(time.Second)
		synctest.Wait()
		for _, host := range []string{"127.0.0.1", "0.0.0.0", "localhost", "turned.example", "here.example", "8.8.4.4"} {
			for _, port := range []string{"8080", "8081", "9901"} {
				b.expect(host, port)
				if f := b.Find(host, port); f.Refused == nil || f.Refused.Class != egress.Own || !strings.Contains(f.Refused.Error(), "this gateway itself") {
					t.Errorf("%s:%s is found as %+v", host, port, f)
				}
			}
		}
		b.expect("127.0.0.1", "9000", "127.0.0.1")
		b.expect("p.example", "8080", "8.8.8.8")
	})
}

// machine returns an address of this machine beside loopback.
func machine(t *testing.T) string {
	t.Helper()
	local, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range local {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr().String()
		}
	}
	return "127.0.0.2"
}

func TestARestartNeedsNoNameServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "addresses.json")
	synctest.Test(t, func(t *testing.T) {
		n := newNames(map[string][]string{"p.example": {"8.8.8.8"}, "in.example": {"10.0.0.1"}})
		b := newBook(t, n, egress.Options{File: file})
		b.Apply(t.Context(), logos.Egress{Hosts: []string{"in.example"}}, []string{"p.example", "in.example"})
		time.Sleep(time.Second)
	})
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("what is kept is %v, %v", info, err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, newNames(map[string][]string{}), egress.Options{File: file})
		begin := time.Now()
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example", "in.example"})
		if took := time.Since(begin); took > 0 {
			t.Errorf("it waits for %v", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		b.expect("p.example", "80", "8.8.8.8")
		b.expect("in.example", "80") // no longer allowed
	})
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, newNames(map[string][]string{"p.example": {"9.9.9.9"}}), egress.Options{File: file})
		b.Apply(t.Context(), logos.Egress{}, []string{"p.example"})
		b.expect("p.example", "80", "9.9.9.9")
	})
}

func TestAdmitsWhatMayBeCalled(t *testing.T) {
	t.Parallel()
	n := newNames(map[string][]string{"p.example": {"8.8.8.8"}, "in.example": {"10.0.0.1"}, "half.example": {"8.8.8.8", "10.0.0.1"}, "meta.example": {"169.254.169.254"}, "link.example": {"169.254.1.1"}, "vm.example": {"10.0.0.2"}})
	b := egress.NewBook(n, []string{"127.0.0.1:8081"}, egress.Options{}, zap.NewNop(), prometheus.NewRegistry())
	b.Apply(cancelled(t), logos.Egress{Hosts: []string{"vm.example"}}, nil)
	for _, c := range []struct {
		host, port     string
		admit          bool // without anybody's word
		vouched, needs bool // with it
	}{
		{"p.example", "443", true, true, false}, {"8.8.8.8", "443", true, true, false},
		{"in.example", "443", false, true, true}, {"half.example", "443", false, true, true}, {"vm.example", "443", true, true, false},
		{"10.0.0.1", "443", false, true, true}, {"localhost", "443", false, true, true}, {"169.254.1.1", "443", false, true, true},
		{"nowhere.example", "443", true, true, true},
		{"link.example", "443", false, false, false}, {"meta.example", "443", false, false, false}, {"169.254.169.254", "443", false, false, false}, {"[::ffff:a9fe:a9fe]", "80", false, false, false},
		{"localhost", "8081", false, false, false}, {"0.0.0.0", "8081", false, false, false},
	} {
		if err := b.Admit(t.Context(), logos.Egress{Hosts: []string{"vm.example"}}, c.host, c.port); (err == nil) != c.admit || err != nil && logos.KindOf(err) != logos.Invalid {
			t.Errorf("%s:%s is admitted with %v", c.host, c.port, err)
		}
		needs, err := b.Vouch(t.Context(), c.host, c.port)
		if (err == nil) != c.vouched || c.vouched && needs != c.needs || err != nil && logos.KindOf(err) != logos.Invalid {
			t.Errorf("%s:%s is vouched for with %t, %v", c.host, c.port, needs, err)
		}
	}
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nothing runs"))
	return ctx
}

func TestHostsAreEachNamedOnce(t *testing.T) {
	t.Parallel()
	var targets []*logos.Target
	for _, base := range []string{"https://A.example/v1", "http://a.example.:8080", "http://[::1]:80", "http://10.0.0.1"} {
		targets = append(targets, &logos.Target{Provider: &logos.Provider{BaseURL: parse(t, base)}})
	}
	if got := egress.Hosts(targets); !slices.Equal(got, []string{"10.0.0.1", "::1", "a.example"}) {
		t.Errorf("the hosts are %v", got)
	}
}
