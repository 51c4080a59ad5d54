package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestReadmeStepsAsTyped runs README's steps in a shell, beside the demo as `make up` leaves it. Only
// addresses and the provider's key are others.
func TestReadmeStepsAsTyped(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, steps := "", strings.Split(string(text), "```sh\nA=")
	if len(steps) != 3 {
		t.Fatal("README has not the steps of both the set-up calls and the admin API")
	}
	for _, rest := range steps[1:] {
		block, _, _ := strings.Cut("A="+rest, "```")
		script += block
	}
	g := newGateway(t, nil)
	g.up()
	g.waitReady()
	for was, is := range map[string]string{
		"http://127.0.0.1:8081": "http://" + g.admin, "http://127.0.0.1:8080": "http://" + g.data,
		"http://127.0.0.1:9000": startLlama(t, "text"), "sk-local": llamaKey,
	} {
		if !strings.Contains(script, was) {
			t.Errorf("README's steps do not name %s", was)
		}
		script = strings.ReplaceAll(script, was, is)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
	var answers strings.Builder
	cmd.Stderr = &answers
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), `"choices"`) || !strings.Contains(string(out), `"usage"`) || !strings.Contains(string(out), `"silver"`) || strings.Contains(string(out), `"code":`) {
		t.Errorf("%v: %s\n%s", err, out, &answers)
	}
}

func TestTheDemoWorksAsAnnounced(t *testing.T) {
	g := newGateway(t, nil)
	g.up()
	g.eventually("the announcement", waitLong, func() bool {
		text, _ := os.ReadFile(g.output.Name())
		return strings.Contains(string(text), "Ctrl-C stops everything")
	})
	text, err := os.ReadFile(g.output.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "curl -i ") {
			out, err := exec.CommandContext(t.Context(), "bash", "-c", strings.Replace(command, "curl -i", "curl -s", 1)).Output()
			if err != nil || !strings.Contains(string(out), "demo provider of Logos") {
				t.Errorf("%s: %v %s", command, err, out)
			}
			return
		}
	}
	t.Error("no curl line is printed")
}
