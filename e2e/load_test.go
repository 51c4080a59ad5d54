package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// mixed answers by what the body asks for in its field "do", with tokens that depend on the call.
func mixed(p *provider, w http.ResponseWriter, a asked) {
	o := a.json()
	n, _ := o["n"].(float64)
	u := usage{input: int64(n) + 10, cached: int64(n) / 4, output: int64(n)%50 + 2, reasoning: int64(n) % 3}
	switch o["do"] {
	case "fail":
		fails(503)(p, w, a)
	case "reset":
		resets(p, w, a)
	case "reject":
		fails(400)(p, w, a)
	default:
		if strings.HasSuffix(a.uri, "/embeddings") {
			p.charge(usage{input: u.input})
			answerJSON(w, 200, object{"data": []object{}, "usage": object{"prompt_tokens": u.input, "total_tokens": u.input}})
			return
		}
		p.answerChat(w, a, u, 4)
	}
}

func TestAThousandMixedCallsAreRecordedOnceWithTheProvidersOwnCount(t *testing.T) {
	flaky := newProvider(t, mixed)
	steady := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		if o := a.json(); o["do"] != "reject" {
			a.body, _ = json.Marshal(merge(o, object{"do": ""}))
		}
		mixed(p, w, a)
	})
	g := start(t, nil)
	g.deploy("m", "", flaky.openai("flaky"), steady.openai("steady"))
	const calls = 1000
	var next, refused atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > calls {
					return
				}
				body := object{"model": "m", "n": n, "stream": n%3 == 0, "messages": []object{}}
				path, want := "/v1/chat/completions", 200
				switch n % 10 {
				case 1:
					body["do"] = "fail" // a breaker may spare the call the first provider
				case 2:
					body["do"] = "reset"
				case 3:
					body["do"], want = "reject", 400
				case 4:
					body["model"], want = "unknown", 404
					refused.Add(1)
				case 5:
					path = "/v1/embeddings"
					delete(body, "stream")
				}
				encoded, _ := json.Marshal(body)
				if r := g.call("POST", path, string(encoded)); r.status != want || r.err != nil {
					t.Errorf("call %d: %v %v", n, r, r.err)
				}
			}
		})
	}
	wg.Wait()
	g.eventually("all records", waitLong, func() bool { return g.metric("logos_calls_recorded_total") >= calls })
	if n := g.scalar("select count(*) from calls"); n != calls {
		t.Errorf("%d calls are on record, want %d", n, calls)
	}
	if n, want := g.scalar("select count(*) from attempts"), len(flaky.requests())+len(steady.requests()); n != int64(want) {
		t.Errorf("%d attempts are on record; the providers were asked %d times", n, want)
	}
	if n := g.scalar("select count(*) from calls where end_reason = 'refused'"); n != refused.Load() {
		t.Errorf("%d refused calls are on record, want %d", n, refused.Load())
	}
	g.compareBooks(flaky, steady)
	if n := g.metric("logos_calls_in_flight"); n != 0 {
		t.Errorf("%v calls are still under way", n)
	}
}

func merge(a, b object) object {
	for k, v := range b {
		a[k] = v
	}
	return a
}

// compareBooks compares what is on record, meter by meter, with what the providers charged.
func (g *gateway) compareBooks(providers ...*provider) {
	g.t.Helper()
	var want usage
	for _, p := range providers {
		b := p.books()
		want.input += b.input
		want.cached += b.cached
		want.output += b.output
		want.reasoning += b.reasoning
	}
	got := usage{input: g.meter("input") + g.meter("cached_input"), cached: g.meter("cached_input"), output: g.meter("output") + g.meter("reasoning"), reasoning: g.meter("reasoning")}
	if got != want {
		g.t.Errorf("on record are %+v, the providers charged %+v", got, want)
	}
	if n := g.scalar("select count(*) from meters where estimated"); n != 0 {
		g.t.Errorf("%d readings are estimates", n)
	}
}

func (g *gateway) meter(name string) int64 {
	return g.scalar("select coalesce(sum(quantity), 0)::bigint from meters where meter = $1", name)
}

