package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func open(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestMigratesFromNothingAndTwice(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, conn := open(t, url), pgtest.Conn(t, url)
	if err := s.Migrated(t.Context()); err == nil {
		t.Error("an empty database counts as migrated")
	}
	if id, err := s.KeyID(t.Context()); id != "" || err != nil {
		t.Errorf("an empty database has the key id %q, %v", id, err)
	}
	var first map[string]string
	for round := range 2 {
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatalf("migration %d: %v", round+1, err)
		}
		if err := s.Migrated(t.Context()); err != nil {
			t.Errorf("after migration %d: %v", round+1, err)
		}
		if round == 0 {
			first = dump(t, conn)
		}
	}
	if diff := cmp.Diff(first, dump(t, conn)); diff != "" {
		t.Errorf("a second migration changes rows (-first +second):\n%s", diff)
	}
	want, err := store.SchemaVersion()
	if got := one[int](t, conn, "select max(version) from schema_migrations"); got != want || err != nil {
		t.Errorf("the schema is version %d, want %d, %v", got, want, err)
	}
	if id, err := s.KeyID(t.Context()); id != "" || err != nil {
		t.Errorf("a database that was never unlocked has the key id %q, %v", id, err)
	}
}

// Four gateways start on one new database; all of them work, under one hash key.
func TestFourMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	key := pgtest.Key(t, store.NewMasterKeyText())
	stores := make([]*store.Store, 4)
	for i := range stores {
		stores[i] = open(t, url)
	}
	var all errgroup.Group
	for _, s := range stores {
		all.Go(func() error {
			if err := s.Migrate(t.Context()); err != nil {
				return err
			}
			return s.Unlock(t.Context(), key)
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	conn := pgtest.Conn(t, url)
	if got, want := one[int](t, conn, "select count(*)::int from schema_migrations"), one[int](t, conn, "select max(version) from schema_migrations"); got != want {
		t.Errorf("%d migrations are noted, want %d", got, want)
	}
	c := fill(t, stores[0])
	for i, s := range stores {
		if known, err := s.OwnsKey(t.Context(), c.project, c.key); !known || err != nil {
			t.Errorf("store %d does not know the key of store 0: %v", i, err)
		}
	}
}

// TestMigrationKeepsWhatIsThere brings a database with the content of each earlier version up.
func TestMigrationKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	fill(t, s)
	record(t, s, callID(1))
	conn := pgtest.Conn(t, url)
	before := dump(t, conn)
	if err := open(t, url).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
		t.Errorf("the migration changed what was there (-before +after):\n%s", diff)
	}
}

func TestLeavesANewerSchemaAlone(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, "insert into schema_migrations (version, name) values (9999, 'of a later release')")
	if err := s.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Migrated(t.Context()); err != nil {
		t.Error(err)
	}
	fill(t, s)
}

func TestSaysThatTheSchemaIsTooOld(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	exec(t, pgtest.Conn(t, url), "update schema_migrations set version = version - 1")
	if err := s.Migrated(t.Context()); err == nil || !strings.Contains(err.Error(), "logos migrate") {
		t.Errorf("an old schema gives %v", err)
	}
}
