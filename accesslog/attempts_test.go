package accesslog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// begun and ended make the lines of an attempt at a cluster.
func begun(cluster string) string { return set(startLine, "k", `"`+cluster+`"`) }

func ended(cluster string, status int, flags string) string {
	return set(endLine, "k", `"`+cluster+`"`, "c", fmt.Sprint(status), "f", `"`+flags+`"`)
}

// between is the cluster of attempts that only choose the next target.
const between = dialect.BetweenAttempts

// over makes the line of a call with three targets that ended after n attempts.
func over(n, status int, flags string) string {
	line := set(threeTargets(callLine), "n", fmt.Sprint(n), "c", fmt.Sprint(status), "f", `"`+flags+`"`)
	if status != 200 {
		line = set(line, "uu", "")
	}
	return line
}

func TestJoinsAttemptsInTheirOrder(t *testing.T) {
	const used = " input=1 output=14"
	for _, c := range []struct {
		name string
		log  []string
		want string
	}{
		{"one fails, one works", []string{begun("one"), ended("one", 503, "-"), begun("two"), ended("two", 200, "-"), over(2, 200, "-")},
			"ok 200; 1 one upstream_error 503; 2 two ok 200" + used},
		{"the last line comes after the call's", []string{begun("one"), ended("one", 503, "-"), begun("two"), over(2, 200, "-"), ended("two", 200, "-")},
			"ok 200; 1 one upstream_error 503; 2 two ok 200" + used},
		{"all lines come after the call's", []string{over(2, 200, "-"), begun("one"), ended("one", 503, "-"), begun("two"), ended("two", 200, "-")},
			"ok 200; 1 one upstream_error 503; 2 two ok 200" + used},
		{"the first gets no connection, so it has no start", []string{ended("one", 0, "UF"), begun("two"), ended("two", 200, "-"), over(2, 200, "-")},
			"ok 200; 1 one upstream_error 0; 2 two ok 200" + used},
		{"the first two get no connection", []string{ended("one", 0, "UF"), ended("two", 0, "UF"), begun("three"), ended("three", 200, "-"), over(3, 200, "-")},
			"ok 200; 1 one upstream_error 0; 2 two upstream_error 0; 3 three ok 200" + used},
		{"the second gets no connection", []string{begun("one"), ended("one", 500, "-"), ended("two", 0, "UF"), begun("three"), ended("three", 200, "-"), over(3, 200, "-")},
			"ok 200; 1 one upstream_error 500; 2 two upstream_error 0; 3 three ok 200" + used},
		{"none gets a connection", []string{ended("one", 0, "UF"), ended("two", 0, "UF"), over(3, 503, "UF"), ended("three", 0, "UF")},
			"upstream_error 503; 1 one upstream_error 0; 2 two upstream_error 0; 3 three upstream_error 0"},
		{"the first takes too long", []string{begun("one"), ended("one", 504, "UT"), begun("two"), ended("two", 200, "-"), over(2, 200, "-")},
			"ok 200; 1 one timeout 504 input~20 output~0; 2 two ok 200" + used},
		{"the first gets no connection in time", []string{ended("one", 504, "UT"), begun("two"), ended("two", 200, "-"), over(2, 200, "-")},
			"ok 200; 1 one timeout 504; 2 two ok 200" + used},
		{"the caller hangs up before a connection", []string{ended("one", 0, "DC"), set(over(1, 0, "DC"), "uu", "")}, "client_cancelled 0; 1 one client_cancelled 0"},
		{"an answer is cut off at the call's longest duration", []string{begun("one"), ended("one", 200, "-"), set(over(1, 200, "-"), "x", `"max_duration_timeout"`)},
			"timeout 200 [max_duration_timeout||]; 1 one timeout 200" + used},
		{"an answer that is no stream breaks off, and nothing of it is passed on", []string{begun("one"), ended("one", 200, "UC"), set(over(1, 502, "UC"), "uu", "")},
			"upstream_error 502; 1 one upstream_error 200 input~20 output~0"},
		{"the caller hangs up in the second", []string{begun("one"), ended("one", 503, "-"), begun("two"), ended("two", 0, "DC"), over(2, 0, "DC")},
			"client_cancelled 0; 1 one upstream_error 503; 2 two client_cancelled 0 input~20 output~0"},
		{"the call's line knows of no attempts, but they have lines", []string{begun("one"), ended("one", 200, "-"), set(over(0, 200, "-"), "n", "null")},
			"ok 200; 1 one ok 200" + used},
		{"the call's line knows of no attempts, and comes before the end of one", []string{begun("one"), set(over(0, 200, "-"), "n", "null"), ended("one", 201, "-")},
			"ok 200; 1 one ok 201" + used},
		{"the first's end comes after the second, which got no connection", []string{begun("one"), ended("two", 0, "UF"), ended("one", 500, "-"), begun("three"), ended("three", 200, "-"), over(3, 200, "-")},
			"ok 200; 1 one upstream_error 500; 2 two upstream_error 0; 3 three ok 200" + used},
		{"no attempt was made", []string{over(0, 503, "UH")}, "upstream_error 503"},
		{"there are more attempts than targets", []string{ended("one", 0, "UF"), ended("two", 0, "UF"), ended("three", 0, "UF"), ended("four", 0, "UF"), over(4, 503, "UF")},
			"upstream_error 503; 1 one upstream_error 0; 2 two upstream_error 0; 3 three upstream_error 0"},
		{"the lines of the last attempt never come", []string{begun("one"), ended("one", 503, "-"), over(2, 200, "-")},
			"ok 200; 1 one upstream_error 503; 2 two ok 200" + used},
		{"the end of the last attempt never comes", []string{begun("one"), over(1, 200, "-")}, "ok 200; 1 one ok 200" + used},
		{"one target is tried twice, with the choice between", []string{begun("one"), ended("one", 503, "-"), ended(between, 0, "UF"), begun("one"), ended("one", 503, "-"), ended(between, 0, "UF"), begun("two"), ended("two", 200, "-"), over(5, 200, "-")},
			"ok 200; 1 one upstream_error 503; 2 one upstream_error 503; 3 two ok 200" + used},
		{"a target is passed over", []string{begun("one"), ended("one", 400, "-"), ended(between, 0, "UF"), begun("three"), ended("three", 200, "-"), over(3, 200, "-")},
			"ok 200; 1 one rejected 400; 2 three ok 200" + used},
		{"nothing is left after silence", []string{begun("one"), ended("one", 0, "UT"), ended(between, 0, "UF"), begun("two"), ended("two", 0, "UT"), ended(between, 0, "-"), set(over(4, 504, "-"), "x", `"lua_response"`)},
			"timeout 504 [upstream_timeout||]; 1 one timeout 0 input~20 output~0; 2 two timeout 0 input~20 output~0"},
		{"nothing is left after resets", []string{begun("one"), ended("one", 0, "UC"), ended(between, 0, "-"), set(over(2, 503, "-"), "x", `"lua_response"`)},
			"upstream_error 503 [upstream_unavailable||]; 1 one upstream_error 0"},
		{"the first target's lines are all that come", []string{begun("one"), ended("one", 503, "-"), ended(between, 0, "UF"), over(3, 200, "-")},
			"ok 200; 1 one upstream_error 503; 2 two ok 200" + used},
		{"no attempt's lines ever come", []string{over(2, 503, "-")}, "upstream_error 503; 1 one upstream_error 0; 2 two upstream_error 503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls, unknown := settle(t, c.log...)
			if len(calls) != 1 || unknown != 0 {
				t.Fatalf("%d calls are stored and %d lines kept aside", len(calls), unknown)
			}
			if got := describe(calls[0]); got != c.want {
				t.Errorf("stored\n%s, want\n%s", got, c.want)
			}
		})
	}
}

