package inflight_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/inflight"
)

func open(t *testing.T, dir string, opt inflight.Options) *inflight.Calls {
	t.Helper()
	c, err := inflight.Open(t.Context(), dir, opt, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reopen(t *testing.T, c *inflight.Calls, dir string, opt inflight.Options) *inflight.Calls {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, opt)
}

// begin notes a call with the start time and target clusters given.
func begin(t *testing.T, c *inflight.Calls, id logos.CallID, start int64, clusters ...string) {
	t.Helper()
	if err := tryBegin(c, id, start, clusters...); err != nil {
		t.Fatalf("begin %s: %v", id, err)
	}
}

func tryBegin(c *inflight.Calls, id logos.CallID, start int64, clusters ...string) error {
	d := &logos.Decision{Start: start, Project: 1, APIKey: 2, Model: "größe \"x\"\n"}
	for _, name := range clusters {
		d.Targets = append(d.Targets, logos.DecisionTarget{Provider: 1, Cluster: name})
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return c.Begin(id, "epoch-1", d, encoded)
}

func ids(c *inflight.Calls) string {
	var out []string
	for _, i := range c.Select(func(*inflight.Intent) bool { return true }) {
		out = append(out, string(i.ID))
	}
	return strings.Join(out, " ")
}

func TestKnowsWhatIsUnderWay(t *testing.T) {
	c := open(t, t.TempDir(), inflight.Options{})
	defer c.Close()
	begin(t, c, "b", 20)
	begin(t, c, "c", 30)
	begin(t, c, "a", 10)
	if got := ids(c); got != "a b c" || c.Len() != 3 {
		t.Errorf("%d calls are under way: %s; want a b c, the oldest first", c.Len(), got)
	}
	late := c.Select(func(i *inflight.Intent) bool { return i.Decision.Start > 20 })
	if len(late) != 1 || late[0].ID != "c" {
		t.Errorf("%d calls began after 20, want c alone", len(late))
	}
	c.End("b", "unknown", "b")
	if _, ok := c.Get("b"); ok || ids(c) != "a c" {
		t.Errorf("after b ended, %s are under way and b is: %t", ids(c), ok)
	}
	if i, ok := c.Get("a"); !ok || i.Epoch != "epoch-1" || i.Decision.Start != 10 {
		t.Errorf("a is %+v, %t", i, ok)
	}
	c.End()
	c.End("a", "c")
	if c.Len() != 0 {
		t.Errorf("after all ended, %s are under way", ids(c))
	}
}

func TestRefusesARequestIDThatIsUnderWay(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{})
	begin(t, c, "a", 1, "one")
	if err := tryBegin(c, "a", 2, "two"); logos.KindOf(err) != logos.Internal || err == nil {
		t.Errorf("the same request id again gives %v", err)
	}
	if c.Uses("two") {
		t.Error("the refused call uses its cluster")
	}
	c = reopen(t, c, dir, inflight.Options{})
	defer c.Close()
	if err := tryBegin(c, "a", 2); err == nil {
		t.Error("after a restart, the request id is free")
	}
	c.End("a")
	begin(t, c, "a", 3)
}

func TestOpensAgainWhatARestartFinds(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{})
	begin(t, c, "a", 1, "one")
	begin(t, c, "b", 2, "two")
	begin(t, c, "c", 3, "two", "three")
	everything := func(*inflight.Intent) bool { return true }
	want := c.Select(everything)
	c.End("b") // ends are not written
	for round := range 3 {
		c = reopen(t, c, dir, inflight.Options{})
		if diff := cmp.Diff(want, c.Select(everything), cmpopts.IgnoreUnexported(inflight.Intent{})); diff != "" {
			t.Fatalf("restart %d: intents differ (-want +got):\n%s", round, diff)
		}
		if !c.Uses("one") || !c.Uses("two") || !c.Uses("three") {
			t.Errorf("restart %d: a cluster is not in use", round)
		}
	}
	c.End("a", "b", "c")
	c = reopen(t, c, dir, inflight.Options{})
	defer c.Close()
	if c.Len() != 0 {
		t.Errorf("after all ended and a restart, %s are under way", ids(c))
	}
}

