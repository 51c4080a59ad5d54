package extproc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// A call is one request on its way to a decision. It is used by one goroutine and dropped with it.
type call struct {
	server *Server
	request
	caller
	epoch    string
	source   string // address of the caller, as Envoy knows it
	now      time.Time
	snapshot *Snapshot        // loaded once
	config   *logos.Config    // the snapshot's
	asker    *policy.Caller   // for policies; nil: not asked for yet
	seed     uint64           // of all chance; 0: by the call's id
	explains bool             // the call is not made
	proxied  *logos.Target    // of a pass-through call
	spending *spending        // nil: no budget counts it
	content  *dialect.Content // of the body; nil: not read yet
	timeout  time.Duration    // of the whole call; 0: the route's
	outcome  string           // for the metric
	offered  []*logos.Target  // that failed or were slow, and that this call may try
	claimed  []*logos.Target  // that no other call tries meanwhile
	// bodySeen says that the answer is to the body's message.
	bodySeen bool
}

// onHeaders is the first phase. It answers at once, or asks for the body.
func (c *call) onHeaders(ctx context.Context) (answer *extprocv3.ProcessingResponse, wantsBody bool, err error) {
	if c.snapshot = c.server.current(); c.snapshot == nil {
		return nil, false, errStarting()
	}
	c.config = c.snapshot.Config
	if probe := c.server.cfg.Probes.take(c.probe, c.now); probe != nil {
		answer, err = c.sendProbe(probe)
		return answer, false, err
	}
	if err := c.authenticate(); err != nil {
		return nil, false, err
	}
	if err := c.checkUse(); err != nil {
		return nil, false, err
	}
	if c.snapshot.unusable != nil {
		return nil, false, errPolicies()
	}
	if c.upgrade {
		return nil, false, logos.Errorf(logos.Unsupported, "upgrade_not_supported", "WebSocket and other upgrades are not supported: use plain HTTP requests, streamed where you need it")
	}
	if c.method == "TRACE" || c.method == "CONNECT" { // the first makes a provider send the stored credential back
		return nil, false, logos.Errorf(logos.Unsupported, "method_not_supported", "the method %s is not supported", c.method)
	}
	if c.contentLength > c.server.cfg.MaxBodyBytes {
		return nil, false, c.tooLarge()
	}
	if err := c.resolveProfiles(); err != nil {
		return nil, false, err
	}
	passes := c.passesThrough()
	if err := c.checkAPI(passes); err != nil {
		return nil, false, err
	}
	if passes {
		return c.startPassthrough(ctx)
	}
	if c.route.Models && c.method == "GET" {
		c.outcome = "answered"
		answer, err = c.listModels()
		return answer, false, err
	}
	switch {
	case c.route.API == logos.APINone:
		return nil, false, c.unknownPath()
	case c.method != "POST":
		return nil, false, logos.Errorf(logos.Invalid, "method_not_allowed", "use POST for this path")
	case c.endStream || c.contentLength == 0:
		return nil, false, logos.Errorf(logos.Invalid, "body_required", "the request has no body: send a JSON object with a \"model\"")
	}
	return continueWithBody(), true, nil
}

func errStarting() error {
	return logos.Errorf(logos.Unavailable, "gateway_starting", "the gateway has no configuration yet: try again in a few seconds")
}

func errPolicies() error {
	return logos.Errorf(logos.Unavailable, "policies_unusable", "the gateway can't use its policies, and decides nothing without them: an administrator finds the reason in its log")
}

func (c *call) unknownPath() error {
	return logos.Errorf(logos.NotFound, "unknown_path", "%s is not an API that goes by model: use /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings, /v1/messages or /v1/models, or the header x-logos-proxy where pass-through is allowed", printable(c.path))
}

// onBody is the second phase.
func (c *call) onBody(ctx context.Context, body []byte) (*extprocv3.ProcessingResponse, bool, error) {
	c.bodySeen = true
	defer c.releaseUnsent()
	if int64(len(body)) > c.server.cfg.MaxBodyBytes {
		return nil, false, c.tooLarge()
	}
	if c.proxied != nil {
		d, rewrites, err := c.decideNaming(ctx, body)
		return c.sendPassing(d, rewrites, err)
	}
	answer, err := c.byModel(ctx, body)
	return answer, false, err
}