func TestKeepsWhatAnAttemptsLinesTell(t *testing.T) {
	failed := set(ended("one", 0, "UF"), "s", `"1795486584.600001"`, "ms", "250", "r", "", "x", `"upstream_reset_before_response_started{connection_timeout}"`, "w", `"TLS_error:|x"`)
	calls, _ := settle(t, failed, set(begun("two"), "s", `"1795486585.000002"`), set(ended("two", 200, "-"), "s", `"1795486585.000002"`, "r", "null", "r2", `"apim-7"`, "x", `"via_upstream"`), over(2, 200, "-"))
	if len(calls) != 1 {
		t.Fatalf("%d calls are stored", len(calls))
	}
	want := []logos.Attempt{
		{Number: 1, Target: logos.DecisionTarget{Deployment: 1, Provider: 1, Cluster: "one"}, Start: time.UnixMicro(1795486584600001).UTC(), Duration: 250 * time.Millisecond,
			End: logos.EndUpstreamError, Detail: "UF upstream_reset_before_response_started{connection_timeout} TLS_error:|x"},
		{Number: 2, Target: logos.DecisionTarget{Deployment: 2, Provider: 1, Cluster: "two"}, Start: time.UnixMicro(1795486585000002).UTC(), Duration: 9 * time.Millisecond, Status: 200,
			End: logos.EndOK, ProviderRequestID: "apim-7", Detail: "via_upstream", Meters: calls[0].Attempts[1].Meters},
	}
	if diff := cmp.Diff(want, calls[0].Attempts); diff != "" {
		t.Errorf("attempts differ (-want +got):\n%s", diff)
	}
}

