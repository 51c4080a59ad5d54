package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMasterKeyIsRotatedAsTyped rotates the key of a gateway that runs and is called all the time, as
// OPERATING.md says.
func TestMasterKeyIsRotatedAsTyped(t *testing.T) {
	p := newProvider(t, mixed)
	g := inFolder(t, binary, nil)
	g.up()
	g.waitReady()
	g.deploy("m", "", p.openai("p"))
	path := filepath.Join(g.dir, "master.key")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	serve := g.pid("serve")
	stop := make(chan struct{})
	wait := g.load(2, "m", stop)
	before := g.metric("logos_config_applied_revision")
	said := g.typed("rekey")
	if !strings.Contains(said, "under the first master key now") {
		t.Errorf("it says %s", said)
	}
	g.eventually("revision of the rotation", waitLong, func() bool { return g.metric("logos_config_applied_revision") > before })
	g.deploy("added-afterwards", "", p.openai("q"))
	for _, model := range []string{"m", "added-afterwards"} {
		if r := g.chat(model); r.status != 200 {
			t.Errorf("a call of %s: %v", model, r)
		}
	}
	close(stop)
	if complete, failed := wait(); failed != 0 || len(complete) == 0 {
		t.Errorf("%d calls worked, %d did not", len(complete), failed)
	}
	if g.pid("serve") != serve {
		t.Error("serve was started again")
	}
	if n := g.scalar("select count(*) from credentials c join instance i using (key_id)"); n != g.scalar("select count(*) from credentials") {
		t.Errorf("%d credentials are under the new key", n)
	}
	fresh, err := os.ReadFile(path)
	if err != nil || string(fresh) == string(old) || len(strings.Fields(string(fresh))) != 1 {
		t.Errorf("the file holds %d keys, %v", len(strings.Fields(string(fresh))), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}

	g.killAndWait("serve") // the next has the new key alone
	for _, model := range []string{"m", "added-afterwards"} {
		if r := g.chat(model); r.status != 200 {
			t.Errorf("a call of %s after a restart: %v", model, r)
		}
	}
	if text, err := os.ReadFile(g.output.Name()); err != nil || strings.Contains(string(text), strings.TrimSpace(string(old))) || strings.Contains(string(text), strings.TrimSpace(string(fresh))) {
		t.Errorf("a key is in the log, or %v", err)
	}
	g.stop()

	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	g.up()
	select {
	case <-g.exited:
	case <-t.Context().Done():
	}
	text, err := os.ReadFile(g.output.Name())
	if code := g.cmd.ProcessState.ExitCode(); code != 3 || err != nil || !strings.Contains(string(text), "the master key of this database is not given") {
		t.Errorf("with the old key alone: exit code %d, %v", code, err)
	}
	if out, err := g.prepare("rekey").CombinedOutput(); err == nil || !strings.Contains(string(out), "the master key of this database is not given") {
		t.Errorf("a rotation with the old key alone: %v %s", err, out)
	}
}

func TestCommandsSayWhatTheyLack(t *testing.T) {
	empty := "LOGOS_DATA_DIR=" + t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"backup"}, "--to is missing"},
		{[]string{"backup", "--to", "x"}, "no gateway ran in"},
		{[]string{"restore"}, "--from is missing"},
		{[]string{"restore", "--from", "parts_test.go"}, "not a whole backup"},
		{[]string{"rekey"}, "there is no database in"},
		{[]string{"migrate"}, "there is no database in"},
	} {
		g := &gateway{program: binary}
		cmd := g.prepare(c.args...)
		cmd.Env = append(cmd.Env, empty)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), c.want) {
			t.Errorf("logos %s: %v %s", strings.Join(c.args, " "), err, out)
		}
	}
}

// TestGoingBackLosesNothingWithoutBeingTold takes the schema of a database back.
func TestGoingBackLosesNothingWithoutBeingTold(t *testing.T) {
	g := start(t, nil)
	if _, err := g.db().Exec(t.Context(), "insert into members (email, role, revision) values ('a@example.org', 'viewer', 1)"); err != nil {
		t.Fatal(err)
	}
	g.stop()
	out, err := g.prepare("migrate", "--to", "1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "members (1)") || !strings.Contains(string(out), "--yes") {
		t.Errorf("it goes back without a word: %v %s", err, out)
	}
	if out, err := g.prepare("migrate", "--to", "1", "--yes").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	g.up()
	g.waitReady() // and forth again
	if n := g.scalar("select count(*) from members"); n != 0 {
		t.Errorf("there are %d members", n)
	}
}