func (c *call) tooLarge() error {
	return logos.Errorf(logos.TooLarge, "request_too_large", "the request body is larger than the limit of %d bytes", c.server.cfg.MaxBodyBytes)
}

// byModel decides a call of a model API.
func (c *call) byModel(ctx context.Context, body []byte) (*extprocv3.ProcessingResponse, error) {
	d, attempts, rewrites, err := c.decide(ctx, body)
	if err != nil {
		return nil, err
	}
	return c.send(d, rewrites, c.plan(d, attempts))
}

// decide chooses targets for a call of a model API, reserves what it may use there, and says what each changes.
func (c *call) decide(ctx context.Context, body []byte) (*logos.Decision, logos.AttemptLimits, []string, error) {
	var none logos.AttemptLimits
	parsed, err := dialect.Scan(body)
	if err != nil {
		return nil, none, nil, err
	}
	name := c.route.Model
	if name == "" {
		name = parsed.Model
	}
	d := c.decision(&parsed, name, int64(len(body)))
	w, err := c.wish(name)
	if err != nil {
		return nil, none, nil, &refusal{decision: d, err: asRefusal(err)}
	}
	c.spends(d, &parsed, body)
	choice, grant := c.within(ctx, func() policy.Choice { return c.chooseAndClaim(w, &parsed, body, name) })
	record(d, &choice, c.explains)
	if len(choice.Targets) == 0 {
		return nil, none, nil, &refusal{decision: d, err: c.noTarget(&choice, name)}
	}
	d.Profile, d.Reservations, d.ClampedTo = choice.Profile.ID, grant.Reservations, grant.MaxTokens
	rewrites := make([]string, len(choice.Targets))
	d.Targets = make([]logos.DecisionTarget, len(choice.Targets))
	for i, t := range choice.Targets {
		d.Targets[i], rewrites[i] = c.target(t, &parsed, grant.Limit(t))
	}
	return d, choice.Attempts, rewrites, nil
}

// target returns a target as it stands in the decision, and what an attempt there changes. maxTokens is the output
// limit that budgets want said; 0: none.
func (c *call) target(t *logos.Target, parsed *dialect.Request, maxTokens int64) (logos.DecisionTarget, string) {
	api := c.route.API
	rewrite := dialect.Rewrite{
		Path:    dialect.TargetPath(t, api, c.route.Query),
		Host:    t.Provider.Authority(),
		Splices: parsed.Splices(api, providerModel(t), t.Deployment.IncludeUsage),
	}
	if maxTokens > 0 {
		rewrite.Splices = parsed.Limit(api, t.Provider.Dialect, maxTokens, rewrite.Splices)
	}
	return logos.DecisionTarget{
		Deployment: t.Deployment.ID, Model: t.Model.ID, Provider: t.Provider.ID, Credential: t.Credential.ID, Cluster: t.Cluster,
		AsksUsage: t.Deployment.IncludeUsage && parsed.AsksUsage(api),
	}, rewrite.Encode()
}

func providerModel(t *logos.Target) string {
	if t.Deployment.ProviderModel != "" {
		return t.Deployment.ProviderModel
	}
	return t.Model.Name
}

