package accesslog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

// TestEstimatesLearnWhatATokenTakes: once a provider has reported the tokens of some calls, what it does not report
// is estimated by their bytes, and one that is out of the ordinary does not change that.
func TestEstimatesLearnWhatATokenTakes(t *testing.T) {
	var log []string
	call := func(n int, deployment logos.DeploymentID, bytes int64, pairs ...string) {
		id := fmt.Sprintf(`"4c3648d3-45cf-4a39-9983-4ec0041b%04d"`, n)
		line := decided(callLine, func(d *logos.Decision) {
			d.BodyBytes, d.Targets[0].Deployment = bytes, deployment
		})
		log = append(log, set(startLine, "id", id), set(endLine, "id", id), set(line, append(pairs, "id", id)...))
	}
	for n := range 9 {
		usage := `"{\"prompt_tokens\":100,\"completion_tokens\":50}"` // three bytes a token, and 320 an event
		if n == 4 {
			usage = `"{\"prompt_tokens\":100000,\"completion_tokens\":9}"`
		}
		call(n, 1, 300, "o", "16000", "uu", usage)
	}
	call(10, 1, 600, "o", "6400", "f", `"DC"`, "uu", "")
	call(11, 2, 600, "o", "6400", "f", `"DC"`, "uu", "") // of which nothing is known
	calls, _ := settle(t, log...)
	if len(calls) != 11 {
		t.Fatalf("%d calls are stored", len(calls))
	}
	for i, want := range []string{"input~200 output~20", "input~150 output~32"} {
		if got := describe(calls[9+i]); !strings.HasSuffix(got, want) {
			t.Errorf("stored %s, want %s", got, want)
		}
	}
}

// TestSearchesAreNoTokensOfTheAnswer: else an answer with many would make tokens look short.
func TestSearchesAreNoTokensOfTheAnswer(t *testing.T) {
	var log []string
	for n, pairs := range [][]string{5: {"f", `"DC"`, "uu", ""}} {
		if n < 5 {
			pairs = []string{"uu", `"{\"input_tokens\":100,\"output_tokens\":50,\"server_tool_use\":{\"web_search_requests\":50}}"`}
		}
		id := fmt.Sprintf(`"4c3648d3-45cf-4a39-9983-4ec0041b%04d"`, n)
		line := decided(callLine, func(d *logos.Decision) { d.API, d.BodyBytes = logos.APIMessages, 300 })
		log = append(log, set(startLine, "id", id), set(endLine, "id", id), set(line, append(pairs, "id", id, "o", "16000")...))
	}
	calls, _ := settle(t, log...)
	if got, want := describe(calls[len(calls)-1]), "input~100 output~50"; !strings.HasSuffix(got, want) {
		t.Errorf("stored %s, want %s", got, want)
	}
}
