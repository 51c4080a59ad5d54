package extproc_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

func TestListsTheModelsOfAKey(t *testing.T) {
	two := func(r *logos.Resources) {
		r.Models = append(r.Models, &logos.Model{ID: 3, Name: "not granted"})
		r.Profiles = append(r.Profiles, &logos.Profile{ID: 5, ProjectID: 1, Name: "second", Models: []logos.ModelID{2}})
	}
	openAI := func(name string) object {
		return object{"id": name, "object": "model", "created": 0.0, "owned_by": "logos"}
	}
	anthropic := func(name string) object {
		return object{"id": name, "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
	}
	version := []string{"anthropic-version", "2023-06-01"}
	for _, c := range []struct {
		name, path string
		headers    []string
		want       object
	}{
		{"OpenAI's list", "/v1/models", nil, object{"object": "list", "data": []any{openAI("big"), openAI("small")}}},
		{"Azure's list", "/openai/v1/models?api-version=preview", nil, object{"object": "list", "data": []any{openAI("big"), openAI("small")}}},
		{"one profile's list", "/v1/models", []string{"x-logos-profile", "second"}, object{"object": "list", "data": []any{openAI("big")}}},
		{"Anthropic's list", "/v1/models?limit=20", version, object{"data": []any{anthropic("big"), anthropic("small")}, "has_more": false, "first_id": "big", "last_id": "small"}},
		{"OpenAI's one", "/v1/models/small", nil, openAI("small")},
		{"Anthropic's one", "/v1/models/sm%61ll", version, anthropic("small")},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, config(t, two))
			x := g.call("GET", c.path, "", append([]string{"x-api-key", key}, c.headers...)...)
			answer := x.last().GetImmediateResponse()
			var got object
			if err := json.Unmarshal(answer.GetBody(), &got); err != nil || answer.GetStatus().GetCode() != 200 || len(x.answers) != 1 || x.err != nil {
				t.Fatalf("the answers are %v, then %v", x.answers, x.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("models differ (-want +got):\n%s", diff)
			}
			if set, _ := mutation(answer.GetHeaders()); set["content-type"] != "application/json" || len(set) != 1 {
				t.Errorf("headers are %v", set)
			}
			if d, _ := g.decisionOf(x.last()); d != nil || len(g.intents.all()) != 0 {
				t.Error("a list of models is recorded as a call")
			}
		})
	}
	for _, one := range []string{"huge", "not%20granted"} {
		g := newGateway(t, config(t, two))
		expectRefusal(t, g, g.call("GET", "/v1/models/"+one, "", "x-api-key", key), false, 404, "model_not_found", "invalid_request_error")
	}
	t.Run("Anthropic's list of none", func(t *testing.T) {
		g := newGateway(t, config(t, func(r *logos.Resources) { r.Profiles[0].Models, r.Profiles[0].Passthrough = nil, false }))
		body := string(g.call("GET", "/v1/models", "", "x-api-key", key, "anthropic-version", "1").last().GetImmediateResponse().GetBody())
		if body != `{"data":[],"first_id":null,"has_more":false,"last_id":null}` {
			t.Errorf("the list is %s", body)
		}
	})
}

// counted returns how many requests were decided with an outcome.
func (g *gateway) counted(outcome string) float64 {
	g.t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "logos_decisions_total" && m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestAPanicEndsOneCallAlone(t *testing.T) {
	c := config(t, nil)
	for _, phase := range []string{"on the headers", "on the body"} {
		t.Run(phase, func(t *testing.T) {
			g := newGateway(t, c)
			var broken atomic.Bool
			broken.Store(true)
			fail := func() {
				if broken.Load() {
					panic("a bug")
				}
			}
			if phase == "on the headers" {
				present := g.current()
				g.current = func() *extproc.Snapshot { fail(); return present }
			} else {
				g.intents.before = fail
			}
			x := g.chat(`{"model":"small"}`)
			if status.Code(x.err) != codes.Internal || strings.Contains(x.err.Error(), "a bug") || len(x.answers) > 1 {
				t.Fatalf("a panic gives %d answers and %v", len(x.answers), x.err)
			}
			broken.Store(false)
			if x = g.chat(`{"model":"small"}`); x.err != nil || len(routeOf(t, x.last())) != 2 {
				t.Errorf("after the panic, a call gives %v, %v", x.answers, x.err)
			}
			if g.counted("panic") != 1 || g.counted("sent") != 1 {
				t.Errorf("counted are %v panics and %v calls sent", g.counted("panic"), g.counted("sent"))
			}
		})
	}
}

func TestRefusesMessagesOutOfOrder(t *testing.T) {
	g := newGateway(t, config(t, nil))
	for name, messages := range map[string][]*extprocv3.ProcessingRequest{
		"the body first":    {bodyMessage(`{"model":"small"}`)},
		"nothing at all":    {{}},
		"headers twice":     {headers("POST", chat, true, "x-api-key", key), headers("POST", chat, true, "x-api-key", key)},
		"trailers for body": {headers("POST", chat, true, "x-api-key", key), {Request: &extprocv3.ProcessingRequest_RequestTrailers{}}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		stream := g.open(ctx)
		for _, m := range messages {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s gives %v", name, err)
		}
		cancel()
	}
	if len(g.intents.all()) != 0 {
		t.Errorf("intents are begun: %+v", g.intents.all())
	}
}

func TestACallerThatIsGoneLeavesNothing(t *testing.T) {
	g := newGateway(t, config(t, nil))
	for name, c := range map[string]struct {
		send   []*extprocv3.ProcessingRequest
		cancel bool
	}{
		"before the headers":              {},
		"while its body is awaited":       {[]*extprocv3.ProcessingRequest{headers("POST", chat, true, "x-api-key", key)}, false},
		"reset while its body is awaited": {[]*extprocv3.ProcessingRequest{headers("POST", chat, true, "x-api-key", key)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream := g.open(ctx)
			for _, m := range c.send {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			if c.cancel {
				cancel()
			} else if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-g.handled:
				if err != nil {
					t.Errorf("the handler ends with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the handler waits for ever")
			}
		})
	}
	if len(g.intents.all()) != 0 || g.counted("sent") != 0 {
		t.Errorf("intents are begun: %+v", g.intents.all())
	}
}

func TestCountsDecisions(t *testing.T) {
	g := newGateway(t, config(t, nil))
	g.chat(`{"model":"small"}`)
	g.chat(`{"model":"big"}`)
	g.chat(`{"model":"huge"}`)
	g.call("GET", "/v1/models", "", "x-api-key", key)
	g.call("GET", "/v1/models", "")
	for outcome, want := range map[string]float64{"sent": 2, "model_not_found": 1, "answered": 1, "missing_api_key": 1} {
		if got := g.counted(outcome); got != want {
			t.Errorf("%v requests are counted as %s, want %v", got, outcome, want)
		}
	}
}