// noTarget says why nothing is left, and to whom it is to be told: what only time can change is to be tried
// again.
func (c *call) noTarget(choice *policy.Choice, name string) *logos.Error {
	if err := c.overBudget(choice.Candidates); err != nil {
		return err
	}
	switch {
	case !choice.Granted && len(c.key.Models) > 0:
		return logos.Errorf(logos.Denied, "model_not_allowed", "this key may use no model: its access profile grants none of those that it is limited to")
	case !choice.Granted:
		return logos.Errorf(logos.Denied, "model_not_allowed", "this key may use no model: connect one to its access profile")
	case all(choice.Candidates, func(code string) bool { return code == policy.APINotServed }):
		return logos.Errorf(logos.Invalid, "api_not_supported", "no deployment of %.256q serves the %s API: use another API or another model", name, c.route.API)
	case lasting(choice) && has(choice, policy.ContextLength) && !byPolicy(choice):
		return logos.Errorf(logos.Invalid, "context_length_exceeded", "the request is too long for %.256q: %s. Shorten it, lower max_tokens, or use a model with a larger context window", name, choice.Explain())
	case limited(choice):
		return logos.Errorf(logos.Exhausted, "rate_limited", "every provider of %.256q asks for a pause: %s. Try again a little later", name, choice.Explain())
	case lasting(choice) && byPolicy(choice):
		return logos.Errorf(logos.Denied, "policy_excludes_all", "policies leave no deployment for %.256q: %s", name, choice.Explain())
	}
	return logos.Errorf(logos.Unavailable, "no_deployment", "no deployment can serve %.256q: %s", name, choice.Explain())
}

// limited says whether all that could serve the call has been asked too much.
func limited(choice *policy.Choice) (is bool) {
	for i, passing := range choice.Passing {
		x := &choice.Candidates[i]
		switch {
		case x.Excluded == policy.Unhealthy && x.What == policy.RateLimited:
			is = true
		case passing:
			return false
		}
	}
	return is
}

// lasting says whether no time will change that nothing is left.
func lasting(choice *policy.Choice) bool { return !slices.Contains(choice.Passing, true) }

// byPolicy says whether a policy excludes some candidate.
func byPolicy(choice *policy.Choice) bool {
	return slices.ContainsFunc(choice.Candidates, func(x logos.DecisionCandidate) bool { return x.Policy != 0 })
}

// has says whether some candidate is excluded for a reason.
func has(choice *policy.Choice, reason string) bool {
	return slices.ContainsFunc(choice.Candidates, func(x logos.DecisionCandidate) bool { return x.Excluded == reason })
}

// all says whether every candidate is excluded for such a reason; not where there is none.
func all(candidates []logos.DecisionCandidate, is func(code string) bool) bool {
	for i := range candidates {
		if !is(candidates[i].Excluded) {
			return false
		}
	}
	return len(candidates) > 0
}

// decision starts the record of the decision with what is known of the call.
func (c *call) decision(parsed *dialect.Request, model string, bodyBytes int64) *logos.Decision {
	d := &logos.Decision{
		Start: c.now.UnixMicro(), Deadline: c.now.Add(c.server.cfg.MaxDuration).UnixMicro(), Revision: c.config.Revision,
		API: c.route.API, Model: clip(model, dialect.MaxModelLength), BodyBytes: bodyBytes,
		Team: c.project.TeamID, Project: c.project.ID, APIKey: c.key.ID, Session: clip(c.session, 128),
	}
	user := c.user
	if parsed != nil {
		d.Stream, d.MaxTokens = parsed.Stream, parsed.MaxTokens
		if user == "" {
			user = parsed.User
		}
	}
	d.EndUser = c.config.Hasher.EndUser(c.project.ID, clip(user, 1024))
	return d
}

// send notes the intent and tells Envoy what to do. Without a plan, attempts go to the targets in their order.
func (c *call) send(d *logos.Decision, rewrites []string, plan *dialect.Plan) (*extprocv3.ProcessingResponse, error) {
	encoded, settling, err := d.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode the decision: %w", err)
	}
	if !logos.ValidCallID(c.id) { // Envoy makes nothing else, and nothing else can be recorded
		return nil, fmt.Errorf("the request id %.64q is no UUID", c.id)
	}
	if err := c.server.intents.Begin(c.id, c.epoch, d, encoded); err != nil {
		return nil, err
	}
	c.outcome = "sent"
	if sent := c.server.cfg.Sent; sent != nil {
		sent(c.id, d)
	}
	return c.dispatch(d, settling, rewrites, plan)
}

// clip cuts a text to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "")
}

// printable shows a path in an error, without its query.
func printable(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return fmt.Sprintf("%.200q", path)
}