func TestOddIDsCannotBreakTheFile(t *testing.T) {
	for _, odd := range []string{"a\nb", `a","e":"x`, `a\`, "a\x00", "ü", "a\u2028"} {
		dir := t.TempDir()
		c := open(t, dir, inflight.Options{})
		begin(t, c, logos.CallID(odd), 1)
		begin(t, c, "next", 2)
		c = reopen(t, c, dir, inflight.Options{})
		if got := ids(c); c.Len() != 2 || !strings.HasSuffix(got, " next") {
			t.Errorf("with the id %q, a restart finds %q", odd, got)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPauseRefusesNewCallsUntilEveryReasonIsGone(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{})
	begin(t, c, "before", 1)
	refused := func(why string) {
		t.Helper()
		err := tryBegin(c, "during", 2, "one")
		if logos.KindOf(err) != logos.Unavailable || !strings.Contains(err.Error(), why) {
			t.Errorf("a call gives %v, want an error of kind Unavailable that says %q", err, why)
		}
	}
	c.Pause("disk", "its disk is almost full")
	refused("its disk is almost full")
	c.Pause("disk", "its disk is full")
	refused("its disk is full")
	c.Pause("log", "its log is behind")
	c.Resume("disk")
	refused("its log is behind")
	c.Resume("other")
	refused("its log is behind")
	c.End("before")
	if c.Len() != 0 || c.Uses("one") {
		t.Error("a refused call is under way, or an end was refused")
	}
	c.Resume("log")
	begin(t, c, "after", 3)
	c = reopen(t, c, dir, inflight.Options{})
	defer c.Close()
	if strings.Contains(ids(c), "during") {
		t.Errorf("the refused call was written: %s", ids(c))
	}
}

func TestUsesCountsCalls(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{})
	begin(t, c, "a", 1, "one", "two")
	begin(t, c, "b", 2, "two", "two")
	begin(t, c, "c", 3)
	c = reopen(t, c, dir, inflight.Options{})
	defer c.Close()
	for _, step := range []struct {
		end      logos.CallID
		one, two bool
	}{{"c", true, true}, {"a", false, true}, {"a", false, true}, {"b", false, false}} {
		c.End(step.end)
		if one, two := c.Uses("one"), c.Uses("two"); one != step.one || two != step.two {
			t.Errorf("after %s ended, one is used: %t and two: %t; want %t and %t", step.end, one, two, step.one, step.two)
		}
	}
	if c.Uses("") {
		t.Error("a call without targets uses a cluster")
	}
}

func TestMetricsSayWhatIsUnderWay(t *testing.T) {
	reg := prometheus.NewRegistry()
	c, err := inflight.Open(t.Context(), t.TempDir(), inflight.Options{}, zap.NewNop(), reg)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, c, "a", 1)
	begin(t, c, "b", 2)
	c.Pause("one", "")
	c.Pause("two", "")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c.Resume("one")
	c.Resume("two")
	if err := tryBegin(c, "c", 3); logos.KindOf(err) != logos.Unavailable {
		t.Errorf("a call that can't be written gives %v, want an error of kind Unavailable", err)
	}
	c.Pause("one", "")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
	}
	if diff := cmp.Diff(map[string]float64{"logos_calls_in_flight": 2, "logos_paused": 1, "logos_intents_failed_total": 1}, got); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{SegmentBytes: 1000})
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range 50 {
				id := logos.CallID(fmt.Sprintf("%d-%d", worker, n))
				if err := tryBegin(c, id, int64(n), "one"); err != nil {
					t.Error(err)
				}
				if n > 0 {
					c.End(logos.CallID(fmt.Sprintf("%d-%d", worker, n-1)))
				}
				c.Uses("one")
			}
		})
	}
	group.Wait()
	if c.Len() != 8 || !c.Uses("one") {
		t.Errorf("%d calls are under way, want the last of each of 8", c.Len())
	}
	for worker := range 8 {
		c.End(logos.CallID(fmt.Sprintf("%d-49", worker)))
	}
	if c.Uses("one") || len(files(t, dir)) != 1 {
		t.Errorf("after all ended, these files are left: %v", files(t, dir))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
