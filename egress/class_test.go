package egress_test

import (
	"net/netip"
	"testing"

	"github.com/ls1intum/edutelligence/logos/egress"
)

var classes = []struct {
	address string
	want    egress.Class
}{
	{"8.8.8.8", egress.Public}, {"1.0.0.1", egress.Public}, {"100.63.255.255", egress.Public}, {"100.128.0.1", egress.Public},
	{"172.15.255.255", egress.Public}, {"172.32.0.1", egress.Public}, {"169.253.255.255", egress.Public}, {"169.255.0.1", egress.Public},
	{"223.255.255.255", egress.Public}, {"198.17.255.255", egress.Public}, {"198.20.0.0", egress.Public}, {"168.63.129.17", egress.Public},
	{"2606:4700::1111", egress.Public}, {"2001:4860:4860::8888", egress.Public}, {"2a00:1450:4001::1", egress.Public},
	{"64:ff9b::8.8.8.8", egress.Public}, {"::ffff:8.8.8.8", egress.Public},

	{"127.0.0.1", egress.Loopback}, {"127.255.255.254", egress.Loopback}, {"::1", egress.Loopback}, {"::ffff:127.0.0.1", egress.Loopback},
	{"64:ff9b::127.0.0.1", egress.Loopback},

	{"10.0.0.0", egress.Private}, {"10.255.255.255", egress.Private}, {"172.16.0.1", egress.Private}, {"172.31.255.255", egress.Private},
	{"192.168.0.1", egress.Private}, {"100.64.0.1", egress.Private}, {"100.127.255.255", egress.Private},
	{"fc00::1", egress.Private}, {"fdff:ffff::1", egress.Private}, {"::ffff:10.0.0.1", egress.Private}, {"::ffff:a00:1", egress.Private},
	{"64:ff9b::10.1.2.3", egress.Private}, {"64:ff9b::c0a8:1", egress.Private},

	{"169.254.0.1", egress.LinkLocal}, {"169.254.169.253", egress.LinkLocal}, {"fe80::1", egress.LinkLocal}, {"fe80::1%eth0", egress.LinkLocal},
	{"febf::1", egress.LinkLocal}, {"::ffff:169.254.1.1", egress.LinkLocal}, {"64:ff9b::169.254.1.1", egress.LinkLocal},

	{"169.254.169.254", egress.Metadata}, {"::ffff:169.254.169.254", egress.Metadata}, {"::ffff:a9fe:a9fe", egress.Metadata},
	{"64:ff9b::169.254.169.254", egress.Metadata}, {"64:ff9b::a9fe:a9fe", egress.Metadata}, {"169.254.170.2", egress.Metadata},
	{"fd00:ec2::254", egress.Metadata}, {"fd00:ec2:0:0::254", egress.Metadata}, {"fd20:ce::254", egress.Metadata},
	{"100.100.100.200", egress.Metadata}, {"168.63.129.16", egress.Metadata}, {"192.0.0.192", egress.Metadata},

	{"224.0.0.1", egress.Multicast}, {"239.255.255.255", egress.Multicast}, {"ff02::1", egress.Multicast}, {"::ffff:224.0.0.1", egress.Multicast},
	{"0.0.0.0", egress.Unspecified}, {"0.1.2.3", egress.Unspecified}, {"::", egress.Unspecified}, {"::ffff:0.0.0.0", egress.Unspecified},

	{"240.0.0.1", egress.Reserved}, {"255.255.255.255", egress.Reserved}, {"192.0.0.1", egress.Reserved}, {"192.0.2.1", egress.Reserved},
	{"198.18.0.1", egress.Reserved}, {"198.19.255.255", egress.Reserved}, {"198.51.100.1", egress.Reserved}, {"203.0.113.1", egress.Reserved},
	{"192.88.99.1", egress.Reserved}, {"2001:db8::1", egress.Reserved}, {"3fff::1", egress.Reserved}, {"fec0::1", egress.Reserved},
	{"4000::1", egress.Reserved}, {"100::1", egress.Reserved}, {"5f00::1", egress.Reserved},
	// Other ways to carry an IPv4 address: IPv4-compatible, IPv4-translated, 6to4, Teredo, and a network's own NAT64.
	{"::169.254.169.254", egress.Reserved}, {"::ffff:0:169.254.169.254", egress.Reserved}, {"2002:a9fe:a9fe::1", egress.Reserved},
	{"2002:7f00:1::", egress.Reserved}, {"2001::a9fe:a9fe", egress.Reserved}, {"64:ff9b:1::a9fe:a9fe", egress.Reserved},
}

func TestKnowsTheClassOfEveryAddress(t *testing.T) {
	t.Parallel()
	for _, c := range classes {
		if got := egress.Classify(netip.MustParseAddr(c.address)); got != c.want {
			t.Errorf("%s is %s, want %s", c.address, got, c.want)
		}
	}
	if got := egress.Classify(netip.Addr{}); got == egress.Public {
		t.Error("no address at all is public")
	}
}

// The standard library knows some of the classes too.
func FuzzNothingIsPublicThatTheLibraryKnowsAsLocal(f *testing.F) {
	for _, c := range classes {
		f.Add(netip.MustParseAddr(c.address).AsSlice())
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		a, ok := netip.AddrFromSlice(bytes)
		if !ok || egress.Classify(a) != egress.Public {
			return
		}
		b := a.Unmap()
		if !b.IsGlobalUnicast() || b.IsPrivate() || b.IsLoopback() || b.IsLinkLocalUnicast() || b.IsMulticast() || b.IsUnspecified() {
			t.Errorf("%s is public", a)
		}
	})
}
