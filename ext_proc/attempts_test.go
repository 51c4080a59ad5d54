package extproc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// planOf returns the plan in an answer, and its header that bounds the time of an attempt.
func planOf(x exchange) (plan, perTry string) {
	set, _ := mutation(x.last().GetRequestBody().GetResponse().GetHeaderMutation())
	fields := x.last().GetDynamicMetadata().GetFields()[extproc.Namespace].GetStructValue().GetFields()
	return fields[dialect.PlanKey].GetStringValue(), set["x-envoy-upstream-rq-per-try-timeout-ms"]
}

func TestTriesEachTargetTwiceUnlessAPolicySaysOtherwise(t *testing.T) {
	stream, whole := `{"model":"small","stream":true}`, `{"model":"small"}`
	for _, c := range []struct {
		name   string
		limits logos.AttemptLimits
		body   string
		want   string // of the plan, from the number of attempts on
		perTry string
	}{
		{"without a policy", logos.AttemptLimits{}, stream, "4 0 10000 900000 nelsx", ""},
		{"with limits", logos.AttemptLimits{Max: 2, TotalTime: time.Minute, FirstToken: 2 * time.Second}, stream, "2 60000 60000 2000 nelsxh", "2000"},
		{"with an answer as a whole, whose first token comes last", logos.AttemptLimits{FirstToken: 2 * time.Second}, whole, "4 0 10000 900000 nelsx", ""},
		{"after some outcomes alone", logos.AttemptLimits{On: []logos.RetryCondition{logos.RetryServerError, logos.RetryContextLength}}, whole, "4 0 10000 900000 ex", ""},
	} {
		config := config(t, func(r *logos.Resources) {
			r.Policies = append(r.Policies, &logos.Policy{ID: 1, Name: "attempts", Attempts: c.limits})
			r.Models[0].ContextWindow = 8192
		})
		plan, perTry := planOf(newGateway(t, config).chat(c.body))
		want := fmt.Sprintf("%d %s;%s 8192 %s 8192", now.UnixMilli(), c.want, clusterOf(t, config, 1), clusterOf(t, config, 2))
		if plan != want || perTry != c.perTry {
			t.Errorf("%s, the plan is %q and an attempt's limit %q, want %q and %q", c.name, plan, perTry, want, c.perTry)
		}
	}
}

func TestNamesTheFirstTargetToRoutesWithAndWithoutPlans(t *testing.T) {
	for _, model := range []string{"small", "big", "auto"} {
		g := newGateway(t, config(t, nil))
		x := g.chat(`{"model":"` + model + `"}`)
		set, _ := mutation(x.last().GetRequestBody().GetResponse().GetHeaderMutation())
		route, targets := routeOf(t, x.last()), begunTargets(g)
		if len(route) != len(targets) || set[dialect.ClusterHeader] != route[0] || set["x-envoy-max-retries"] != fmt.Sprint(4*len(targets)-1) {
			t.Errorf("for %s, it sets %v; targets %v", model, set, route)
		}
	}
}

func TestACallThatPassesThroughIsTriedOnce(t *testing.T) {
	c := config(t, nil)
	x := newGateway(t, c).call("GET", "/v1/files", "", "authorization", "Bearer "+key, "x-logos-proxy", "true")
	if plan, _ := planOf(x); plan != "" || strings.Contains(fmt.Sprint(x.last()), dialect.ClusterHeader) {
		t.Errorf("it has the plan %q: %v", plan, x.last())
	}
}
