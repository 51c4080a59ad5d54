package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestRecordsGoIntoThePartitionOfTheirDay(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	// A time whose day differs between here and UTC.
	now := time.Date(2026, 11, 22, 20, 30, 0, 0, time.FixedZone("", -5*3600))
	var all errgroup.Group
	for range 4 {
		all.Go(func() error { return s.EnsurePartitions(t.Context(), now, 3) })
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsurePartitions(t.Context(), now, 3); err != nil {
		t.Fatal(err)
	}
	want := []string{"calls_20261123", "calls_20261124", "calls_20261125", "calls_rest"}
	got := column[string](t, conn, "select inhrelid::regclass::text from pg_inherits where inhparent = 'calls'::regclass order by 1")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("partitions differ (-want +got):\n%s", diff)
	}
	midnight := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for n, c := range []struct {
		start time.Time
		want  string
	}{
		{midnight.Add(-24*time.Hour - 1*time.Microsecond), "_rest"},
		{midnight.Add(-1 * time.Microsecond), "_20261123"},
		{midnight, "_20261124"},
		{midnight.Add(24*time.Hour - time.Microsecond), "_20261124"},
		{midnight.Add(48 * time.Hour), "_rest"},
	} {
		call := fullCall(t, callID(n))
		call.Decision.Start = c.start.UnixMicro()
		if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{call}}); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"calls", "attempts", "meters"} {
			if got := one[string](t, conn, "select distinct tableoid::regclass::text from "+table+" where call_id = $1", string(call.ID)); got != table+c.want {
				t.Errorf("a call of %v is in %s, want %s", c.start, got, table+c.want)
			}
		}
		got, err := s.Call(t.Context(), store.Scope{}, call.ID)
		if diff := cmp.Diff(call, got, asStored); diff != "" || err != nil {
			t.Errorf("the call differs (-recorded +read), %v:\n%s", err, diff)
		}
	}
	// The default partition has rows of the 26th: that day stays there, and the next gets its own.
	if err := s.EnsurePartitions(t.Context(), midnight.Add(24*time.Hour), 3); err != nil {
		t.Fatal(err)
	}
	got = column[string](t, conn, "select inhrelid::regclass::text from pg_inherits where inhparent = 'calls'::regclass order by 1")
	if diff := cmp.Diff([]string{"calls_20261123", "calls_20261124", "calls_20261125", "calls_20261127", "calls_rest"}, got); diff != "" {
		t.Errorf("partitions differ (-want +got):\n%s", diff)
	}
}
