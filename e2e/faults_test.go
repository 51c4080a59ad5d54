package e2e_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const waitLong = 30 * time.Second

// gated streams five chunks, waits, and goes on with five more.
func gated(u usage) (handle func(*provider, http.ResponseWriter, asked), reached chan struct{}, goOn chan struct{}) {
	reached, goOn = make(chan struct{}, 100), make(chan struct{})
	return func(p *provider, w http.ResponseWriter, a asked) {
		e := openEvents(w)
		chunk := object{"choices": []object{{"index": 0, "delta": object{"content": "x"}}}}
		for range 5 {
			e.send(chunk)
		}
		reached <- struct{}{}
		<-goOn
		for range 5 {
			e.send(chunk)
		}
		p.charge(u)
		e.send(object{"choices": []object{}, "usage": u.chat()})
		e.text("data: [DONE]\n\n")
	}, reached, goOn
}

// openStream starts a stream and returns its answer once it has begun.
func (g *gateway) openStream(model string) *http.Response {
	g.t.Helper()
	resp, err := g.open("POST", "/v1/chat/completions", strings.NewReader(chatBody(model, true)))
	if err != nil {
		g.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		g.t.Fatalf("stream: %d %s", resp.StatusCode, body)
	}
	g.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestStreamSurvivesKilledServe(t *testing.T) {
	handle, reached, goOn := gated(usage{input: 9, output: 10})
	p := newProvider(t, handle)
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	resp := g.openStream("m")
	<-reached
	g.killAndWait("serve")
	close(goOn)
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "[DONE]") {
		t.Fatalf("stream ended with %v: %s", err, body)
	}
	if rec := g.record(resp.Header.Get("x-request-id")); rec.EndReason != "ok" || rec.meters() != "input=9 output=10" {
		t.Errorf("record %+v", rec)
	}
	if n := g.scalar("select count(*) from calls"); n != 1 {
		t.Errorf("%d calls are on record", n)
	}
}

