package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestWhatIsSeededWorks(t *testing.T) {
	t.Parallel()
	url, dir := pgtest.URL(t), t.TempDir()
	text := store.NewMasterKeyText()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "master.key"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), url, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := large.divided(20)
	if err := seed(t.Context(), url, dir, n, []string{"127.0.0.1:1", "127.0.0.1:2"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), pgtest.Key(t, text)); err != nil {
		t.Fatal(err)
	}
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	deployments := 0
	for _, target := range config.Targets() {
		if target.Credential != nil && target.Credential.Secret == "" {
			t.Fatalf("the credential of %s has no secret", target.Cluster)
		}
		if target.Deployment != nil {
			deployments++
		}
	}
	if deployments != n.deployments {
		t.Errorf("%d deployments can be called, want all of %d", deployments, n.deployments)
	}
	for _, i := range []int{0, 1, n.keys - 1} {
		key, _ := config.FindKey(seededKey(i))
		if key == nil || len(config.Profiles(key.ProjectID)) != 1 {
			t.Errorf("the seeded key %d is %+v", i, key)
		}
	}
	if config.Profiles(logos.ProjectID(firstID))[0].Models == nil {
		t.Error("a profile grants no model")
	}
	// What is added later has ids of its own.
	for _, table := range []string{"providers", "models", "projects", "deployments", "profiles", "api_keys", "credentials"} {
		var next, last int64
		conn := pgtest.Conn(t, url)
		if err := conn.QueryRow(t.Context(), "select nextval(pg_get_serial_sequence($1, 'id')), (select max(id) from "+table+")", table).Scan(&next, &last); err != nil || next <= last {
			t.Errorf("the next id of %s is %d, the last is %d, %v", table, next, last, err)
		}
	}
}