func TestRecordsARefusedCallWithoutAttempts(t *testing.T) {
	refused := decided(callLine, func(d *logos.Decision) { d.Refusal, d.Targets, d.Deadline = "model_not_allowed", nil, 0 })
	calls, unknown := settle(t, set(refused, "c", "403", "n", "0", "uu", "", "x", `"logos_model_not_allowed"`))
	if len(calls) != 1 || unknown != 0 {
		t.Fatalf("%d calls are stored and %d lines kept aside", len(calls), unknown)
	}
	if got, want := describe(calls[0]), "refused 403 [model_not_allowed||]"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
}

// A request without a known key leaves no record, nor do its attempts, if it had any.
func TestRecordsNothingWithoutADecision(t *testing.T) {
	other := strings.ReplaceAll(set(callLine, "d", "null", "c", "401"), "4c3648d3", "00000000")
	calls, unknown := settle(t, strings.ReplaceAll(startLine, "4c3648d3", "00000000"), other, strings.ReplaceAll(endLine, "4c3648d3", "00000000"), startLine, endLine, callLine)
	if len(calls) != 1 || calls[0].ID != "4c3648d3-45cf-4a39-9983-4ec0041b40d3" || unknown != 0 {
		t.Errorf("%d calls are stored and %d lines kept aside; want the call with a decision alone", len(calls), unknown)
	}
}

// Envoy refuses some requests before it replaces their id by one of its own.
func TestARefusedRequestWithTheIdOfACallUnderWayIsNotItsEnd(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.start()
		d := w.begin(p, id(1), time.Hour, "d1-c1-f8e8a281")
		refused := set(callLine, "d", "", "c", "400", "n", "0", "o", "189", "uu", "", "x", `"missing_host_header"`)
		p.write(of(1, startLine) + of(1, refused))
		w.pass(5 * time.Second)
		p.write(of(1, endLine) + callOf(t, 1, d))
		w.pass(time.Second)
		w.expect("at its own end", 1, d, "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14")
	})
}

