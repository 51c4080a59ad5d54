package extproc

import (
	"net/netip"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// SourceHeader is the gRPC metadata in which Envoy tells the address of the caller. No caller can say
// anything there, as it could in a header of its request.
const SourceHeader = "x-logos-source"

// maxListed bounds how many allowed things an error names.
const maxListed = 20

// checkUse checks whether the key may be used at all, and from where the call comes.
func (c *call) checkUse() error {
	if !c.key.Role.CallsModels() {
		return logos.Errorf(logos.Denied, "role_not_allowed", "a key of the role %q may look at the admin API and not call models: use one of a member or a service", c.key.Role)
	}
	if len(c.key.Sources) == 0 {
		return nil
	}
	address, err := netip.ParseAddr(c.source)
	if err == nil && c.key.AllowsSource(address) {
		return nil
	}
	ranges := make([]string, len(c.key.Sources))
	for i, p := range c.key.Sources {
		ranges[i] = p.String()
	}
	return logos.Errorf(logos.Denied, "source_not_allowed", "this API key may not be used from %.64q: it may be from %s", c.source, listed(ranges))
}

// checkAPI checks whether the key's scope has what the call asks for. What is no API at all gets an answer of
// its own.
func (c *call) checkAPI(passes bool) error {
	name := string(c.route.API)
	switch {
	case passes:
		name = logos.ScopePassthrough
	case c.route.Models && c.method == "GET":
		name = logos.ScopeModels
	case name == "":
		return nil
	}
	if c.key.AllowsAPI(name) {
		return nil
	}
	return logos.Errorf(logos.Denied, "api_not_allowed", "this API key may not be used for %s: it may be for %s", name, listed(c.key.APIs))
}

// modelDenied refuses a model that the caller named, and tells of no others but those that it may use.
func (c *call) modelDenied(name string) error {
	return logos.Errorf(logos.Denied, "model_not_allowed", "this key may not use the model %.256q: it may use %s", name, c.allowedModels())
}

// allowedModels names the models that the call may use.
func (c *call) allowedModels() string {
	names := c.modelNames()
	if len(names) == 0 {
		return "none"
	}
	return listed(names)
}

// listed writes a list that is not empty, cut where it is long.
func listed(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
