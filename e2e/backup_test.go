package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// configuration returns the rows of every table that decides about calls.
func (g *gateway) configuration() map[string][]string {
	g.t.Helper()
	conn := g.db()
	out := make(map[string][]string)
	for _, table := range []string{
		"config_revision", "instance", "teams", "projects", "profiles", "api_keys", "providers", "credentials", "models", "deployments", "profile_providers", "profile_models", "settings",
		"policies", "policy_versions", "prices", "price_versions", "budgets",
	} {
		rows, err := conn.Query(context.Background(), "select x::text from "+table+" x order by 1")
		if err != nil {
			g.t.Fatal(err)
		}
		if out[table], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			g.t.Fatal(err)
		}
	}
	return out
}

// released streams begin at once, and end when their channel is closed.
func released(u usage, ends map[string]chan struct{}) func(*provider, http.ResponseWriter, asked) {
	return func(p *provider, w http.ResponseWriter, a asked) {
		if !a.streams() {
			p.answerChat(w, a, u, 1)
			return
		}
		e := openEvents(w)
		e.send(object{"choices": []object{}})
		name, _ := a.json()["x"].(string)
		<-ends[name]
		p.charge(u)
		e.send(object{"choices": []object{}, "usage": u.chat()})
		e.text("data: [DONE]\n\n")
	}
}

