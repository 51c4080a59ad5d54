package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python prepares a script of the folder python, with the pinned packages and nothing else of this machine.
func python(ctx context.Context, t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	packages, err := filepath.Abs("../.testenv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(packages, "xllamacpp")); err != nil {
		t.Fatalf("the Python packages of the tests are missing (%v): `make testenv` fetches them", err)
	}
	cmd := exec.CommandContext(ctx, "python3", append([]string{filepath.Join("python", script)}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PYTHONPATH=" + packages, "PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1"}
	return cmd
}

// runPython runs a script, and decodes the JSON that it prints.
func runPython(t *testing.T, into any, script string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := python(ctx, t, script, args...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, errors.Bytes())
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%s: %v in %s", script, err, out)
	}
}

// llamaKey is what the llama.cpp servers want as API key.
const llamaKey = "sk-llama"

// startLlama starts a llama.cpp server for text or embeddings, and returns its base URL without /v1.
func startLlama(t *testing.T, kind string) string {
	t.Helper()
	model := filepath.Join(t.TempDir(), "tiny.gguf")
	runPython(t, nil, "tiny_model.py", model)
	cmd := python(context.Background(), t, "llama_server.py", model, llamaKey, kind)
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		first <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, r)
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		select {
		case err = <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Error("the llama.cpp server outlived its input")
		}
		if t.Failed() {
			t.Logf("llama.cpp: %v\n%s", err, log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	select {
	case address := <-first:
		if !strings.HasPrefix(address, "http://127.0.0.1:") {
			t.Fatalf("the llama.cpp server did not start: it said %q", address)
		}
		return address
	case <-time.After(30 * time.Second):
		t.Fatal("the llama.cpp server did not start")
	}
	return ""
}

// llama describes a target at a llama.cpp server.
func llama(provider, address string) target {
	return target{provider: provider, baseURL: address + "/v1", secret: llamaKey, authName: "authorization", authFormat: "Bearer {}"}
}

// totals returns the tokens of a record by meter. None may be an estimate.
func (r *record) totals(t *testing.T) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, a := range r.Attempts {
		for _, m := range a.Meters {
			if m.Estimated {
				t.Errorf("call %s has estimates: %s", r.ID, r.meters())
			}
			out[m.Meter] += m.Quantity
		}
	}
	return out
}

// checkTokens compares the record of a call with the tokens that its answer reported.
func (g *gateway) checkTokens(t *testing.T, id string, prompt, completion int64) {
	t.Helper()
	rec := g.record(id)
	m := rec.totals(t)
	if in := m["input"] + m["cached_input"] + m["cache_write"]; in != prompt || prompt == 0 {
		t.Errorf("call %s: %d prompt tokens are on record, the answer says %d", id, in, prompt)
	}
	if out := m["output"] + m["reasoning"]; out != completion {
		t.Errorf("call %s: %d completion tokens are on record, the answer says %d", id, out, completion)
	}
	if rec.EndReason != "ok" || rec.Status != 200 || len(rec.Attempts) != 1 {
		t.Errorf("call %s: record %+v", id, rec)
	}
}
