package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// watch runs a watcher and returns the revisions that it sees.
func watch(t *testing.T, s *store.Store) <-chan int64 {
	t.Helper()
	seen := make(chan int64, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	last := int64(-1)
	go func() {
		done <- store.NewWatcher(s, prometheus.NewRegistry()).Run(ctx, func(_ context.Context, c *logos.Config, _ time.Time) {
			if c.Revision <= last {
				t.Errorf("revision %d is applied after %d", c.Revision, last)
			}
			last = c.Revision
			seen <- last
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the watcher ended with %v", err)
		}
	})
	return seen
}

// expectRevision waits until a revision is seen, and returns how long that took.
func expectRevision(t *testing.T, seen <-chan int64, want int64) time.Duration {
	t.Helper()
	begin := time.Now()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case got := <-seen:
			if got == want {
				return time.Since(begin)
			}
			if got > want {
				t.Fatalf("revision %d is seen, want %d", got, want)
			}
		case <-timeout.C:
			t.Fatalf("revision %d is not seen", want)
		}
	}
}

func TestAWatcherSeesEachChange(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	c := fill(t, s)
	seen := watch(t, s)
	expectRevision(t, seen, revision(t, conn))
	var fastest time.Duration = time.Hour
	for range 5 {
		if _, err := addKey(t, s, c.project); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, expectRevision(t, seen, revision(t, conn)))
	}
	if fastest > 500*time.Millisecond {
		t.Errorf("a change is seen after %v at best: notifications do not arrive", fastest)
	}
	t.Run("also if its notification is missed", func(t *testing.T) {
		exec(t, conn, "update config_revision set revision = revision + 1")
		expectRevision(t, seen, revision(t, conn))
	})
	t.Run("also after all connections were broken", func(t *testing.T) {
		for range 3 {
			if n := kill(t, conn); n == 0 {
				t.Fatal("there was no connection to break")
			}
			exec(t, conn, "update config_revision set revision = revision + 1")
			expectRevision(t, seen, revision(t, conn))
		}
		soon(t, "change after the break", func() bool { _, err := addKey(t, s, c.project); return err == nil })
		expectRevision(t, seen, revision(t, conn))
	})
}

// kill breaks all other connections to the database, and returns how many there were.
func kill(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return one[int](t, conn, "select count(pg_terminate_backend(pid))::int from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
}

func TestTheLastGoodConfigurationStays(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	c := fill(t, s)
	seen := watch(t, s)
	expectRevision(t, seen, revision(t, conn))
	exec(t, conn, "with r as (update config_revision set revision = revision + 1 returning revision) update providers p set base_url = 'ftp://nowhere', revision = r.revision from r")
	broken := revision(t, conn)
	looked(t, conn)
	select {
	case got := <-seen:
		t.Errorf("revision %d is seen, but %d can't be compiled", got, broken)
	default:
	}
	exec(t, conn, "update providers set base_url = 'https://somewhere.example'")
	expectRevision(t, seen, broken)
	if _, err := addKey(t, s, c.project); err != nil {
		t.Fatal(err)
	}
	expectRevision(t, seen, broken+1)
	looked(t, conn) // and does not apply it again
}

// looked waits until the watcher has asked three times more.
func looked(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for range 3 {
		asked := one[time.Time](t, conn, "select clock_timestamp()")
		soon(t, "look at the revision", func() bool {
			return one[bool](t, conn, "select exists (select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query_start > $1)", asked)
		})
	}
}
