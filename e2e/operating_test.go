package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// typed runs a block of OPERATING.md in a shell, with this gateway's paths and addresses for those in it.
func (g *gateway) typed(block string) string {
	g.t.Helper()
	text, err := os.ReadFile("../OPERATING.md")
	if err != nil {
		g.t.Fatal(err)
	}
	_, script, found := strings.Cut(string(text), "```sh "+block+"\n")
	script, _, closed := strings.Cut(script, "```")
	if !found || !closed {
		g.t.Fatalf("OPERATING.md has no block %q", block)
	}
	script = strings.ReplaceAll(script, "http://127.0.0.1:8081", "http://"+g.admin)
	cmd := exec.CommandContext(g.t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Dir = filepath.Dir(g.dir)
	cmd.Env = g.prepare().Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s\n%v: %s", script, err, out)
	}
	return string(out)
}

// inFolder prepares a gateway as `make up` has it: in a folder with the program in bin/ and everything else
// in data/.
func inFolder(t *testing.T, program string, env map[string]string) *gateway {
	t.Helper()
	folder, err := os.MkdirTemp("", "lf") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, env, "--demo=false")
	g.dir = filepath.Join(folder, "data")
	g.env["LOGOS_DATA_DIR"] = g.dir
	g.program = filepath.Join(folder, "bin", "logos")
	for _, dir := range []string{g.dir, filepath.Dir(g.program)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g.install(program, "bin/logos")
	return g
}

// install copies a program to a path in the gateway's folder.
func (g *gateway) install(program, path string) {
	g.t.Helper()
	if out, err := exec.Command("cp", program, filepath.Join(filepath.Dir(g.dir), path)).CombinedOutput(); err != nil {
		g.t.Fatalf("copy the program: %v: %s", err, out)
	}
}
