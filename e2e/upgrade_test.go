package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// previous builds the program of the commit before the newest migration, which must work on today's schema.
var previous = sync.OnceValues(buildPrevious)

func buildPrevious() (string, error) {
	commit, err := beforeNewestMigration()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(binary), "previous") // goes with the other binary
	if err != nil {
		return "", err
	}
	// An archive, unlike a work tree, leaves no trace in the repository.
	source := exec.Command("bash", "-eu", "-o", "pipefail", "-c", `cd .. && git archive "$0" | tar -x -C "$1"`, commit, dir)
	if out, err := source.CombinedOutput(); err != nil {
		return "", fmt.Errorf("take commit %s out of the history: %w: %s", commit, err, out)
	}
	program := filepath.Join(dir, "logos")
	build := exec.Command("go", "build", "-o", program, "./cmd/logos")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build commit %s: %w: %s", commit, err, out)
	}
	return program, nil
}

func beforeNewestMigration() (string, error) {
	files, err := filepath.Glob("../sql/migrations/*.sql")
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".down.sql") })
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("there are no migrations: %w", err)
	}
	newest := files[len(files)-1]                                                                    // sorted, and numbers have leading zeros
	added, err := git("log", "--first-parent", "-m", "--diff-filter=A", "--format=%H", "--", newest) // it may have come by a merge
	if err != nil {
		return "", err
	}
	if added == "" { // it is not committed yet
		return git("rev-parse", "HEAD")
	}
	lines := strings.Fields(added)
	commit, err := git("rev-parse", "--verify", "--quiet", lines[len(lines)-1]+"^")
	if err != nil {
		return "", fmt.Errorf("the history before %s is missing, and so is the program that must work on its schema: `git fetch --unshallow`", filepath.Base(newest))
	}
	return commit, nil
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s (this test needs the history of the repository): %w", args[0], err)
	}
	return string(bytes.TrimSpace(out)), nil
}

