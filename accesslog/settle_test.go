package accesslog_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
)

// Lines as Envoy 1.40 writes them.
const (
	startLine = `{"c":0,"f":"-","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":0,"s":"1795486584.492945","t":"UpstreamPoolReady"}`
	endLine   = `{"c":200,"f":"-","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":9,"r":"demo-e044","s":"1795486584.492945","t":"UpstreamEnd"}`
	callLine  = `{"c":200,"ct":"text/event-stream","d":"{\"s\":1795486584488422,\"e\":1795490184488422,\"r\":1,\"a\":\"chat\",\"st\":true,\"m\":\"demo\",\"p\":1,\"k\":1,\"pr\":1,\"tg\":[{\"d\":1,\"m\":1,\"p\":1,\"c\":1,\"n\":\"d1-c1-f8e8a281\",\"u\":true}],\"c\":[{\"d\":1}],\"b\":77}","f":"-","i":77,"id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","m":"POST","ms":14,"n":1,"o":3361,"t":"DownstreamEnd","tb":13,"uu":"{\"completion_tokens\":14,\"prompt_tokens\":1,\"total_tokens\":15}","x":"via_upstream"}`
)

// set returns a line with other values: name, JSON, name, JSON … A field without a value is left out.
func set(line string, pairs ...string) string {
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		panic(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if len(fields[k]) == 0 {
			continue
		}
		out = append(out, fmt.Sprintf("%q:%s", k, fields[k]))
	}
	return "{" + strings.Join(out, ",") + "}"
}

// decided returns the call's line with another decision.
func decided(line string, change func(*logos.Decision)) string {
	var l struct{ D string }
	d := &logos.Decision{}
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		panic(err)
	}
	if err := json.Unmarshal([]byte(l.D), d); err != nil {
		panic(err)
	}
	change(d)
	inner, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(string(inner))
	if err != nil {
		panic(err)
	}
	return set(line, "d", string(text))
}

// threeTargets decides on targets one, two and three.
func threeTargets(line string) string {
	return decided(line, func(d *logos.Decision) {
		d.Targets = nil
		for i, name := range []string{"one", "two", "three"} {
			d.Targets = append(d.Targets, logos.DecisionTarget{Deployment: logos.DeploymentID(i + 1), Provider: 1, Cluster: name})
		}
	})
}

// settle lets a reader read lines, and returns what it stores of calls, and how many lines it keeps aside.
func settle(t *testing.T, text ...string) (calls []*logos.Call, unknown int) {
	t.Helper()
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		p.write(lines(text...))
		w.start()
		w.pass(1500 * time.Millisecond)
		w.stop()
		for _, k := range slices.SortedFunc(maps.Keys(w.store.calls), func(a, b callKey) int { return strings.Compare(string(a.id), string(b.id)) }) {
			calls = append(calls, w.store.calls[k])
		}
		unknown = len(w.store.unknown)
	})
	return calls, unknown
}

// describe says in one line what the tests look at: end, status and error of the call, then each attempt.
func describe(c *logos.Call) string {
	text := fmt.Sprintf("%s %d", c.End, c.Status)
	if c.Error != (logos.CallError{}) {
		text += fmt.Sprintf(" [%s|%s|%s]", c.Error.Code, c.Error.Type, c.Error.Message)
	}
	for _, a := range c.Attempts {
		text += fmt.Sprintf("; %d %s %s %d", a.Number, a.Target.Cluster, a.End, a.Status)
		for _, m := range a.Meters {
			sign := "="
			if m.Estimated {
				sign = "~"
			}
			text += fmt.Sprintf(" %s%s%d", m.Meter, sign, m.Quantity)
		}
	}
	return text
}

func TestSettlesACallFromItsLines(t *testing.T) {
	calls, unknown := settle(t, startLine, endLine, callLine)
	target := logos.DecisionTarget{Deployment: 1, Model: 1, Provider: 1, Credential: 1, Cluster: "d1-c1-f8e8a281", AsksUsage: true}
	d := logos.Decision{
		Start: 1795486584488422, Deadline: 1795490184488422, Revision: 1, API: logos.APIChat, Stream: true, Model: "demo",
		Project: 1, APIKey: 1, Profile: 1, Targets: []logos.DecisionTarget{target}, Explanation: logos.Explanation{Candidates: []logos.DecisionCandidate{{Deployment: 1}}}, BodyBytes: 77,
	}
	want := []*logos.Call{{
		ID: "4c3648d3-45cf-4a39-9983-4ec0041b40d3", Gateway: gateway, Decision: d, Method: "POST", Status: 200, End: logos.EndOK,
		Duration: 14 * time.Millisecond, FirstByte: 13 * time.Millisecond, RequestBytes: 77, AnswerBytes: 3361,
		Attempts: []logos.Attempt{{
			Number: 1, Target: target, Start: time.UnixMicro(1795486584492945).UTC(), Duration: 9 * time.Millisecond, Status: 200, End: logos.EndOK, ProviderRequestID: "demo-e044",
			Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 1}, {Meter: logos.MeterOutput, Quantity: 14}},
		}},
	}}
	if diff := cmp.Diff(want, calls); diff != "" || unknown != 0 {
		t.Errorf("%d lines are kept aside; the calls differ (-want +got):\n%s", unknown, diff)
	}
}

