package logos

// A PrivacyZone says where a provider processes what it is sent, and under whose law. They are ordered, the
// strictest first.
type PrivacyZone uint8

// The zones. What is unknown counts as anywhere.
const (
	ZoneUnknown  PrivacyZone = iota
	ZoneLocal                // on one's own machines
	ZoneEUByEU               // in the EU, by a provider from there
	ZoneEUByUS               // in the EU, by a provider from the US
	ZoneAnywhere             // anywhere else
)

var zoneNames = [...]string{"", "local", "eu_eu", "eu_us", "anywhere"}

// String returns the zone's name; that of an unknown one is empty.
func (z PrivacyZone) String() string {
	if int(z) < len(zoneNames) {
		return zoneNames[z]
	}
	return ""
}

// ParsePrivacyZone reads a zone's name; an empty one is unknown.
func ParsePrivacyZone(text string) (PrivacyZone, error) {
	for i, name := range zoneNames {
		if text == name {
			return PrivacyZone(i), nil
		}
	}
	return ZoneUnknown, Errorf(Invalid, "invalid_privacy_zone", "%.40q is no privacy zone: use local, eu_eu, eu_us or anywhere", text)
}

// Effective returns the zone that counts: anywhere, for what is unknown.
func (z PrivacyZone) Effective() PrivacyZone {
	if z == ZoneUnknown || z > ZoneAnywhere {
		return ZoneAnywhere
	}
	return z
}

// Within says whether a zone is at most as far as a limit; an unknown limit limits nothing.
func (z PrivacyZone) Within(limit PrivacyZone) bool {
	return limit == ZoneUnknown || z.Effective() <= limit
}
