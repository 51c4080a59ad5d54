package extproc

import (
	"slices"
	"strings"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// A caller is who makes the call and what it may use.
type caller struct {
	key        *logos.APIKey
	project    *logos.Project
	profiles   []*logos.Access
	keyHeaders []string // the headers that hold the key
	ownHeaders bool     // others hold credentials of the caller's own, for a provider
}

// authenticate finds the key that the headers present.
func (c *call) authenticate() error {
	key, hash, err := c.presentedKey()
	switch {
	case err != nil:
		return err
	case key == nil:
		return logos.Errorf(logos.Unauthenticated, "invalid_api_key", "this API key is not known: check that it was copied whole, and that it is for this gateway")
	case key.Revoked:
		return logos.Errorf(logos.Unauthenticated, "revoked_api_key", "this API key was revoked: ask for a new one")
	case key.Usable(hash, c.now):
	case hash != key.Hash && key.Usable(key.Hash, c.now):
		return logos.Errorf(logos.Unauthenticated, "expired_api_key", "this API key was replaced, and worked until %s: use the one that replaced it", minute(key.ExpiryOf(hash)))
	default:
		return logos.Errorf(logos.Unauthenticated, "expired_api_key", "this API key expired at %s: ask for a new one", minute(key.ExpiresAt))
	}
	c.key, c.project = key, c.config.Project(key.ProjectID)
	return nil
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// presentedKey tells the API key from the caller's own credentials. It is what has the prefix of our keys or
// stands in a header of ours, known or not, and beside that whatever is known: an imported key has any form.
func (c *call) presentedKey() (key *logos.APIKey, hash logos.KeyHash, err error) {
	var own []credential
	var presented string
	for _, x := range c.credentials {
		if len(c.keyHeaders) > 0 && x.value == presented {
			c.keyHeaders = append(c.keyHeaders, x.header)
			continue
		}
		k, h := c.config.FindKey(x.value)
		if k == nil && !x.claimed {
			own = append(own, x)
			continue
		}
		if len(c.keyHeaders) > 0 {
			return nil, hash, logos.Errorf(logos.Invalid, "ambiguous_api_key", "several different API keys were given: send one")
		}
		c.keyHeaders, presented = append(c.keyHeaders, x.header), x.value
		key, hash = k, h
	}
	if len(c.keyHeaders) == 0 {
		return nil, hash, missingKey(len(own) > 0)
	}
	c.sortOwn(own, presented)
	return key, hash, nil
}

// sortOwn tells the caller's own credentials from headers that hold the API key in a form that is not read,
// which no provider may see.
func (c *call) sortOwn(own []credential, presented string) {
	for _, x := range own {
		switch {
		case slices.Contains(c.keyHeaders, x.header):
		case presented != "" && strings.Contains(x.whole, presented):
			c.keyHeaders = append(c.keyHeaders, x.header)
		default:
			c.ownHeaders = true
		}
	}
}

func missingKey(others bool) error {
	what := "no API key was given"
	if others {
		what = "no API key of this gateway was given, and what was given is not known here"
	}
	return logos.Errorf(logos.Unauthenticated, "missing_api_key", "%s: send it as `Authorization: Bearer lg-…`, `x-api-key`, `api-key` or `logos-key`", what)
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