// load calls in parallel until stop is closed, and returns the ids of the answers that were complete.
func (g *gateway) load(workers int, model string, stop <-chan struct{}) (wait func() (complete []string, failed int)) {
	var mu sync.Mutex
	var complete []string
	failed := 0
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r := g.call("POST", "/v1/chat/completions", fmt.Sprintf(`{"model":%q,"n":%d,"stream":%t}`, model, n%100, n%2 == 0))
				done := r.status == 200 && r.err == nil && (n%2 == 1 || strings.Contains(string(r.body), "[DONE]"))
				mu.Lock()
				if done {
					complete = append(complete, r.id())
				} else {
					failed++
				}
				mu.Unlock()
				if !done {
					time.Sleep(5 * time.Millisecond) // the rate of this load while there is nobody to answer; nothing waits for it
				}
			}
		})
	}
	return func() ([]string, int) {
		wg.Wait()
		return complete, failed
	}
}

// expectRecorded checks that each of these calls is on record once, with its tokens as reported.
func (g *gateway) expectRecorded(ids []string) {
	g.t.Helper()
	if n := g.scalar("select count(*) from calls where call_id = any ($1::uuid[])", ids); n != int64(len(ids)) {
		g.t.Errorf("of %d complete calls %d are on record", len(ids), n)
	}
}

func TestPostgresAwayForHalfAMinute(t *testing.T) {
	db := startDatabase(t)
	p := newProvider(t, mixed)
	g := start(t, map[string]string{"DATABASE_URL": db.url})
	g.deploy("m", "", p.openai("p"))
	stop := make(chan struct{})
	wait := g.load(2, "m", stop)
	db.stop()
	away := time.After(30 * time.Second)
	for during := true; during; {
		select {
		case <-away:
			during = false
		default:
			if r := g.chat("m"); r.status != 200 {
				t.Errorf("a call while the database is away: %v", r)
			}
			if resp, err := http.Get("http://" + g.admin + "/healthz"); err != nil || resp.StatusCode != 200 {
				t.Errorf("healthz: %v", err)
			} else {
				resp.Body.Close()
			}
			time.Sleep(100 * time.Millisecond) // the rate of this load, not a wait for something
		}
	}
	db.start()
	close(stop)
	complete, failed := wait()
	if failed != 0 {
		t.Errorf("%d calls failed", failed)
	}
	g.waitReady()
	asked := int64(len(p.requests()))
	g.eventually("all records", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	if n := g.scalar("select count(*) from calls"); n != asked {
		t.Errorf("%d calls are on record, the provider was asked %d times", n, asked)
	}
	g.expectRecorded(complete)
	g.compareBooks(p)
}

func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	p := newProvider(t, mixed)
	g := start(t, map[string]string{"LOGOS_LOG_ROTATE_BYTES": "65536"})
	g.deploy("m", "", p.openai("p"))
	stop := make(chan struct{})
	wait := g.load(4, "m", stop)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	victims := []string{"serve", "serve", "serve", "postgres", "envoy"}
	kills := map[string]int{}
	for n := 0; n < 50; {
		select {
		case <-g.exited:
			close(stop)
			t.Fatalf("logos up ended after %d kills", n)
		default:
		}
		name := victims[random.IntN(len(victims))]
		pid := g.pid(name)
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond) // the random moment itself
		if pid == 0 || pid != g.pid(name) || syscall.Kill(pid, syscall.SIGKILL) != nil {
			continue
		}
		n++
		kills[name]++
		if random.IntN(2) == 0 {
			g.eventually("a new "+name, waitLong, func() bool { now := g.pid(name); return now != 0 && now != pid })
		}
	}
	done := 0 // on a busy machine few calls get between the kills: as many come after them, beside these
	g.eventually("50 calls after the kills", waitLong, func() bool {
		if g.chat("m").status == 200 {
			done++
		}
		return done >= 50
	})
	close(stop)
	complete, failed := wait()
	t.Logf("killed %v; %d calls were complete, %d not", kills, len(complete), failed)
	if len(complete) < 50 {
		t.Errorf("only %d calls were complete", len(complete))
	}
	g.waitReady()
	g.eventually("all records", time.Minute, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	g.expectRecorded(complete)
	// Whatever reached the provider is on record; each record is of a call, once.
	var asked []string
	seen := map[string]bool{}
	for _, a := range p.requests() {
		if id := a.header.Get("x-request-id"); !seen[id] {
			seen[id] = true
			asked = append(asked, id)
		}
	}
	if n := g.scalar("select count(*) from calls where call_id = any ($1::uuid[])", asked); n != int64(len(asked)) {
		t.Errorf("the provider saw %d calls, %d of them are on record", len(asked), n)
	}
	if n, distinct := g.scalar("select count(*) from calls"), g.scalar("select count(distinct call_id) from calls"); n != distinct {
		t.Errorf("%d records of %d calls", n, distinct)
	}
	// Only what died with an Envoy may be estimated.
	if n := g.scalar("select count(*) from calls where call_id = any ($1::uuid[]) and end_reason <> 'ok'", complete); n > int64(10*kills["envoy"]) {
		t.Errorf("%d complete calls are recorded as something else", n)
	}
}

