package egress_test

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/egress"
)

func rules(t *testing.T, hosts, ranges []string) egress.Rules {
	t.Helper()
	e, err := egress.Parse(hosts, ranges)
	if err != nil {
		t.Fatal(err)
	}
	return egress.NewRules(e)
}

func TestRefusesWhatIsNotPublicUnlessAllowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		hosts, ranges []string
		host, address string
		allowed       bool
	}{
		{"a public address", nil, nil, "p.example", "8.8.8.8", true},
		{"a private one", nil, nil, "p.example", "10.0.0.1", false},
		{"a private one of an allowed host", []string{"p.example"}, nil, "p.example", "10.0.0.1", true},
		{"in other letters, with a dot", []string{"P.Example."}, nil, "p.EXAMPLE", "10.0.0.1", true},
		{"of another host", []string{"p.example"}, nil, "q.example", "10.0.0.1", false},
		{"below an allowed host", []string{"p.example"}, nil, "x.p.example", "10.0.0.1", false},
		{"below a domain", []string{"*.p.example"}, nil, "x.y.p.example", "10.0.0.1", true},
		{"the domain itself", []string{"*.p.example"}, nil, "p.example", "10.0.0.1", false},
		{"a name that only ends alike", []string{"*.p.example"}, nil, "xp.example", "10.0.0.1", false},
		{"an allowed host on this machine", []string{"localhost"}, nil, "localhost", "127.0.0.1", true},
		{"an allowed name that turns to a link", []string{"p.example"}, nil, "p.example", "169.254.1.1", false},
		{"an allowed name that turns to metadata", []string{"p.example"}, nil, "p.example", "169.254.169.254", false},
		{"an allowed name that turns to private metadata", []string{"p.example"}, nil, "p.example", "fd00:ec2::254", false},
		{"an allowed name that turns to nowhere", []string{"p.example"}, nil, "p.example", "0.0.0.0", false},
		{"an allowed address", []string{"10.0.0.1"}, nil, "10.0.0.1", "10.0.0.1", true},
		{"an allowed address in another form", []string{"2001:DB8:0::1"}, nil, "2001:db8::1", "2001:db8::1", true},
		{"an allowed address of a link", []string{"169.254.1.1"}, nil, "169.254.1.1", "169.254.1.1", true},
		{"metadata by its address", []string{"169.254.169.254"}, nil, "169.254.169.254", "169.254.169.254", false},
		{"a range", nil, []string{"10.0.0.0/8"}, "p.example", "10.200.0.1", true},
		{"outside the range", nil, []string{"10.0.0.0/8"}, "p.example", "192.168.0.1", false},
		{"a range that holds a mapped address", nil, []string{"10.0.0.0/8"}, "p.example", "::ffff:10.0.0.1", true},
		{"a range written mapped", nil, []string{"::ffff:10.0.0.0/104"}, "p.example", "10.0.0.1", true},
		{"a range whose bits stick out", nil, []string{"10.1.2.3/8"}, "p.example", "10.200.0.1", true},
		{"a private range through NAT64", nil, []string{"10.0.0.0/8"}, "p.example", "64:ff9b::10.0.0.1", false},
		{"a range of links", nil, []string{"169.254.0.0/16"}, "p.example", "169.254.1.1", true},
		{"metadata in a range of links", nil, []string{"169.254.0.0/16"}, "p.example", "169.254.169.254", false},
		{"metadata in everything", nil, []string{"0.0.0.0/0", "::/0"}, "p.example", "fd00:ec2::254", false},
		{"metadata by name and number", nil, []string{"169.254.169.254/32"}, "p.example", "169.254.169.254", true},
		{"everything", nil, []string{"0.0.0.0/0", "::/0"}, "p.example", "192.168.3.4", true},
	} {
		err := rules(t, c.hosts, c.ranges).Check(c.host, netip.MustParseAddr(c.address))
		if refusal, ok := errors.AsType[*egress.Refusal](err); (err == nil) != c.allowed || err != nil && (!ok || refusal.Address != netip.MustParseAddr(c.address).Unmap()) {
			t.Errorf("%s: %s at %s gives %v", c.name, c.host, c.address, err)
		}
	}
}

func TestARefusalSaysWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"10.0.0.1": "add the host to egress_hosts", "127.0.0.1": "add the host to egress_hosts",
		"169.254.1.1": "add its range to egress_cidrs", "169.254.169.254": "give the provider's address",
	} {
		err := egress.Rules{}.Check("p.example", netip.MustParseAddr(address))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "p.example") {
			t.Errorf("the refusal of %s is %v, want it to say %q", address, err, want)
		}
	}
}

func TestSettingsThatAreNoneAreNamed(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "*", "*.", "a.*.b", "http://a.example", "a.example/v1", "a.example:80", "*.10.0.0.1", "[::1]", "a b", "fe80::1%eth0"} {
		if _, err := egress.Parse([]string{host}, nil); logos.KindOf(err) != logos.Invalid {
			t.Errorf("the host %q gives %v", host, err)
		}
	}
	for _, cidr := range []string{"", "10.0.0.1", "10.0.0.0/33", "p.example/8", "10.0.0.0/8/8"} {
		if _, err := egress.Parse(nil, []string{cidr}); logos.KindOf(err) != logos.Invalid {
			t.Errorf("the range %q gives %v", cidr, err)
		}
	}
	if e, err := egress.Parse([]string{"a.example", "*.b.example", "::1", "10.0.0.1"}, []string{"10.9.9.9/8"}); err != nil || e.Ranges[0].String() != "10.0.0.0/8" {
		t.Errorf("good settings give %v, %v", e, err)
	}
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
