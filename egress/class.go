package egress

import "net/netip"

// A Class says what kind of address one is.
type Class string

// The classes. Only public addresses are open to everyone.
const (
	Public      Class = "public"
	Loopback    Class = "loopback"
	Private     Class = "private" // RFC 1918, unique local, and what carriers and clouds share (RFC 6598)
	LinkLocal   Class = "link_local"
	Metadata    Class = "metadata" // of a cloud: it hands the machine's credentials out
	Multicast   Class = "multicast"
	Unspecified Class = "unspecified"
	Reserved    Class = "reserved" // documentation, benchmarks, transition mechanisms, future use
	Own         Class = "own"      // a listener of this gateway
)

func (c Class) words() string {
	switch c {
	case Loopback:
		return "an address of this machine alone"
	case LinkLocal:
		return "a link-local address"
	case Metadata:
		return "a metadata service"
	case Multicast:
		return "a multicast address"
	case Unspecified:
		return "no address of a single machine"
	case Reserved:
		return "a reserved address"
	}
	return "a " + string(c) + " address"
}

// Where clouds answer machines about themselves. Sources, as of November 2026: the documentation of AWS
// (IMDS, ECS and EKS credentials), Google, Azure (IMDS and the wire server), Oracle, Alibaba, Tencent and
// Scaleway.
var metadata = addresses(
	"169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
	"168.63.129.16", "192.0.0.192", "100.100.100.200", "169.254.0.23", "169.254.42.42", "fd00:42::42",
)

func addresses(texts ...string) map[netip.Addr]bool {
	set := make(map[netip.Addr]bool, len(texts))
	for _, t := range texts {
		set[netip.MustParseAddr(t)] = true
	}
	return set
}

// special holds what IANA's special-purpose registries (RFC 6890 and its updates) list as not globally
// reachable; the first range that holds an address counts.
var special = []struct {
	prefix netip.Prefix
	class  Class
}{
	{netip.MustParsePrefix("0.0.0.0/8"), Unspecified},
	{netip.MustParsePrefix("10.0.0.0/8"), Private},
	{netip.MustParsePrefix("100.64.0.0/10"), Private},
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback},
	{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},
	{netip.MustParsePrefix("172.16.0.0/12"), Private},
	{netip.MustParsePrefix("192.0.0.0/24"), Reserved},
	{netip.MustParsePrefix("192.0.2.0/24"), Reserved},
	{netip.MustParsePrefix("192.88.99.0/24"), Reserved}, // relays of 6to4
	{netip.MustParsePrefix("192.168.0.0/16"), Private},
	{netip.MustParsePrefix("198.18.0.0/15"), Reserved},
	{netip.MustParsePrefix("198.51.100.0/24"), Reserved},
	{netip.MustParsePrefix("203.0.113.0/24"), Reserved},
	{netip.MustParsePrefix("224.0.0.0/4"), Multicast},
	{netip.MustParsePrefix("240.0.0.0/4"), Reserved}, // and broadcast
	{netip.MustParsePrefix("::/128"), Unspecified},
	{netip.MustParsePrefix("::1/128"), Loopback},
	{netip.MustParsePrefix("fc00::/7"), Private},
	{netip.MustParsePrefix("fe80::/10"), LinkLocal},
	{netip.MustParsePrefix("ff00::/8"), Multicast},
	{netip.MustParsePrefix("2001::/23"), Reserved}, // Teredo among others, which holds an IPv4 address
	{netip.MustParsePrefix("2001:db8::/32"), Reserved},
	{netip.MustParsePrefix("2002::/16"), Reserved}, // 6to4, which holds an IPv4 address
	{netip.MustParsePrefix("3fff::/20"), Reserved},
}

var (
	unicast = netip.MustParsePrefix("2000::/3") // all of IPv6 that is given out to be reached from everywhere
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
)

// Classify returns the class of an address. IPv4 in the forms in which IPv6 carries it is judged as what it
// leads to; the forms that nobody needs any more are reserved.
func Classify(a netip.Addr) Class {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if metadata[a] {
		return Metadata
	}
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.class
		}
	}
	if !a.IsValid() || a.Is6() && !unicast.Contains(a) {
		return Reserved
	}
	return Public
}
