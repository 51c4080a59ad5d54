package extproc

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// An ExplainRequest is a call that is to be decided and not made.
type ExplainRequest struct {
	Key                            *logos.APIKey
	Path                           string // e.g. /v1/chat/completions
	Profile, Policy, User, Session string // as the headers x-logos-… have them; may be empty
	Body                           []byte
	Seed                           uint64 // of all chance; 0: another one each time
}

// Explain decides a call as it would be decided now, by the same code, and sends nothing. A call that would
// be refused has a decision with its Refusal; the error is what the caller would be told.
func (s *Server) Explain(ctx context.Context, r ExplainRequest) (*logos.Decision, error) {
	c := &call{server: s, now: s.cfg.Now(), seed: cmp.Or(r.Seed, rand.Uint64()|1), explains: true, request: request{
		method: "POST", path: r.Path, route: dialect.ParsePath(r.Path), contentLength: int64(len(r.Body)),
		profile: r.Profile, policy: r.Policy, user: r.User, session: r.Session,
	}}
	if c.snapshot = s.current(); c.snapshot == nil {
		return nil, errStarting()
	}
	c.config = c.snapshot.Config
	c.key, c.project = r.Key, c.config.Project(r.Key.ProjectID)
	if c.project == nil {
		return nil, logos.Errorf(logos.NotFound, "not_found", "the API key is not in force here: try again in a second")
	}
	d, err := c.explain(ctx, r.Body)
	if err == nil {
		return d, nil
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		d = refused.decision
	}
	if d == nil {
		d = c.decision(nil, "", int64(len(r.Body)))
	}
	d.Refusal = asRefusal(err).Code
	return d, asRefusal(err)
}

func (c *call) explain(ctx context.Context, body []byte) (*logos.Decision, error) {
	if c.snapshot.unusable != nil {
		return nil, errPolicies()
	}
	if !c.key.Role.CallsModels() {
		return nil, c.checkUse()
	}
	if err := c.resolveProfiles(); err != nil {
		return nil, err
	}
	passes := c.passesThrough()
	if !passes && c.route.API == logos.APINone {
		return nil, c.unknownPath()
	}
	if err := c.checkAPI(passes); err != nil {
		return nil, err
	}
	if c.contentLength > c.server.cfg.MaxBodyBytes {
		return nil, c.tooLarge()
	}
	c.id = unsentID()
	defer c.release()
	if passes {
		return c.explainPassing(ctx, body)
	}
	d, _, _, err := c.decide(ctx, body)
	return d, err
}

// explainPassing decides a call that passes through, without credentials of the caller's own.
func (c *call) explainPassing(ctx context.Context, body []byte) (*logos.Decision, error) {
	reads, err := c.findProvider()
	if err != nil {
		return nil, err
	}
	if reads {
		d, _, err := c.decideNaming(ctx, body)
		return d, err
	}
	d, _, err := c.decidePassing(ctx, nil, "", c.contentLength)
	return d, err
}
