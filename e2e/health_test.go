package e2e_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// A deployment that fails is left after a few calls, so that only probes reach it, and used again within five
// seconds of its recovery; no call of a caller fails meanwhile. A drained one gets none.
func TestAFailingDeploymentIsLeftAndFoundAgain(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	well := answers(usage{input: 3, output: 4})
	first := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		if failing.Load() {
			fails(500)(p, w, a)
			return
		}
		well(p, w, a)
	})
	second := newProvider(t, well)
	g := start(t, nil)
	g.deploy("m", "", first.openai("one"), second.openai("two"))
	chat := func() (by string) {
		t.Helper()
		r := g.chat("m")
		if r.status != 200 {
			t.Fatalf("a call is answered %v", r)
		}
		return r.header.Get("x-logos-provider")
	}
	if by := chat(); by != "one" {
		t.Fatalf("the first call goes to %q", by)
	}
	failing.Store(true)
	g.eventually("an open breaker", waitLong, func() bool {
		chat()
		return g.metric("logos_targets_unhealthy", `reason="breaker_open"`) == 1
	})
	before, begun := len(first.requests()), time.Now()
	calls := 0
	for ; time.Since(begun) < 3*time.Second; calls++ {
		chat()
	}
	// A probe may be tried twice, as any call may.
	if n := len(first.requests()) - before; calls < 20 || n > 8 {
		t.Errorf("of %d calls, %d reach a deployment whose breaker is open", calls, n)
	}
	failing.Store(false)
	begun = time.Now()
	g.eventually("the first deployment in use again", waitLong, func() bool { return chat() == "one" })
	if took := time.Since(begun); took > 6*time.Second { // five, and what a loaded machine takes
		t.Errorf("a recovered deployment was used after %v", took)
	}
	g.administer("PATCH", "deployments/"+g.administer("GET", "deployments?filter=provider%3D%22one%22", nil)["deployments"].([]any)[0].(object)["id"].(string), object{"drained": true})
	if by := chat(); by != "two" {
		t.Errorf("a drained deployment answers: %q", by)
	}
}