// Anybody can send these; each would be a row in the database.
func TestKeepsNothingOfRequestsThatEnvoyRefusesUnread(t *testing.T) {
	refused := set(callLine, "d", "", "id", "", "c", "426", "x", `"low_version"`)
	calls, unknown := settle(t, refused, set(refused, "id", `"1"`), set(refused, "d", "null"), startLine, endLine, callLine)
	if len(calls) != 1 || unknown != 0 {
		t.Errorf("%d calls are stored and %d lines kept aside; want the call alone", len(calls), unknown)
	}
}

// Envoy bounds texts in bytes. One that it cuts within a character is to it no UTF-8, but Latin-1.
func TestReadsATextThatEnvoyCutWithinACharacter(t *testing.T) {
	const limit = 512 // of a message
	x := strings.Repeat("x", limit-4)
	for logged, want := range map[string]string{
		`"x\u00c3\u00a9` + x + `\u00c3"`:      "x\u00e9" + x,
		`"\u00c3\u00a9` + x + `\u00e6\u0097"`: "\u00e9" + x,
		`"\u00e9"`:                            "\u00e9",
		`"\u00c3\u00a9\u00c3"`:                "\u00c3\u00a9\u00c3",
		`"` + x + `xx\u00c3\u00a9"`:           x + "xx\u00c3",
		`"` + x + `xxxx\u00c3"`:               x + "xxxx",
	} {
		calls, _ := settle(t, startLine, endLine, set(callLine, "c", "400", "uu", "", "em", logged))
		if len(calls) != 1 || calls[0].Error.Message != want {
			t.Errorf("%s is read as %+v, want %q", logged, calls[0].Error, want)
		}
	}
}

func TestReadsNumbersHoweverTheyArePrinted(t *testing.T) {
	line := set(callLine, "ms", "1e+03", "tb", "2.5e+02", "i", "1e+05", "o", "1.048576e+06", "uu", "null", "u", `{"prompt_tokens":1e+05,"completion_tokens":1.4e+01,"reasoning_tokens":4}`, "n", "1e+00", "c", "2e+02")
	calls, unknown := settle(t, startLine, set(endLine, "ms", "1e+03", "c", "2.00e+02"), line)
	if len(calls) != 1 || unknown != 0 {
		t.Fatalf("%d calls are stored and %d lines kept aside", len(calls), unknown)
	}
	c := calls[0]
	if got, want := describe(c), "ok 200; 1 d1-c1-f8e8a281 ok 200 input=100000 reasoning=4 output=10"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	if c.Duration != time.Second || c.FirstByte != 250*time.Millisecond || c.RequestBytes != 100000 || c.AnswerBytes != 1<<20 || c.Attempts[0].Duration != time.Second {
		t.Errorf("stored %+v", c)
	}
}

