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