func TestSaysHowACallEnded(t *testing.T) {
	answered := "; 1 d1-c1-f8e8a281 %s %d input=1 output=14"
	for _, c := range []struct {
		name, call, end string // the lines of the call and of its attempt
		want            string
	}{
		{"ok", callLine, endLine, "ok 200" + fmt.Sprintf(answered, "ok", 200)},
		{"the caller hung up", set(callLine, "f", `"DC"`), set(endLine, "f", `"DC"`), "client_cancelled 200" + fmt.Sprintf(answered, "client_cancelled", 200)},
		{"the caller reset its stream", set(callLine, "f", `"DR"`, "x", `"http2.remote_reset"`), endLine, "client_cancelled 200 [http2.remote_reset||]" + fmt.Sprintf(answered, "client_cancelled", 200)},
		{"the caller hung up as the provider did", set(callLine, "f", `"UC,DC"`), endLine, "client_cancelled 200" + fmt.Sprintf(answered, "client_cancelled", 200)},
		{"the caller hung up before an answer", set(callLine, "c", "0", "f", `"DC"`, "uu", "", "o", "0", "x", `"downstream_remote_disconnect"`), set(endLine, "c", "0", "f", `"DC"`),
			"client_cancelled 0 [downstream_remote_disconnect||]; 1 d1-c1-f8e8a281 client_cancelled 0 input~20 output~0"},
		{"no first byte in time", set(callLine, "c", "504", "f", `"UT"`, "uu", "", "o", "0", "x", `"upstream_response_timeout"`), set(endLine, "c", "504", "f", `"UT"`),
			"timeout 504 [upstream_response_timeout||]; 1 d1-c1-f8e8a281 timeout 504 input~20 output~0"},
		{"nothing for too long", set(callLine, "f", `"SI"`, "x", `"stream_idle_timeout"`), endLine, "timeout 200 [stream_idle_timeout||]" + fmt.Sprintf(answered, "timeout", 200)},
		{"the call took too long", set(callLine, "f", `"DT"`), endLine, "timeout 200" + fmt.Sprintf(answered, "timeout", 200)},
		{"the attempt took too long", set(callLine, "f", `"UMSDR"`), endLine, "timeout 200" + fmt.Sprintf(answered, "timeout", 200)},
		{"no connection", set(callLine, "c", "503", "f", `"UF"`, "uu", "", "x", `"upstream_reset_before_response_started{connection_failure}"`), set(endLine, "c", "0", "f", `"UF"`),
			"upstream_error 503 [upstream_reset_before_response_started||]; 1 d1-c1-f8e8a281 upstream_error 0"},
		{"the provider's own 500", set(callLine, "c", "500", "uu", "", "em", `"boom"`, "et", `"server_error"`), set(endLine, "c", "500"), "upstream_error 500 [|server_error|boom]; 1 d1-c1-f8e8a281 upstream_error 500"},
		{"the provider's limit", set(callLine, "c", "429", "uu", "", "ec", `"rate_limit_exceeded"`), set(endLine, "c", "429"), "upstream_error 429 [rate_limit_exceeded||]; 1 d1-c1-f8e8a281 upstream_error 429"},
		{"an error code that is a number", set(callLine, "c", "500", "uu", "", "ee", `"{\"code\":500}"`), set(endLine, "c", "500"), "upstream_error 500 [500||]; 1 d1-c1-f8e8a281 upstream_error 500"},
		{"the provider refuses the request", set(callLine, "c", "400", "uu", "", "ec", `"context_length_exceeded"`), set(endLine, "c", "400"), "rejected 400 [context_length_exceeded||]; 1 d1-c1-f8e8a281 rejected 400"},
		{"a provider's 4xx without words", set(callLine, "c", "404", "uu", ""), set(endLine, "c", "404"), "rejected 404; 1 d1-c1-f8e8a281 rejected 404"},
		{"the provider hung up", set(callLine, "f", `"UC"`, "uu", ""), set(endLine, "f", `"UC"`), "truncated 200; 1 d1-c1-f8e8a281 truncated 200 input~20 output~17"},
		{"the provider reset its stream", set(callLine, "f", `"UR"`), endLine, "truncated 200" + fmt.Sprintf(answered, "truncated", 200)},
		{"Envoy reset the stream", set(callLine, "f", `"LR"`), endLine, "truncated 200" + fmt.Sprintf(answered, "truncated", 200)},
		{"the answer was no HTTP", set(callLine, "f", `"UPE"`), endLine, "truncated 200" + fmt.Sprintf(answered, "truncated", 200)},
		{"an error inside a good answer", set(callLine, "ee", `"{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}"`), endLine, "upstream_error 200 [|overloaded_error|Overloaded]" + fmt.Sprintf(answered, "upstream_error", 200)},
		{"a response that failed", set(callLine, "rs", `"failed"`, "re", `"{\"code\":\"server_error\"}"`), endLine, "upstream_error 200 [server_error||]" + fmt.Sprintf(answered, "upstream_error", 200)},
		{"a response that failed without words", set(callLine, "rs", `"failed"`), endLine, "upstream_error 200 [response_failed||]" + fmt.Sprintf(answered, "upstream_error", 200)},
		{"a response that completed", set(callLine, "rs", `"completed"`, "st", `"flex"`), endLine, "ok 200" + fmt.Sprintf(answered, "ok", 200)},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls, unknown := settle(t, startLine, c.end, c.call)
			if len(calls) != 1 || unknown != 0 {
				t.Fatalf("%d calls are stored and %d lines kept aside", len(calls), unknown)
			}
			if got := describe(calls[0]); got != c.want {
				t.Errorf("stored\n%s, want\n%s", got, c.want)
			}
		})
	}
}