func TestChargesWhatWasUsed(t *testing.T) {
	messages := func(change func(*logos.Decision)) string {
		return decided(callLine, func(d *logos.Decision) {
			d.API, d.BodyBytes = logos.APIMessages, 400
			change(d)
		})
	}
	const begins = `"{\"input_tokens\":30,\"output_tokens\":1}"`
	asIs := messages(func(*logos.Decision) {})
	passed := messages(func(d *logos.Decision) { d.API = logos.APINone })
	for _, c := range []struct{ name, call, want string }{
		{"a stream that ended", set(asIs, "mu", `"{\"input_tokens\":30,\"cache_read_input_tokens\":5,\"cache_creation_input_tokens\":7,\"output_tokens\":1}"`, "uu", `"{\"output_tokens\":25}"`), "input=30 cached_input=5 cache_write=7 output=25"},
		{"a stream that was cancelled early: its output is estimated", set(asIs, "f", `"DC"`, "o", "4000", "mu", begins, "uu", ""), "input=30 output~20"},
		{"a stream that was cancelled with more than the estimate", set(asIs, "f", `"DC"`, "o", "200", "mu", `"{\"input_tokens\":30,\"output_tokens\":9}"`, "uu", ""), "input=30 output~9"},
		{"a stream that broke off", set(asIs, "f", `"UC"`, "o", "4000", "mu", begins, "uu", ""), "input=30 output~20"},
		{"a stream that was cancelled after its usage", set(asIs, "f", `"DC"`, "mu", begins, "uu", `"{\"output_tokens\":25}"`), "input=30 output=25"},
		{"a stream that ended in an error after it began", set(asIs, "o", "4000", "mu", begins, "uu", "", "ee", `"{\"type\":\"overloaded_error\"}"`), "input=30 output~20"},
		{"a stream that ended without its last report", set(asIs, "o", "4000", "mu", begins, "uu", ""), "input=30 output~20"},
		{"an answer that Azure's filter refused", set(asIs, "c", "400", "uu", "", "ec", `"content_filter"`), "input~100 output~0"},
		{"an error that reports usage", set(asIs, "c", "500", "uu", "", "u", `{"prompt_tokens":3,"completion_tokens":4}`), "input=3 output=4"},
		{"a stream that reports nothing", set(asIs, "o", "4000", "uu", ""), "input~100 output~20"},
		{"an answer that reports nothing", set(asIs, "o", "700", "ct", `"application/json"`, "uu", ""), "input~100 output~100"},
		{"usage that is no object", set(asIs, "o", "4000", "uu", `"-"`), "input~100 output~20"},
		{"usage of no number", set(asIs, "o", "4000", "uu", `"{\"prompt_tokens\":\"12\",\"completion_tokens\":-1}"`), "input~100 output~20"},
		{"an answer that was refused", set(asIs, "c", "400", "uu", ""), ""},
		{"a pass-through that reports usage", set(passed, "uu", "", "u", `{"prompt_tokens":3,"completion_tokens":4}`), "input=3 output=4"},
		{"a pass-through that reports nothing", set(passed, "uu", ""), ""},
		{"a pass-through that was cancelled", set(passed, "f", `"DC"`, "uu", ""), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls, _ := settle(t, c.call) // which tells all that meters depend on
			if len(calls) != 1 {
				t.Fatalf("%d calls are stored", len(calls))
			}
			_, attempt, _ := strings.Cut(describe(calls[0]), "; 1 d1-c1-f8e8a281 ")
			words := strings.Fields(attempt) // the end, the status, the meters
			if len(words) < 2 || !slices.Equal(words[2:], strings.Fields(c.want)) {
				t.Errorf("stored %v, want %s", words, c.want)
			}
		})
	}
}

func TestKeepsAsideWhatItDoesNotUnderstand(t *testing.T) {
	for name, line := range map[string]string{
		"no JSON":                    "x",
		"half a line":                callLine[:200],
		"another type":               set(callLine, "t", `"TcpPeriodic"`),
		"no id":                      set(callLine, "id", "null"),
		"an id that is no UUID":      set(callLine, "id", `"4c3648d3_45cf_4a39_9983_4ec0041b40d3"`),
		"a decision that is no JSON": set(callLine, "d", `"{"`),
		"a decision without a start": set(callLine, "d", `"{}"`),
		"a count that is a text":     set(callLine, "c", `"200"`),
		"a count beyond all":         set(callLine, "ms", `1e30`),
		"a count below zero":         set(callLine, "o", `-1`),
		"a flag that is a number":    set(callLine, "f", `1`),
		"something after the line":   callLine + `{"x":1}`,
		"an array":                   "[]",
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
				good := strings.ReplaceAll(callLine, "4c3648d3", "00000000")
				w.envoy("e").write(lines("", line, good))
				w.start()
				w.pass(1500 * time.Millisecond)
				w.stop()
				want := map[logos.LogPosition]string{{Epoch: "e", Offset: 1}: line}
				if diff := cmp.Diff(want, w.store.unknown); diff != "" {
					t.Errorf("kept aside (-want +got):\n%s", diff)
				}
				if len(w.store.calls) != 1 {
					t.Errorf("%d calls are stored, want the good one alone", len(w.store.calls))
				}
			})
		})
	}
}
