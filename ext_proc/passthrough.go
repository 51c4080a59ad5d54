package extproc

import (
	"context"
	"slices"
	"strings"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// passesThrough says whether the call goes to a provider as it is: it asks for that, or its profiles
// know no models and one of them allows it.
func (c *call) passesThrough() bool {
	if c.proxy {
		return true
	}
	allowed := false
	for _, p := range c.profiles {
		if len(p.Models) > 0 {
			return false
		}
		allowed = allowed || p.Passthrough
	}
	return allowed
}

// startPassthrough finds the provider. It decides at once where the body need not be read.
func (c *call) startPassthrough(ctx context.Context) (*extprocv3.ProcessingResponse, bool, error) {
	reads, err := c.findProvider()
	switch {
	case err != nil:
		return nil, false, err
	case reads && !c.endStream:
		return continueWithBody(), true, nil
	}
	defer c.releaseUnsent()
	d, rewrites, err := c.decidePassing(ctx, nil, "", max(0, c.contentLength))
	return c.sendPassing(d, rewrites, err)
}

// findProvider finds the provider, and says whether the body must be read: it has to name a model that is allowed.
func (c *call) findProvider() (reads bool, err error) {
	profile, target, err := c.passthroughTarget()
	if err != nil {
		return false, err
	}
	c.profiles, c.proxied = []*logos.Access{profile}, target
	if len(c.limit()) == 0 {
		return false, nil
	}
	return true, c.allowNamedModels()
}

func (c *call) sendPassing(d *logos.Decision, rewrites []string, err error) (*extprocv3.ProcessingResponse, bool, error) {
	if err != nil {
		return nil, false, err
	}
	answer, err := c.send(d, rewrites, nil)
	return answer, false, err
}

// limit returns the models that a call which passes through may name, as far as the key's scope has them:
// those that its profile lists, else those of the scope. None: it may name any.
func (c *call) limit() []logos.ModelID {
	if models := c.profiles[0].Models; len(models) > 0 {
		return models
	}
	return c.key.Models
}

// passthroughTarget finds the one provider that the call can mean.
func (c *call) passthroughTarget() (*logos.Access, *logos.Target, error) {
	allowed := false
	var profile *logos.Access
	var found *logos.PassthroughRoute
	for _, p := range c.profiles {
		allowed = allowed || p.Passthrough
		for i := range p.Routes {
			provider := p.Routes[i].Own.Provider
			if c.provider != "" && !strings.EqualFold(c.provider, provider.Name) && c.provider != logos.FormatID(provider.ID) {
				continue
			}
			if found != nil && found.Own.Provider != provider {
				return nil, nil, logos.Errorf(logos.Invalid, "provider_ambiguous", "several providers are possible: name one in the header x-logos-provider")
			}
			if found == nil || found.Stored == nil {
				profile, found = p, &p.Routes[i]
			}
		}
	}
	switch {
	case !allowed:
		return nil, nil, logos.Errorf(logos.Denied, "passthrough_not_allowed", "this key may not pass calls through: leave out the header x-logos-proxy and name a model")
	case found == nil && c.provider != "":
		return nil, nil, logos.Errorf(logos.Denied, "provider_not_allowed", "this key may not use the provider %.100q", c.provider)
	case found == nil:
		return nil, nil, logos.Errorf(logos.Unavailable, "no_provider", "the access profile has no provider: connect one")
	}
	target := found.Own
	if !c.ownHeaders && found.Stored != nil {
		target = found.Stored
	}
	named, err := c.namedPolicy()
	if err != nil {
		return nil, nil, err
	}
	if by, why := c.snapshot.policies.Passes(target.Provider, profile, named, c.asks()); by != nil {
		return nil, nil, logos.Errorf(logos.Denied, "policy_forbids_passthrough", "the policy %q lets no call pass through to %q: %s", by.Name, target.Provider.Name, why)
	}
	if !c.server.active(target.Cluster) {
		return nil, nil, notReady(target, c.server.cfg.Inactive(target))
	}
	return profile, target, nil
}

// notReady says why Envoy can't use a provider.
func notReady(t *logos.Target, reason string) *logos.Error {
	why := "is not ready yet: try again in a few seconds"
	switch reason {
	case policy.HostNotResolved:
		why = "has a host that does not resolve: check its base URL"
	case policy.HostNotAllowed:
		why = "has a host at which providers are not allowed: the settings' egress_hosts and egress_cidrs say where they are"
	}
	return logos.Errorf(logos.Unavailable, "no_deployment", "the provider %q %s", t.Provider.Name, why)
}

// decideNaming checks the model in the body, and decides.
func (c *call) decideNaming(ctx context.Context, body []byte) (*logos.Decision, []string, error) {
	if len(body) == 0 {
		return c.decidePassing(ctx, nil, "", 0)
	}
	parsed, err := dialect.Scan(body)
	if err != nil {
		return nil, nil, err
	}
	if parsed.Model == "" {
		return nil, nil, logos.Errorf(logos.Invalid, "model_required", "this key may use some models alone, so the body must name one as \"model\": %s", c.allowedModels())
	}
	if err := c.allowModel(parsed.Model); err != nil {
		return nil, nil, err
	}
	return c.decidePassing(ctx, &parsed, parsed.Model, int64(len(body)))
}

// namesModels holds the segments after which a path names a model, as Azure's and Gemini's own paths do.
var namesModels = []string{"models", "deployments", "engines", "tunedmodels"}

// allowNamedModels checks models that the path names. Servers differ in how often they decode a path, in
// whether they mind case, and in what they make of ";": so it looks at the path decoded to the end, and
// after such a segment wants the name of a model that is allowed.
func (c *call) allowNamedModels() error {
	path, _, _ := strings.Cut(c.path, "?")
	decoded, err := dialect.DecodePath(path)
	if err != nil {
		return err
	}
	segments := strings.Split(decoded, "/")
	for i, s := range segments {
		s, _, _ = strings.Cut(s, ";")
		if !slices.Contains(namesModels, strings.ToLower(s)) || i == len(segments)-1 {
			continue
		}
		rest := strings.Join(segments[i+1:], "/")
		if !slices.ContainsFunc(c.limit(), func(id logos.ModelID) bool {
			m := c.config.ModelByID(id)
			if m == nil || !c.key.AllowsModel(id) {
				return false
			}
			after, ok := strings.CutPrefix(rest, m.Name)
			return ok && (after == "" || after[0] == '/' || after[0] == ':')
		}) {
			return c.modelDenied(rest)
		}
	}
	return nil
}

func (c *call) allowModel(name string) error {
	for _, id := range c.limit() {
		if m := c.config.ModelByID(id); m != nil && m.Name == name && c.key.AllowsModel(id) {
			return nil
		}
	}
	return c.modelDenied(name)
}

// decidePassing sends the call to the provider, and reserves what budgets hold for such calls.
func (c *call) decidePassing(ctx context.Context, parsed *dialect.Request, model string, bodyBytes int64) (*logos.Decision, []string, error) {
	path, err := dialect.PassthroughPath(c.proxied.Provider, c.path)
	if err != nil {
		return nil, nil, err
	}
	d := c.decision(parsed, model, bodyBytes)
	d.Profile = c.profiles[0].ID
	target := logos.DecisionTarget{Provider: c.proxied.Provider.ID, Cluster: c.proxied.Cluster}
	if c.proxied.Credential != nil {
		target.Credential = c.proxied.Credential.ID
	}
	d.Targets = []logos.DecisionTarget{target}
	if err := c.reservePassing(ctx, d); err != nil {
		return nil, nil, err
	}
	return d, []string{dialect.Rewrite{Path: path, Host: c.proxied.Provider.Authority()}.Encode()}, nil
}
