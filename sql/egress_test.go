package store_test

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// Providers of before the allow-list keep working: their hosts are allowed, as what was said by root.
func TestMigrationAllowsTheHostsOfProvidersThatAreThere(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, conn := open(t, url), pgtest.Conn(t, url)
	first, err := os.ReadFile("migrations/0001_init.sql")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, string(first))
	exec(t, conn, "create table schema_migrations (version integer primary key, name text not null, applied_at timestamptz not null default now()); insert into schema_migrations (version, name) values (1, '0001_init')")
	for i, base := range []string{"https://api.openai.com/v1", "http://LocalHost.:9000", "http://[::1]:8000/v1", "http://10.0.0.1?x=1", "https://api.openai.com/other", "http://[2001:DB8::1]", "https://x.azure.com:443/a:b@c/[d]"} {
		if _, err := conn.Exec(t.Context(), "insert into providers (name, base_url, dialect, revision) values ($1, $2, 'openai', 1)", string(rune('a'+i)), base); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, conn, "insert into providers (name, base_url, dialect, revision, deleted_at) values ('gone', 'http://gone.example', 'openai', 1, now())")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := one[[]string](t, conn, "select egress_hosts from settings")
	slices.Sort(got)
	if want := []string{"10.0.0.1", "2001:db8::1", "::1", "api.openai.com", "localhost", "x.azure.com"}; !slices.Equal(got, want) {
		t.Errorf("the hosts %q are allowed, want %q", got, want)
	}
}

func TestAnAllowedHostIsPartOfTheConfiguration(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	for range 2 {
		revision, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error { return tx.AllowEgress(ctx, "vllm.example") })
		if err != nil {
			t.Fatal(err)
		}
		if at := one[int64](t, conn, "select revision from settings"); at > revision {
			t.Errorf("the settings are of revision %d after change %d", at, revision)
		}
	}
	exec(t, conn, "update settings set egress_cidrs = '{10.0.0.0/8,fd00::/8}'")
	c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Egress.Hosts, []string{"vllm.example"}) || !slices.Equal(c.Egress.Ranges, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}) {
		t.Errorf("the configuration allows %+v", c.Egress)
	}
	exec(t, conn, "update settings set egress_cidrs = '{nonsense}'")
	if c, err := s.Load(t.Context()); err == nil {
		t.Errorf("an unreadable range gives %+v", c.Egress)
	}
}
