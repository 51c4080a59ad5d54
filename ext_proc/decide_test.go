package extproc_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	groupsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/router/cluster_specifiers/priority_group/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// A rewrite is what an answer tells Envoy to change for one cluster.
type rewrite struct{ path, host, body string }

// rewriteOf decodes the rewrite for a cluster and applies it to a body.
func rewriteOf(t *testing.T, answer *extprocv3.ProcessingResponse, cluster, body string) rewrite {
	t.Helper()
	text := answer.GetDynamicMetadata().GetFields()[extproc.Namespace].GetStructValue().GetFields()[cluster].GetStringValue()
	var parts []string
	for text != "" {
		length, rest, found := strings.Cut(text, ":")
		n, err := strconv.Atoi(length)
		if !found || err != nil || n > len(rest) {
			t.Fatalf("the rewrite of %s is cut at %q", cluster, text)
		}
		parts, text = append(parts, rest[:n]), rest[n:]
	}
	if len(parts) < 2 || len(parts)%3 != 2 {
		t.Fatalf("the rewrite of %s is %q", cluster, parts)
	}
	var splices []dialect.Splice
	for s := range slices.Chunk(parts[2:], 3) {
		at, err1 := strconv.Atoi(s[0])
		cut, err2 := strconv.Atoi(s[1])
		if err1 != nil || err2 != nil {
			t.Fatalf("a splice is %q", s)
		}
		splices = append(splices, dialect.Splice{At: at, Cut: cut, With: s[2]})
	}
	return rewrite{parts[0], parts[1], string(dialect.Apply([]byte(body), splices))}
}

// routeOf returns the clusters in the order in which Envoy shall try them.
func routeOf(t *testing.T, answer *extprocv3.ProcessingResponse) (clusters []string) {
	t.Helper()
	packed := answer.GetTypedDynamicMetadata()[extproc.RouteNamespace]
	if packed == nil {
		return nil
	}
	var groups groupsv3.PriorityGroupsOverride
	if err := packed.UnmarshalTo(&groups); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.GetPriorityGroups() {
		if len(g.GetClusters()) != 1 || g.GetClusters()[0].GetClusterName() != g.GetName() || g.GetClusters()[0].GetWeight().GetValue() != 1 {
			t.Errorf("the group is %v, want its one cluster", g)
		}
		clusters = append(clusters, g.GetName())
	}
	return clusters
}

// mutation returns the headers that an answer sets and removes.
func mutation(m *extprocv3.HeaderMutation) (set map[string]string, removed []string) {
	set = make(map[string]string)
	for _, h := range m.GetSetHeaders() {
		set[h.GetHeader().GetKey()] = string(h.GetHeader().GetRawValue())
	}
	return set, m.GetRemoveHeaders()
}