func previousProgram(t *testing.T) string {
	t.Helper()
	program, err := previous()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// onlyToday is what the first release had no place for.
const onlyToday = `
	insert into members (email, role, revision) values ('a@example.org', 'viewer', 1);
	insert into api_keys (project_id, role, hash, revision, allowed_apis, allowed_cidrs) select id, 'service', sha256('a'), 1, '{chat}', '{10.0.0.0/8}' from projects limit 1;
	insert into api_keys (project_id, role, hash, revision, member_id) select id, 'member', sha256('b'), 1, 1 from projects limit 1;
	insert into deployments (model_id, provider_id, credential_id, name, revision) select model_id, provider_id, credential_id, 'second', 1 from deployments limit 1;`

// Halfway through an upgrade, one gateway runs the previous program and another today's, on today's schema.
func TestThePreviousProgramWorksOnTodaysSchema(t *testing.T) {
	program := previousProgram(t)
	db := startDatabase(t)
	p := plain(t, usage{input: 6, output: 3})
	env := map[string]string{"DATABASE_URL": db.url, "LOGOS_MASTER_KEY": testMasterKey}
	today := start(t, env)
	today.deploy("m", "", p.openai("p"))
	conn := today.db()
	if _, err := conn.Exec(t.Context(), onlyToday); err != nil {
		t.Fatal(err)
	}
	before := newGateway(t, env, "--demo=false")
	before.program = program
	before.up()
	before.waitReady()
	before.root = today.root
	expectCall := func(g *gateway, model string) {
		t.Helper()
		r := g.chat(model)
		if r.status != 200 {
			t.Fatalf("a call of %s: %v", model, r)
		}
		for _, g := range []*gateway{before, today} { // each shows the calls of both
			if rec := g.record(r.id()); rec.meters() != "input=6 output=3" || rec.EndReason != "ok" {
				t.Errorf("record %+v", rec)
			}
		}
	}
	expectCall(before, "m")
	before.deploy("added-by-the-previous", "", p.openai("q"))
	today.deploy("added-by-todays", "", p.openai("q"))
	before.waitRevision()
	today.waitRevision()
	for _, g := range []*gateway{before, today} {
		for _, model := range []string{"m", "added-by-the-previous", "added-by-todays"} {
			expectCall(g, model)
		}
	}
	if n := today.scalar("select count(distinct gateway) from calls"); n != 2 {
		t.Errorf("the calls are of %d gateways", n)
	}
}

// TestServeIsReplacedUnderOpenStreams goes from the previous program to today's and back, under an Envoy that
// stays. Each time a stream is under way.
func TestServeIsReplacedUnderOpenStreams(t *testing.T) {
	programs := []string{previousProgram(t), binary, previousProgram(t), binary}
	db := startDatabase(t)
	handle, reached, goOn := gated(usage{input: 9, output: 10})
	p := newProvider(t, handle)
	g := newGateway(t, map[string]string{"DATABASE_URL": db.url, "LOGOS_MASTER_KEY": testMasterKey})
	g.exited = make(chan struct{})
	stop := g.startServe(programs[0])
	g.startEnvoy()
	g.waitReady()
	g.setup("first", p.URL)
	g.deploy("m", "", p.openai("p"))
	ids := make(map[string]io.Reader)
	for _, program := range programs[1:] {
		resp := g.openStream("m")
		<-reached
		ids[resp.Header.Get("x-request-id")] = resp.Body
		begin := time.Now()
		stop()
		if r := g.chat("m"); r.status != 503 || r.code() != "gateway_unavailable" {
			t.Errorf("a call between the two: %v", r)
		}
		stop = g.startServe(program)
		g.waitReady()
		t.Logf("ready again after %v", time.Since(begin))
	}
	resp := g.openStream("m")
	<-reached
	ids[resp.Header.Get("x-request-id")] = resp.Body
	close(goOn)
	for id, answer := range ids {
		body, err := io.ReadAll(answer)
		if err != nil || !strings.Contains(string(body), "[DONE]") {
			t.Errorf("a stream ended with %v: %s", err, body)
		}
		if rec := g.record(id); rec.EndReason != "ok" || rec.meters() != "input=9 output=10" {
			t.Errorf("record %+v", rec)
		}
	}
	g.eventually("the end of all calls", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	if n := g.scalar("select count(*) from calls where end_reason = 'ok'"); n != int64(len(ids)) {
		t.Errorf("%d calls are on record as complete, want %d", n, len(ids))
	}
}

// TestUpgradeAsTyped does what OPERATING.md says, with a stream under way.
func TestUpgradeAsTyped(t *testing.T) {
	handle, reached, goOn := gated(usage{input: 9, output: 10})
	p := newProvider(t, handle)
	g := inFolder(t, previousProgram(t), nil)
	g.up()
	g.waitReady()
	g.deploy("m", "", p.openai("p"))
	schema := g.scalar("select max(version) from schema_migrations")
	serve := g.pid("serve")
	resp := g.openStream("m")
	<-reached
	g.install(binary, "logos.new")
	g.typed("upgrade")
	g.eventually("a new serve", waitLong, func() bool { pid := g.pid("serve"); return pid != 0 && pid != serve })
	g.waitReady()
	if now := g.scalar("select max(version) from schema_migrations"); now <= schema {
		t.Errorf("the schema is version %d, was %d", now, schema)
	}
	close(goOn)
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "[DONE]") {
		t.Errorf("the stream ended with %v: %s", err, body)
	}
	if rec := g.record(resp.Header.Get("x-request-id")); rec.EndReason != "ok" || rec.meters() != "input=9 output=10" {
		t.Errorf("record %+v", rec)
	}
	if n := g.scalar("select count(*) from calls"); n != 1 {
		t.Errorf("%d calls are on record", n)
	}
	// Back: the previous program, and then its schema.
	g.stop()
	out, err := g.prepare("migrate", "--to", fmt.Sprint(schema), "--yes").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	g.install(previousProgram(t), "bin/logos")
	g.up()
	g.waitReady()
	if now := g.scalar("select max(version) from schema_migrations"); now != schema {
		t.Errorf("the schema is version %d, want %d", now, schema)
	}
	if r := g.call("POST", "/v1/chat/completions", chatBody("m", true)); r.status != 200 {
		t.Errorf("a call afterwards: %v", r)
	}
}