func TestCallsWhileServeIsAwayGetAClearAnswer(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	if err := syscall.Kill(g.pid("serve"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := g.pid("serve")
	done := make(chan *reply)
	go func() { done <- g.chat("m") }()
	g.eventually("call in Envoy", waitLong, func() bool { return g.active() > 0 })
	if err := syscall.Kill(stopped, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.status != 503 || r.code() != "gateway_unavailable" {
		t.Errorf("answer %v", r)
	}
	checkErrorShape(t, r, "/v1/chat/completions")
}

// active returns how many requests Envoy works on.
func (g *gateway) active() int {
	resp, err := http.Get("http://" + g.stats + "/stats?filter=^http.data.downstream_rq_active$")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	_, n, _ := strings.Cut(strings.TrimSpace(string(body)), ": ")
	if n == "" || n == "0" {
		return 0
	}
	return 1
}

func TestKilledEnvoyIsBackAndItsCallsAreLost(t *testing.T) {
	handle, reached, goOn := gated(usage{input: 9, output: 10})
	defer close(goOn)
	waiting := make(chan struct{}, 10)
	p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		switch {
		case a.streams():
			handle(p, w, a)
		case strings.Contains(string(a.body), "wait"):
			waiting <- struct{}{}
			<-goOn
		default:
			p.answerChat(w, a, usage{input: 3, output: 2}, 1)
		}
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	g.openStream("m")
	g.openStream("m")
	<-reached
	<-reached
	go g.call("POST", "/v1/chat/completions", `{"model":"m","x":"wait"}`)
	<-waiting
	before := g.chat("m")
	g.record(before.id()) // Envoy writes its log every 20 ms; what it has not written dies with it
	g.killAndWait("envoy")
	after := g.chat("m")
	if before.status != 200 || after.status != 200 {
		t.Errorf("answers %v, %v", before, after)
	}
	for _, a := range p.requests() {
		rec := g.record(a.header.Get("x-request-id"))
		want, meters := "ok", "input=3 output=2"
		if a.streams() || strings.Contains(string(a.body), "wait") {
			want, meters = "lost", "input~"
		}
		if rec.EndReason != want || !strings.HasPrefix(rec.meters(), meters) || len(rec.Attempts) != 1 {
			t.Errorf("record %+v, want %s", rec, want)
		}
	}
	if n := g.metric("logos_calls_in_flight"); n != 0 {
		t.Errorf("%v calls are under way", n)
	}
	g.eventually("one access log", waitLong, func() bool {
		logs, _ := filepath.Glob(filepath.Join(g.dir, "run", "access-*"))
		return len(logs) == 1
	})
}

func TestKilledUpIsTakenOver(t *testing.T) {
	p := plain(t, usage{input: 4, output: 2})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	r := g.chat("m")
	left := g.pids()
	g.cmd.Process.Kill()
	<-g.exited
	g.up()
	g.eventually("new children", waitLong, func() bool {
		now := g.pids()
		return now["serve"] != left["serve"] && now["envoy"] != left["envoy"] && now["postgres"] != left["postgres"] && now["envoy"] != 0
	})
	g.waitReady()
	if rec := g.record(r.id()); rec.meters() != "input=4 output=2" {
		t.Errorf("record %+v", rec)
	}
	if r := g.chat("m"); r.status != 200 {
		t.Errorf("answer %v", r)
	}
}

func TestSecondUpOnTheSameDataIsRefused(t *testing.T) {
	g := start(t, nil)
	first := g.cmd
	exited := g.exited
	g.up()
	<-g.exited
	if code := g.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit code %d", code)
	}
	text, _ := os.ReadFile(g.output.Name())
	if !strings.Contains(string(text), "logos up runs already") {
		t.Error("it does not say why")
	}
	g.cmd, g.exited = first, exited
	g.waitReady()
}

func TestClientThatLeavesIsOneCancelledCall(t *testing.T) {
	handle, reached, goOn := gated(usage{})
	defer close(goOn)
	p := newProvider(t, handle)
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	resp := g.openStream("m")
	<-reached
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	rec := g.record(resp.Header.Get("x-request-id"))
	if rec.EndReason != "client_cancelled" || len(rec.Attempts) != 1 || !strings.HasPrefix(rec.meters(), "input~") || !strings.Contains(rec.meters(), "output~") {
		t.Errorf("record %+v", rec)
	}
	if n := g.scalar("select count(*) from calls"); n != 1 {
		t.Errorf("%d calls are on record", n)
	}
}

func TestAnswerThatBreaksOffIsTruncated(t *testing.T) {
	p := newProvider(t, func(_ *provider, w http.ResponseWriter, _ asked) {
		e := openEvents(w)
		e.send(object{"choices": []object{}})
		panic(http.ErrAbortHandler)
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	r := g.call("POST", "/v1/chat/completions", chatBody("m", true))
	if rec := g.record(r.id()); rec.EndReason != "truncated" || !strings.Contains(rec.meters(), "output~") {
		t.Errorf("record %+v", rec)
	}
}

func TestErrorInsideAStream(t *testing.T) {
	p := newProvider(t, func(_ *provider, w http.ResponseWriter, _ asked) {
		e := openEvents(w)
		e.send(object{"choices": []object{}})
		e.send(object{"error": object{"message": strings.Repeat("too busy ", 1000), "type": "server_error", "code": "overloaded"}})
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	r := g.call("POST", "/v1/chat/completions", chatBody("m", true))
	rec := g.record(r.id())
	if rec.EndReason != "upstream_error" || rec.Error == nil || rec.Error.Code != "overloaded" || len(rec.Error.Message) < 256 || !strings.HasPrefix(rec.Error.Message, "too busy") || len(rec.Error.Message) > 512 {
		t.Errorf("record %+v %+v", rec, rec.Error)
	}
}

func TestTornLineIsKeptAside(t *testing.T) {
	p := plain(t, usage{input: 4, output: 2})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	g.record(g.chat("m").id())
	logs, err := filepath.Glob(filepath.Join(g.dir, "run", "access-*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	f, err := os.OpenFile(logs[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"t\":\"DownstreamEnd\",\"id\":\"torn\nno JSON at all\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if rec := g.record(g.chat("m").id()); rec.meters() != "input=4 output=2" {
		t.Errorf("record %+v", rec)
	}
	if n := g.scalar("select count(*) from unknown_lines"); n != 2 {
		t.Errorf("%d lines are kept aside", n)
	}
	if n := g.metric("logos_access_log_unknown_lines_total"); n != 2 {
		t.Errorf("%v lines are counted", n)
	}
}

func TestSilentProvider(t *testing.T) {
	silent := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		// Envoy's own limit of a route is 15 seconds.
		select {
		case <-time.After(16 * time.Second):
			p.answerChat(w, a, usage{input: 1, output: 1}, 1)
		case <-t.Context().Done():
		}
	})
	t.Run("answers in the end", func(t *testing.T) {
		t.Parallel()
		g := start(t, nil)
		g.deploy("m", "", silent.openai("p"))
		if r := g.chat("m"); r.status != 200 {
			t.Errorf("answer %v", r)
		}
	})
	t.Run("is given up after the limit", func(t *testing.T) {
		t.Parallel()
		g := start(t, map[string]string{"LOGOS_FIRST_BYTE_TIMEOUT": "300ms"})
		g.deploy("m", "", silent.openai("p"))
		r := g.chat("m")
		if r.status != 504 || r.code() != "upstream_timeout" {
			t.Errorf("answer %v", r)
		}
		if rec := g.record(r.id()); rec.EndReason != "timeout" || !strings.HasPrefix(rec.meters(), "input~") {
			t.Errorf("record %+v", rec)
		}
	})
}

func TestWrongMasterKeyIsRefused(t *testing.T) {
	g := start(t, nil)
	g.setup("p", "http://127.0.0.1:9/v1")
	g.stop()
	path := filepath.Join(g.dir, "master.key")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what, want string) {
		t.Helper()
		if err := g.output.Truncate(0); err != nil {
			t.Fatal(err)
		}
		g.up()
		select {
		case <-g.exited:
		case <-time.After(waitLong):
			t.Fatalf("with %s, logos up runs", what)
		}
		text, _ := os.ReadFile(g.output.Name())
		if code := g.cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(text), want) {
			t.Errorf("with %s: exit code %d", what, code)
		}
	}
	if err := os.WriteFile(path, []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a wrong key", "the master key of this database is not given")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("no key", "the master key is gone")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	g.up()
	g.waitReady()
	if status, answer := g.trySet("setup", object{"provider_name": "x", "base_url": "http://127.0.0.1:9"}); status != 409 {
		t.Errorf("setup again: %d %v", status, answer)
	}
	if status, _ := g.trySet("get_process_id", object{}); status != 200 {
		t.Errorf("the root key does not work: %d", status)
	}
}

func TestDatabaseIsMigratedBySeveralAtOnce(t *testing.T) {
	g := start(t, nil)
	url := ""
	conn := g.db()
	url = conn.Config().ConnString()
	if _, err := conn.Exec(context.Background(), "create database another"); err != nil {
		t.Fatal(err)
	}
	another := strings.Replace(url, "/logos?", "/another?", 1)
	done := make(chan string, 4)
	for range 4 {
		go func() {
			cmd := command("migrate", "DATABASE_URL="+another)
			out, err := cmd.CombinedOutput()
			if err != nil {
				done <- err.Error() + string(out)
				return
			}
			done <- ""
		}()
	}
	for range 4 {
		if out := <-done; out != "" {
			t.Error(out)
		}
	}
}

// Envoy sets no flag when a call reaches its longest duration, and the status is that of an answer that began well.
func TestAnAnswerThatIsCutOffIsNotOnRecordAsWhole(t *testing.T) {
	t.Parallel()
	endless := newScript(t, stream("events without end", "", func(w http.ResponseWriter, a asked) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-a.gone:
				return
			case <-tick.C:
				events{w}.text(event)
			}
		}
	}))
	g := start(t, map[string]string{"LOGOS_MAX_DURATION": "2s"})
	g.deploy("m", "", endless.openai("endless"))
	r := g.call("POST", "/v1/chat/completions", chatBody("m", true))
	if rec := g.record(r.id()); r.status != 200 || r.err == nil || rec.EndReason != "timeout" {
		t.Errorf("the caller got %v, %v; on record %+v", r, r.err, rec)
	}
}
