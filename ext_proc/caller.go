package extproc

import (
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// A caller is who makes the call and what it may use.
type caller struct {
	key      *logos.APIKey
	project  *logos.Project
	profiles []*logos.Access
}

// authenticate finds the key that the headers present.
func (c *call) authenticate() error {
	switch {
	case len(c.keys) == 0:
		return logos.Errorf(logos.Unauthenticated, "missing_api_key", "no API key was given: send it as `Authorization: Bearer lg-…`, `x-api-key`, `api-key` or `logos-key`")
	case len(c.keys) > 1:
		return logos.Errorf(logos.Invalid, "ambiguous_api_key", "several different API keys were given: send one")
	case len(c.keys[0]) > logos.MaxKeyLength:
		return logos.Errorf(logos.Unauthenticated, "invalid_api_key", "this API key is not known: check that it was copied whole, and that it is for this gateway")
	}
	hash := c.config.Hasher.APIKey(c.keys[0])
	key := c.config.APIKey(hash)
	switch {
	case key == nil:
		return logos.Errorf(logos.Unauthenticated, "invalid_api_key", "this API key is not known: check that it was copied whole, and that it is for this gateway")
	case key.Revoked:
		return logos.Errorf(logos.Unauthenticated, "revoked_api_key", "this API key was revoked: ask for a new one")
	case !key.Usable(hash, c.now):
		return logos.Errorf(logos.Unauthenticated, "expired_api_key", "this API key expired at %s: ask for a new one", key.ExpiryOf(hash).UTC().Format("2006-01-02 15:04 MST"))
	}
	c.key, c.project = key, c.config.Project(key.ProjectID)
	return nil
}

// resolveProfiles finds the access profiles that the call may use: the one that it names, else the one
// that its key is bound to, else all of its project's.
func (c *call) resolveProfiles() error {
	all := c.config.Profiles(c.key.ProjectID)
	bound := c.key.ProfileID
	if c.profile == "" && bound == 0 {
		c.profiles = all
		return nil
	}
	for _, p := range all {
		if bound != 0 && p.ID != bound {
			continue // a bound key can't leave its profile by naming another
		}
		if c.profile == "" || strings.EqualFold(c.profile, p.Name) || c.profile == logos.FormatID(p.ID) {
			c.profiles = []*logos.Access{p}
			return nil
		}
	}
	return logos.Errorf(logos.Denied, "profile_not_allowed", "this API key may not use the access profile %.100q: leave out the header x-logos-profile, or name one of its project's", c.profile)
}