// TestBackupAndRestoreAsTyped backs up a gateway that runs: with calls on record, with one that ended but was
// not read, and with one under way. It goes on in a new data directory.
func TestBackupAndRestoreAsTyped(t *testing.T) {
	ends := map[string]chan struct{}{"unread": make(chan struct{}), "under way": make(chan struct{})}
	p := newProvider(t, released(usage{input: 9, output: 10}, ends))
	g := inFolder(t, binary, nil)
	g.up()
	g.waitReady()
	g.deploy("m", "", p.openai("p"))
	for _, amount := range []string{"2.5", "3"} { // the second is another version
		if out, err := g.command(nil, "prices", "set", "--provider", "p", "--currency", "EUR", "--input", amount, "--output", "10"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	g.administer("POST", "budgets", object{"name": "all", "unit": "money", "currency": "EUR", "amount": "100"})
	g.administer("POST", "policies", object{"name": "cheap", "level": "installation", "on_request": true})
	g.waitRevision()
	stored := g.chat("m").id()
	g.record(stored)
	open := func(name string) (id string, rest io.Reader) {
		t.Helper()
		resp, err := g.open("POST", "/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"x":"`+name+`","messages":[]}`), "x-logos-user: ada")
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp.Header.Get("x-request-id"), resp.Body
	}
	unread, rest := open("unread")
	underWay, _ := open("under way")
	defer close(ends["under way"])
	serve := g.pid("serve")
	if err := syscall.Kill(serve, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(serve, syscall.SIGCONT) // if anything fails
	close(ends["unread"])
	if body, err := io.ReadAll(rest); err != nil || !bytes.Contains(body, []byte("[DONE]")) {
		t.Fatalf("the stream ends with %v: %s", err, body)
	}
	g.eventually("the end of the call in the access log", waitLong, func() bool {
		logs, _ := filepath.Glob(filepath.Join(g.dir, "run", "access-*.log"))
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			for line := range bytes.Lines(text) {
				if bytes.Contains(line, []byte(unread)) && bytes.Contains(line, []byte("DownstreamEnd")) {
					return true
				}
			}
		}
		return false
	})
	said := g.typed("backup")
	checkBackup(t, g, said)

	if err := syscall.Kill(serve, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	want := map[string]*record{stored: g.record(stored), unread: g.record(unread)}
	configuration := g.configuration()
	g.stop()

	said = g.typed("restore")
	if !strings.Contains(said, "need master key") {
		t.Errorf("it does not say which key is needed: %s", said)
	}
	g.dir = filepath.Join(filepath.Dir(g.dir), "restored")
	g.env["LOGOS_DATA_DIR"] = g.dir
	if out, err := g.prepare("restore", "--from", filepath.Join(filepath.Dir(g.dir), "logos.backup")).CombinedOutput(); err == nil {
		t.Errorf("it is restored twice: %s", out)
	}
	g.up()
	g.waitReady()
	if diff := cmp.Diff(configuration, g.configuration()); diff != "" {
		t.Errorf("the configuration differs (-before +restored):\n%s", diff)
	}
	for id, was := range want {
		if diff := cmp.Diff(was, g.record(id)); diff != "" {
			t.Errorf("call %s differs (-before +restored):\n%s", id, diff)
		}
	}
	if rec := g.record(underWay); rec.EndReason != "lost" {
		t.Errorf("the call that was under way: %+v", rec)
	}
	if n := g.scalar("select count(*) from calls"); n != 3 {
		t.Errorf("%d calls are on record, want 3", n)
	}
	if n := g.scalar("select count(distinct gateway) from calls"); n != 1 {
		t.Errorf("the calls are of %d gateways", n)
	}
	if n := g.scalar("select count(*) from unknown_lines"); n != 0 {
		t.Errorf("%d lines are kept aside", n)
	}
	if r := g.chat("m"); r.status != 200 {
		t.Errorf("a call afterwards: %v", r)
	}
}

// checkBackup looks at the file itself.
func checkBackup(t *testing.T, g *gateway, said string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(g.dir), "logos.backup")
	file, err := os.ReadFile(path)
	if err != nil || bytes.Contains(file, key[:8]) || bytes.Contains(file, text[:10]) {
		t.Errorf("the backup holds the master key, or %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	conn := g.db()
	var id string
	if err := conn.QueryRow(t.Context(), "select key_id from instance").Scan(&id); err != nil || !strings.Contains(said, id) {
		t.Errorf("it does not name the key %s, %v: %s", id, err, said)
	}
}

// Logs are rotated and deleted, intents come and go, all while the backup is made. Every call that was complete
// by then is in it once.
func TestBackupUnderLoadHoldsEveryCallOnce(t *testing.T) {
	p := newProvider(t, mixed)
	g := start(t, map[string]string{"LOGOS_LOG_ROTATE_BYTES": "65536"})
	g.deploy("m", "", p.openai("p"))
	var mu sync.Mutex
	var complete []string
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := g.chat("m"); r.status == 200 && r.err == nil {
					mu.Lock()
					complete = append(complete, r.id())
					mu.Unlock()
				}
			}
		})
	}
	// completed returns the calls whose lines have been in the log for longer than Envoy keeps them back: those
	// that were complete before some others were.
	completed := func(least int) (ids []string) {
		g.eventually("load", waitLong, func() bool {
			mu.Lock()
			defer mu.Unlock()
			ids = complete[:len(complete):len(complete)]
			return len(ids) >= least
		})
		return ids
	}
	before := completed(300)
	completed(len(before) + 100)
	path := filepath.Join(t.TempDir(), "logos.backup")
	if out, err := g.prepare("backup", "--to", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	completed(len(completed(0)) + 100)
	close(stop)
	load.Wait()
	g.stop()

	restored := newGateway(t, nil, "--demo=false")
	if out, err := restored.prepare("restore", "--from", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	key, err := os.ReadFile(filepath.Join(g.dir, "master.key"))
	if err != nil || os.WriteFile(filepath.Join(restored.dir, "master.key"), key, 0o600) != nil {
		t.Fatal(err)
	}
	restored.up()
	restored.waitReady()
	restored.root = g.root
	restored.eventually("the end of all calls", waitLong, func() bool { return restored.metric("logos_calls_in_flight") == 0 })
	if n := restored.scalar("select count(*) from calls where end_reason = 'ok' and call_id = any ($1::uuid[])", before); n != int64(len(before)) {
		t.Errorf("of %d calls that were complete %d are restored as such", len(before), n)
	}
	if n := restored.scalar("select count(*) from calls where end_reason <> 'ok'"); n > 3 {
		t.Errorf("%d calls are lost, and 3 were under way", n)
	}
	if n := restored.scalar("select count(*) from unknown_lines"); n != 0 {
		t.Errorf("%d lines are kept aside", n)
	}
	t.Logf("%d calls were complete, %d are restored, of %d", len(before), restored.scalar("select count(*) from calls"), len(complete))
}