func TestRotationUnderLoad(t *testing.T) {
	p := newProvider(t, mixed)
	g := start(t, map[string]string{"LOGOS_LOG_ROTATE_BYTES": "16384"})
	g.deploy("m", "", p.openai("p"))
	stop := make(chan struct{})
	wait := g.load(8, "m", stop)
	g.eventually("2,000 calls", time.Minute, func() bool { return len(p.requests()) >= 2000 })
	close(stop)
	complete, failed := wait()
	if failed != 0 {
		t.Errorf("%d calls failed", failed)
	}
	g.eventually("all records", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	if n := g.scalar("select count(*) from calls"); n != int64(len(complete)) {
		t.Errorf("%d calls are on record, want %d", n, len(complete))
	}
	g.compareBooks(p)
	if n := g.scalar("select max(generation) from log_positions"); n < 2 {
		t.Errorf("the log was rotated %d times", n)
	}
	logs, err := filepath.Glob(filepath.Join(g.dir, "run", "access-*"))
	if err != nil || len(logs) > 3 {
		t.Errorf("%d logs are left (%v)", len(logs), err)
	}
}

func TestFullDiskRefusesCalls(t *testing.T) {
	t.Run("below the watermark", func(t *testing.T) {
		p := plain(t, usage{input: 1, output: 1})
		g := start(t, map[string]string{"LOGOS_MIN_FREE_BYTES": fmt.Sprint(int64(1) << 49)})
		g.deploy("m", "", p.openai("p"))
		r := g.chat("m")
		if r.status != 503 || r.code() != "gateway_unavailable" || len(p.requests()) != 0 {
			t.Errorf("answer %v", r)
		}
	})
	t.Run("with no byte left", func(t *testing.T) {
		disk := t.TempDir()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk).CombinedOutput(); err != nil {
			t.Skipf("needs the right to mount a small disk: %s", out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
				t.Errorf("umount: %s", out)
			}
		})
		handle, reached, goOn := gated(usage{input: 9, output: 10})
		p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
			if a.streams() {
				handle(p, w, a)
				return
			}
			p.answerChat(w, a, usage{input: 1, output: 1}, 1)
		})
		g := start(t, map[string]string{"LOGOS_RUN_DIR": disk, "LOGOS_MIN_FREE_BYTES": "0", "LOGOS_MAX_DURATION": "5s"})
		g.deploy("m", "", p.openai("p"))
		resp := g.openStream("m")
		<-reached
		filler := filepath.Join(disk, "filler")
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(f, io.LimitReader(zeros{}, 1<<30))
		f.Close()
		if err == nil {
			t.Fatal("the disk is not full")
		}
		close(goOn)
		if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "[DONE]") {
			t.Errorf("the stream under way broke: %v", err)
		}
		g.eventually("refusal", waitLong, func() bool { r := g.chat("m"); return r.status == 503 && r.code() == "gateway_unavailable" })
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		g.eventually("service after room was made", waitLong, func() bool { return g.chat("m").status == 200 })
		if rec := g.record(resp.Header.Get("x-request-id")); rec.EndReason != "ok" && rec.EndReason != "lost" {
			t.Errorf("record %+v", rec)
		}
		g.eventually("all records", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
		if n, asked := g.scalar("select count(*) from calls where end_reason <> 'refused'"), len(p.requests()); n != int64(asked) {
			t.Errorf("%d calls are on record, the provider was asked %d times", n, asked)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A database is a Postgres beside the gateway, which the test stops and starts.
type database struct {
	t      *testing.T
	url    string
	run    func(ctx context.Context)
	cancel context.CancelFunc
	done   chan struct{}
	wait   func()
}

func (d *database) start() {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan struct{})
	go func() {
		defer close(d.done)
		d.run(ctx)
	}()
	d.wait()
}

func (d *database) stop() {
	d.cancel()
	<-d.done
}
