package extproc

import (
	"fmt"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	groupsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/router/cluster_specifiers/priority_group/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// plan makes the plan of a call that may be tried again.
func (c *call) plan(d *logos.Decision, limits logos.AttemptLimits) *dialect.Plan {
	if !d.Stream { // without a stream, the first token comes with the last
		limits.FirstToken = 0
	}
	at := make([]dialect.PlanTarget, len(d.Targets))
	for i, t := range d.Targets {
		at[i].Cluster = t.Cluster
		if m := c.config.ModelByID(t.Model); m != nil {
			at[i].Window = m.ContextWindow
		}
	}
	p := dialect.NewPlan(c.server.cfg.Now(), limits, dialect.PlanBounds{FirstByte: c.server.cfg.FirstByteTimeout, Idle: c.server.cfg.IdleTimeout}, at)
	return &p
}

// attempts returns the headers that tell Envoy how many attempts there may be, where the first goes, and after
// what there is another.
func (c *call) attempts(d *logos.Decision, plan *dialect.Plan) []*corev3.HeaderValueOption {
	if plan == nil {
		return []*corev3.HeaderValueOption{setHeader("x-envoy-max-retries", strconv.Itoa(len(d.Targets)-1))}
	}
	set := []*corev3.HeaderValueOption{
		setHeader("x-envoy-max-retries", strconv.Itoa(plan.MaxRetries())),
		setHeader(dialect.ClusterHeader, d.Targets[0].Cluster),
	}
	if on := plan.RetryOn(); on != "" {
		set = append(set, setHeader("x-envoy-retry-on", on))
	}
	if plan.Silence < c.server.cfg.FirstByteTimeout {
		set = append(set, setHeader("x-envoy-upstream-rq-per-try-timeout-ms", strconv.FormatInt(max(1, plan.Silence.Milliseconds()), 10)))
	}
	return set
}

// inOrder sends attempt n to the n-th target, on routes that know nothing of plans: those of calls without one, and
// of an Envoy that has not got today's yet.
func inOrder(targets []logos.DecisionTarget) (map[string]*anypb.Any, error) {
	groups := make([]*groupsv3.PriorityGroup, len(targets))
	for i, t := range targets {
		groups[i] = &groupsv3.PriorityGroup{Name: t.Cluster, Clusters: []*groupsv3.ClusterWeight{{ClusterName: t.Cluster, Weight: wrapperspb.UInt32(1)}}}
	}
	route, err := anypb.New(&groupsv3.PriorityGroupsOverride{PriorityGroups: groups})
	if err != nil {
		return nil, fmt.Errorf("encode the targets: %w", err)
	}
	return map[string]*anypb.Any{RouteNamespace: route}, nil
}