func TestDecidesACallInOneRoundTrip(t *testing.T) {
	c := config(t, nil)
	g := newGateway(t, c)
	const body = `{"model":"small","stream":true,"max_tokens":50,"user":"eve","messages":[]}`
	x := g.chat(body, "x-logos-session", "s-1")
	if x.err != nil || len(x.answers) != 2 {
		t.Fatalf("%d answers, then %v; want two and the end", len(x.answers), x.err)
	}
	if first := x.answers[0]; first.GetRequestHeaders() == nil || first.GetModeOverride() != nil || first.GetDynamicMetadata() != nil {
		t.Errorf("the answer to the headers is %v, want a request for the body alone", first)
	}
	answer := x.answers[1]
	one, two := clusterOf(t, c, 1), clusterOf(t, c, 2)
	if diff := cmp.Diff([]string{one, two}, routeOf(t, answer)); diff != "" {
		t.Errorf("targets differ (-want +got):\n%s", diff)
	}
	common := answer.GetRequestBody().GetResponse()
	set, removed := mutation(common.GetHeaderMutation())
	if diff := cmp.Diff(map[string]string{"x-envoy-max-retries": "7", "x-envoy-retry-on": "reset,connect-failure", "x-logos-cluster": one}, set); diff != "" || !slices.Equal(removed, []string{"authorization"}) || !common.GetClearRouteCache() || common.GetBodyMutation() != nil {
		t.Errorf("it removes %v and sets (-want +got):\n%s\nin %v", removed, diff, common)
	}
	wantRewrites := map[string]rewrite{
		one: {chat, "one.example", `{"stream_options":{"include_usage":true},"model":"small-2026","stream":true,"max_tokens":50,"user":"eve","messages":[]}`},
		two: {"/base/chat/completions?x=1", "two.example:81", body},
	}
	for cluster, want := range wantRewrites {
		if got := rewriteOf(t, answer, cluster, body); got != want {
			t.Errorf("at %s the request is\n%+v, want\n%+v", cluster, got, want)
		}
	}
	d, encoded := g.decisionOf(answer)
	want := &logos.Decision{
		Start: now.UnixMicro(), Deadline: now.Add(time.Hour).UnixMicro(), Revision: 17, API: logos.APIChat, Stream: true, Model: "small",
		Team: 9, Project: 1, APIKey: 3, Profile: 4, EndUser: c.Hasher.EndUser(1, "eve"), Session: "s-1", BodyBytes: int64(len(body)), MaxTokens: 50,
		Targets: []logos.DecisionTarget{{Deployment: 1, Model: 1, Provider: 1, Credential: 1, Cluster: one, AsksUsage: true}, {Deployment: 2, Model: 1, Provider: 2, Credential: 2, Cluster: two}},
		Explanation: logos.Explanation{
			Candidates: []logos.DecisionCandidate{{Deployment: 1}, {Deployment: 2}, {Deployment: 3, Excluded: "no_credential"}},
		},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("the decision differs (-want +got):\n%s", diff)
	}
	if fields := answer.GetDynamicMetadata().GetFields()[extproc.Namespace].GetStructValue().GetFields(); len(fields) != 4 {
		t.Errorf("the metadata has %d fields, want the decision, its plan and a rewrite for each of two clusters", len(fields))
	}
	begun := g.intents.all()
	if len(begun) != 1 || begun[0].id != callID || begun[0].epoch != epoch || begun[0].encoded != encoded || !cmp.Equal(begun[0].decision, want) {
		t.Errorf("the intents are %+v, want that of the decision", begun)
	}
}

func TestTakesTheKeyFromEachHeaderAndRemovesIt(t *testing.T) {
	for _, c := range []struct {
		headers []string
		removed []string
	}{
		{[]string{"authorization", "bearer  " + key}, []string{"authorization"}},
		{[]string{"x-api-key", key}, []string{"x-api-key"}},
		{[]string{"api-key", key}, []string{"api-key"}},
		{[]string{"logos-key", key}, []string{"logos-key"}},
		{[]string{"logos_key", " " + key + " "}, []string{"logos_key"}},
		{[]string{"logos-key", key, "authorization", "Bearer " + key}, []string{"logos-key", "authorization"}},
		{[]string{"logos-key", key, "authorization", "Bearer sk-of-the-caller"}, []string{"logos-key"}},
		{[]string{"authorization", "Basic x", "x-api-key", key, "api-key", "of-azure"}, []string{"x-api-key"}},
	} {
		g := newGateway(t, config(t, nil))
		x := g.call("POST", chat, `{"model":"small"}`, c.headers...)
		_, removed := mutation(x.last().GetRequestBody().GetResponse().GetHeaderMutation())
		if !slices.Equal(removed, c.removed) {
			t.Errorf("with %q, it removes %q, want %q; answer %v", c.headers, removed, c.removed, x.last().GetImmediateResponse())
		}
	}
}

func TestNotesWhichTargetsAreAskedForUsage(t *testing.T) {
	for _, c := range []struct {
		path, body string
		want       []bool // of the targets in their order
	}{
		{chat, `{"model":"small","stream":true}`, []bool{true, false}},
		{chat, `{"model":"small"}`, []bool{false, false}},
		{"/v1/responses", `{"model":"small","stream":true}`, []bool{false, false}},
	} {
		g := newGateway(t, config(t, nil))
		g.call("POST", c.path, c.body, "x-api-key", key)
		var got []bool
		for _, target := range begunTargets(g) {
			got = append(got, target.AsksUsage)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s of %s asks for usage: %t, want %t", c.body, c.path, got, c.want)
		}
	}
}

