package extproc

import (
	"fmt"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	groupsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/router/cluster_specifiers/priority_group/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// PlanHeader is the gRPC metadata in which an Envoy says that it can follow plans. One that still drains
// connections of an older configuration does not, and gets the targets in their order instead.
const PlanHeader = "x-logos-plans"

// plan makes the plan of a call that may be tried again.
func (c *call) plan(d *logos.Decision, limits logos.AttemptLimits) *dialect.Plan {
	if !c.plans {
		return nil
	}
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
	p := dialect.NewPlan(c.server.cfg.Now(), limits, c.server.cfg.FirstByteTimeout, at)
	return &p
}

// setRoute tells Envoy where the attempts go, and returns the headers that say how many there may be.
func (c *call) setRoute(answer *extprocv3.ProcessingResponse, d *logos.Decision, fields map[string]*structpb.Value, plan *dialect.Plan) ([]*corev3.HeaderValueOption, error) {
	if plan == nil {
		answer.DynamicMetadata = namespace(fields)
		var err error
		answer.TypedDynamicMetadata, err = inOrder(d.Targets)
		return []*corev3.HeaderValueOption{setHeader("x-envoy-max-retries", strconv.Itoa(len(d.Targets)-1))}, err
	}
	fields[dialect.PlanKey] = structpb.NewStringValue(plan.Encode())
	answer.DynamicMetadata = namespace(fields)
	answer.DynamicMetadata.Fields[RouteNamespace] = structpb.NewStructValue(startingAt(d.Targets[0].Cluster))
	set := []*corev3.HeaderValueOption{setHeader("x-envoy-max-retries", strconv.Itoa(plan.MaxRetries()))}
	if on := plan.RetryOn(); on != "" {
		set = append(set, setHeader("x-envoy-retry-on", on))
	}
	if plan.Silence < c.server.cfg.FirstByteTimeout {
		set = append(set, setHeader("x-envoy-upstream-rq-per-try-timeout-ms", strconv.FormatInt(max(time.Millisecond, plan.Silence).Milliseconds(), 10)))
	}
	return set, nil
}

// inOrder sends attempt n to the n-th target.
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

// startingAt sends the first attempt to a cluster and any other to where what follows is decided. Envoy reads
// it as it reads a PriorityGroupsOverride; typed metadata could not be changed between attempts.
func startingAt(cluster string) *structpb.Struct {
	group := func(name string) *structpb.Value {
		at := map[string]*structpb.Value{"cluster_name": structpb.NewStringValue(name), "weight": structpb.NewNumberValue(1)}
		return structpb.NewStructValue(object(map[string]*structpb.Value{
			"name":     structpb.NewStringValue(name),
			"clusters": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStructValue(object(at))}}),
		}))
	}
	groups := []*structpb.Value{group(cluster), group(dialect.BetweenAttempts)}
	return object(map[string]*structpb.Value{"priority_groups": structpb.NewListValue(&structpb.ListValue{Values: groups})})
}
