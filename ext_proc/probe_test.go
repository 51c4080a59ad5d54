package extproc_test

import (
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// probe is one of provider 3, which no profile of the key grants with a credential.
func probe(c *logos.Config) extproc.Probe {
	return extproc.Probe{
		Key:    &logos.APIKey{ID: 3, ProjectID: 1, Role: logos.RoleAdmin},
		Target: logos.ProviderTarget(c.Provider(3), &logos.Credential{ID: 77, Provider: 3, Secret: "sk-3"}),
		API:    logos.APIMessages, Model: "opus", Path: "/v1/messages?beta=1", Timeout: 25 * time.Second,
	}
}

// header returns what an answer sets a request's header to.
func header(answer *extprocv3.ProcessingResponse, name string) string {
	for _, h := range answer.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		if h.GetHeader().GetKey() == name {
			return string(h.GetHeader().GetRawValue())
		}
	}
	return ""
}

func TestAProbeGoesWhereItWasAnnounced(t *testing.T) {
	c := config(t, nil)
	g := newGateway(t, c)
	p := probe(c)
	ticket, revoke := g.probes.Issue(p, now)
	defer revoke()
	x := g.call("POST", "/", `{"model":"opus"}`, extproc.ProbeHeader, ticket)
	if x.err != nil || len(x.answers) != 1 {
		t.Fatalf("the body is waited for, or the stream breaks: %+v", x)
	}
	answer := x.last()
	if got := routeOf(t, answer); !cmp.Equal(got, []string{p.Target.Cluster}) {
		t.Errorf("it goes to %v", got)
	}
	if got := rewriteOf(t, answer, p.Target.Cluster, ""); got != (rewrite{"/v1/messages?beta=1", "claude.example", ""}) {
		t.Errorf("it is sent as %+v", got)
	}
	if header(answer, "x-envoy-max-retries") != "0" || header(answer, "x-envoy-upstream-rq-timeout-ms") != "25000" {
		t.Errorf("Envoy is told %v", answer)
	}
	d, encoded := g.decisionOf(answer)
	want := &logos.Decision{
		Start: now.UnixMicro(), Deadline: now.Add(p.Timeout).UnixMicro(), Revision: 17, API: logos.APIMessages, Model: "opus", Team: 9, Project: 1, APIKey: 3,
		Targets: []logos.DecisionTarget{{Provider: 3, Credential: 77, Cluster: p.Target.Cluster}},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("the decision differs (-want +got):\n%s", diff)
	}
	if begun := g.intents.all(); len(begun) != 1 || begun[0].encoded != encoded {
		t.Errorf("noted are %+v", begun)
	}
	if strings.Contains(encoded, ticket) {
		t.Error("the ticket is on record")
	}
}

func TestATicketIsGoodForOneCall(t *testing.T) {
	c := config(t, nil)
	for name, use := range map[string]func(*testing.T, *gateway) string{
		"used": func(_ *testing.T, g *gateway) string {
			ticket, _ := g.probes.Issue(probe(c), now)
			g.call("GET", "/", "", extproc.ProbeHeader, ticket)
			return ticket
		},
		"revoked": func(_ *testing.T, g *gateway) string {
			ticket, revoke := g.probes.Issue(probe(c), now)
			revoke()
			return ticket
		},
		"expired": func(_ *testing.T, g *gateway) string {
			ticket, _ := g.probes.Issue(probe(c), now.Add(-25*time.Second))
			return ticket
		},
		"in part":  func(_ *testing.T, g *gateway) string { ticket, _ := g.probes.Issue(probe(c), now); return ticket[1:] },
		"and more": func(_ *testing.T, g *gateway) string { ticket, _ := g.probes.Issue(probe(c), now); return ticket + "x" },
		"other case": func(_ *testing.T, g *gateway) string {
			ticket, _ := g.probes.Issue(probe(c), now)
			return strings.ToLower(ticket)
		},
		"guessed":   func(_ *testing.T, g *gateway) string { g.probes.Issue(probe(c), now); return "guess" },
		"very long": func(_ *testing.T, g *gateway) string { g.probes.Issue(probe(c), now); return strings.Repeat("A", 5000) },
		"of another ": func(t *testing.T, _ *gateway) string {
			ticket, _ := newGateway(t, c).probes.Issue(probe(c), now)
			return ticket
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, c)
			ticket := use(t, g)
			before := len(g.intents.all())
			// Without a key it is nobody's call, with one the key's.
			x := g.call("POST", chat, `{"model":"small"}`, extproc.ProbeHeader, ticket)
			if code := x.last().GetImmediateResponse().GetStatus().GetCode(); code != 401 || len(g.intents.all()) != before {
				t.Errorf("it is answered with %d, or sent", code)
			}
			x = g.chat(`{"model":"small"}`, extproc.ProbeHeader, ticket)
			if got := routeOf(t, x.last()); len(got) == 0 || got[0] != clusterOf(t, c, 1) {
				t.Errorf("a call with a key goes to %v", got)
			}
		})
	}
}

func TestAProbeIsRefusedLikeOtherCalls(t *testing.T) {
	c := config(t, nil)
	g := newGateway(t, c)
	p := probe(c)
	p.API = logos.APIChat
	g.inactive[p.Target.Cluster] = true
	ticket, _ := g.probes.Issue(p, now)
	expectRefusal(t, g, g.call("GET", "/", "", extproc.ProbeHeader, ticket), false, 503, "no_deployment", "server_error")
	p.Key.ProjectID = 99
	ticket, _ = g.probes.Issue(p, now)
	expectRefusal(t, g, g.call("GET", "/", "", extproc.ProbeHeader, ticket), false, 403, "project_not_found", "permission_error")
	if n := len(g.intents.all()); n != 0 {
		t.Errorf("%d are sent", n)
	}
}