func begunTargets(g *gateway) []logos.DecisionTarget {
	if all := g.intents.all(); len(all) == 1 {
		return all[0].decision.Targets
	}
	return nil
}

// The choice of profile, policy and readiness shows in the targets.
func TestChoosesAmongWhatTheCallMayUse(t *testing.T) {
	second := func(r *logos.Resources) {
		r.Profiles = append(r.Profiles, &logos.Profile{ID: 5, ProjectID: 1, Name: "Second", Models: []logos.ModelID{1}, Grants: []logos.Grant{{Provider: 2, Credential: 2}}})
	}
	bound := func(r *logos.Resources) { second(r); r.APIKeys[0].ProfileID = 5 }
	for _, c := range []struct {
		name     string
		change   func(*logos.Resources)
		inactive logos.DeploymentID
		path     string
		body     string
		headers  []string
		want     []logos.DeploymentID
		profile  logos.ProfileID
	}{
		{"all profiles", second, 0, chat, `{"model":"small"}`, nil, []logos.DeploymentID{1, 2}, 4},
		{"a profile by name", second, 0, chat, `{"model":"small"}`, []string{"x-logos-profile", "second"}, []logos.DeploymentID{2}, 5},
		{"a profile by id", second, 0, chat, `{"model":"small"}`, []string{"x-logos-profile", "5"}, []logos.DeploymentID{2}, 5},
		{"the key's own profile", bound, 0, chat, `{"model":"small"}`, nil, []logos.DeploymentID{2}, 5},
		{"a policy", nil, 0, chat, `{"model":"whatever"}`, []string{"x-logos-policy", "AUTO"}, []logos.DeploymentID{1, 2, 4}, 4},
		{"a policy and no model", nil, 0, chat, `{}`, []string{"x-logos-policy", "auto"}, []logos.DeploymentID{1, 2, 4}, 4},
		{"a cluster that is not ready", nil, 1, chat, `{"model":"small"}`, nil, []logos.DeploymentID{2}, 4},
		{"a model in the path", nil, 0, "/openai/deployments/big/chat/completions?api-version=1", `{"messages":[]}`, nil, []logos.DeploymentID{4}, 4},
		{"another API", nil, 0, "/v1/messages", `{"model":"small"}`, nil, []logos.DeploymentID{2}, 4},
		{"a model called auto", func(r *logos.Resources) { r.Models[1].Name = "auto" }, 0, chat, `{"model":"auto"}`, nil, []logos.DeploymentID{4}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := config(t, c.change)
			g := newGateway(t, config)
			if c.inactive != 0 {
				g.inactive[clusterOf(t, config, c.inactive)] = true
			}
			x := g.call("POST", c.path, c.body, append([]string{"x-api-key", key}, c.headers...)...)
			d, _ := g.decisionOf(x.last())
			if d == nil || d.Refusal != "" {
				t.Fatalf("refused: %v", x.last().GetImmediateResponse())
			}
			var got []logos.DeploymentID
			for _, target := range d.Targets {
				got = append(got, target.Deployment)
			}
			if !slices.Equal(got, c.want) || d.Profile != c.profile {
				t.Errorf("targets are %v under profile %d, want %v under %d", got, d.Profile, c.want, c.profile)
			}
		})
	}
}

func TestBoundsWhatItKeepsOfACaller(t *testing.T) {
	g := newGateway(t, config(t, nil))
	g.chat(`{"model":"small"}`, "x-logos-session", strings.Repeat("ü", 200), "x-logos-user", "from the header")
	g.chat(`{"model":"small","user":"from the body"}`, "x-logos-session", "\xff\xfe", "x-logos-user", "from the header")
	begun := g.intents.all()
	if len(begun) != 2 {
		t.Fatalf("%d calls are sent", len(begun))
	}
	if got := begun[0].decision.Session; got != strings.Repeat("ü", 64) {
		t.Errorf("the session is %q", got)
	}
	if begun[1].decision.Session != "" || begun[0].decision.EndUser != begun[1].decision.EndUser || begun[0].decision.EndUser == "" {
		t.Errorf("the calls are %+v", begun)
	}
	if text := fmt.Sprint(begun); strings.Contains(text, "from the") {
		t.Errorf("the end user is kept in the clear: %s", text)
	}
}
