package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

const gateway = "gateway-1"

// fullCall is a call of which every field is set, and no two alike.
func fullCall(t *testing.T, id logos.CallID) *logos.Call {
	t.Helper()
	start := time.UnixMicro(1795486584488422).UTC()
	targets := []logos.DecisionTarget{
		{Deployment: 1, Model: 2, Provider: 3, Credential: 4, Cluster: "d1-c4-aa", AsksUsage: true},
		{Deployment: 5, Model: 6, Provider: 7, Credential: 8, Cluster: "d5-c8-bb"},
	}
	c := &logos.Call{
		ID: id, Gateway: gateway,
		Decision: logos.Decision{
			Start: start.UnixMicro(), Deadline: start.Add(time.Hour).UnixMicro(), Revision: 9, API: logos.APIChat, Stream: true, Model: "größe",
			Team: 10, Project: 11, APIKey: 12, Profile: 13, EndUser: "0123456789abcdef", Session: "s-1",
			Targets: targets, Explanation: logos.Explanation{Candidates: []logos.DecisionCandidate{{Deployment: 1}, {Deployment: 5, Excluded: "over_limit"}}},
			BodyBytes: 14, MaxTokens: 15, Refusal: "refusal",
		},
		Method: "POST", Status: 200, End: logos.EndTruncated, Duration: 16 * time.Millisecond, FirstByte: 17 * time.Microsecond,
		RequestBytes: 18, AnswerBytes: 19, ServiceTier: "flex", Error: logos.CallError{Code: "code", Type: "type", Message: "message"},
		Attempts: []logos.Attempt{
			{Number: 1, Target: targets[0], Start: start.Add(time.Millisecond), Duration: 20 * time.Millisecond, Status: 503, End: logos.EndUpstreamError, ProviderRequestID: "r-1", Detail: "UF x"},
			{Number: 2, Target: targets[1], Start: start.Add(2 * time.Millisecond), Duration: 21 * time.Millisecond, Status: 200, End: logos.EndTruncated, ProviderRequestID: "r-2", Detail: "via_upstream",
				Meters: []logos.MeterReading{{Meter: logos.MeterCachedInput, Quantity: 22}, {Meter: logos.MeterInput, Quantity: 23, Estimated: true}, {Meter: logos.MeterOutput, Quantity: 1 << 40}}},
		},
	}
	return c
}

func record(t *testing.T, s *store.Store, ids ...logos.CallID) {
	t.Helper()
	var b logos.LogBatch
	for _, id := range ids {
		b.Calls = append(b.Calls, fullCall(t, id))
	}
	if err := s.RecordCalls(t.Context(), gateway, b); err != nil {
		t.Fatal(err)
	}
}

// asStored leaves out what has no column: the raw decision is another text of the same JSON, and what was
// asked of a target stands in the decision alone.
var asStored = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return strings.HasPrefix(p.GoString(), "{*logos.Call}.Attempts") }, cmpopts.IgnoreFields(logos.DecisionTarget{}, "AsksUsage")),
}

func TestACallComesBackAsItWasRecorded(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	bare := &logos.Call{ID: callID(2), Gateway: gateway, Decision: logos.Decision{Start: 1795486584488422, Project: 1, APIKey: 1}, End: logos.EndRefused}
	for _, want := range []*logos.Call{fullCall(t, callID(1)), bare} {
		if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{want}}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Call(t.Context(), store.Scope{}, want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, asStored); diff != "" {
			t.Errorf("the call differs (-recorded +read):\n%s", diff)
		}
	}
	if _, err := s.Call(t.Context(), store.Scope{}, callID(3)); logos.KindOf(err) != logos.NotFound {
		t.Errorf("an unknown call gives %v", err)
	}
}

func TestRecordsACallOnce(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	record(t, s, callID(1), callID(2), callID(1))
	before := dump(t, conn)
	record(t, s, callID(2), callID(1))
	record(t, s, callID(1))
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
		t.Errorf("recording again changed rows (-before +after):\n%s", diff)
	}
	if n := one[int](t, conn, "select count(*)::int from calls"); n != 2 {
		t.Errorf("%d calls are recorded, want 2", n)
	}
}

// A call that was settled as lost is read after all: its record stays as it is, also in its parts.
func TestARecordStaysAsItIs(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	lost := fullCall(t, callID(1))
	lost.End, lost.Attempts = logos.EndLost, lost.Attempts[:1]
	lost.Attempts[0].Meters = []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 5, Estimated: true}}
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{lost}}); err != nil {
		t.Fatal(err)
	}
	before := dump(t, conn)
	late := fullCall(t, callID(1))
	late.Attempts[0].Meters = late.Attempts[1].Meters
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{late}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
		t.Errorf("a later record changed the first (-before +after):\n%s", diff)
	}
}

func TestRecordsCallsAndPositionsTogetherOrNothing(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	at := func(offset int64) []logos.LogPosition {
		return []logos.LogPosition{{Epoch: "e", Generation: 1, Offset: offset}, {Epoch: "f", Offset: 7}}
	}
	good := logos.LogBatch{Calls: []*logos.Call{fullCall(t, callID(1))}, Positions: at(100), Unknown: []logos.UnknownLine{{Epoch: "e", Offset: 5, Line: []byte("\x00\xff")}}}
	if err := s.RecordCalls(t.Context(), gateway, good); err != nil {
		t.Fatal(err)
	}
	before := dump(t, conn)
	bad := fullCall(t, "no-uuid")
	below := fullCall(t, callID(3))
	below.Attempts[1].Meters[0].Quantity = -1
	for name, b := range map[string]logos.LogBatch{
		"a call without a usable id": {Calls: []*logos.Call{fullCall(t, callID(2)), bad}, Positions: at(200), Done: []string{"f"}},
		"a meter below zero":         {Calls: []*logos.Call{fullCall(t, callID(2)), below}, Positions: at(200), Unknown: []logos.UnknownLine{{Epoch: "e", Offset: 9}}},
	} {
		if err := s.RecordCalls(t.Context(), gateway, b); err == nil {
			t.Errorf("%s is recorded", name)
		}
		if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
			t.Errorf("%s leaves something (-before +after):\n%s", name, diff)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.RecordCalls(cancelled, gateway, logos.LogBatch{Positions: at(300)}); err == nil {
		t.Error("a batch is recorded after its end")
	}
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Positions: at(400), Done: []string{"f"}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.LogPositions(t.Context(), gateway)
	if diff := cmp.Diff(at(400)[:1], got); diff != "" || err != nil {
		t.Errorf("positions differ (-want +got), %v:\n%s", err, diff)
	}
	if other, err := s.LogPositions(t.Context(), "gateway-2"); len(other) != 0 || err != nil {
		t.Errorf("another gateway has the positions %v, %v", other, err)
	}
}

func TestStoresHostileTexts(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	for n, text := range []string{"a\x00b", "\xff\xfe", "\xed\xa0\x80", "'; drop table calls; --", "{\"}\\", "\u202e\u2028\U0001F600", strings.Repeat("ü", 4000), `\u0000`} {
		c := fullCall(t, callID(n))
		c.Decision.Model, c.Decision.EndUser, c.Decision.Session = text, text, text
		c.Method, c.ServiceTier, c.Error = text, text, logos.CallError{Code: text, Type: text, Message: text}
		c.Attempts[0].ProviderRequestID, c.Attempts[0].Detail, c.Attempts[0].Target.Cluster = text, text, text
		b := logos.LogBatch{Calls: []*logos.Call{c}, Unknown: []logos.UnknownLine{{Epoch: "e", Offset: int64(n), Line: []byte(text)}}}
		if err := s.RecordCalls(t.Context(), gateway, b); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got, err := s.Call(t.Context(), store.Scope{}, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(text) && !strings.Contains(text, "\x00") && got.Error.Message != text {
			t.Errorf("%q is stored as %q", text, got.Error.Message)
		}
		if got.Error.Message == "" || got.Attempts[0].Detail == "" {
			t.Errorf("%q is stored as nothing", text)
		}
	}
	if lines := column[[]byte](t, pgtest.Conn(t, url), "select line from unknown_lines order by byte"); len(lines) != 8 || string(lines[0]) != "a\x00b" {
		t.Errorf("%d lines are kept aside, the first is %q", len(lines), lines[0])
	}
}

// Postgres writes ids in lower case, whoever made them.
func TestRecordsACallWithAnIDInUpperCase(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	c := fullCall(t, logos.CallID(strings.ToUpper(string(callID(1)))))
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Call(t.Context(), store.Scope{}, c.ID)
	if diff := cmp.Diff(c, got, asStored); diff != "" || err != nil {
		t.Errorf("the call differs (-recorded +read), %v:\n%s", err, diff)
	}
}

func TestKnowsWhichCallsAreRecorded(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	record(t, s, callID(1), callID(3))
	start := time.UnixMicro(1795486584488422)
	got, err := s.Recorded(t.Context(), []time.Time{start, start, start, start.Add(time.Microsecond)}, []logos.CallID{callID(1), callID(2), callID(3), callID(3)})
	if diff := cmp.Diff([]logos.CallID{callID(1), callID(3)}, got, cmpopts.SortSlices(func(a, b logos.CallID) bool { return a < b })); diff != "" || err != nil {
		t.Errorf("recorded calls differ (-want +got), %v:\n%s", err, diff)
	}
}

// usedBy makes calls, each of a key and at a time.
func usedBy(t *testing.T, first int, at time.Time, keys ...logos.APIKeyID) (b logos.LogBatch) {
	t.Helper()
	for i, id := range keys {
		c := fullCall(t, callID(first+i))
		c.Decision.APIKey, c.Decision.Start = id, at.UnixMicro()
		b.Calls = append(b.Calls, c)
	}
	return b
}

func TestNotesWhenAKeyWasUsedLastToTheMinute(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	one, _ := k.made(keySpec{})
	two, _ := k.made(keySpec{})
	at := time.Date(2026, 11, 25, 12, 30, 40, 0, time.UTC)
	before := dump(t, k.conn)
	last := func() []*time.Time {
		return column[*time.Time](t, k.conn, "select last_used_at from api_keys where id in ($1, $2) order by id", one, two)
	}
	for i, step := range []struct {
		at   time.Time
		of   []logos.APIKeyID
		want [2]time.Time // after it
	}{
		{at, []logos.APIKeyID{one, one, 999}, [2]time.Time{at.Truncate(time.Minute)}},
		{at.Add(-time.Hour), []logos.APIKeyID{one, two}, [2]time.Time{at.Truncate(time.Minute), at.Add(-time.Hour).Truncate(time.Minute)}},
		{at.Add(19 * time.Second), []logos.APIKeyID{two, one}, [2]time.Time{at.Truncate(time.Minute), at.Truncate(time.Minute)}},
		{at.Add(20 * time.Second), []logos.APIKeyID{one}, [2]time.Time{at.Add(time.Minute).Truncate(time.Minute), at.Truncate(time.Minute)}},
	} {
		if err := k.RecordCalls(t.Context(), gateway, usedBy(t, 10*i, step.at, step.of...)); err != nil {
			t.Fatal(err)
		}
		for n, got := range last() {
			if !zeroTime(got).Equal(step.want[n]) {
				t.Errorf("after batch %d, key %d was used at %v, want %v", i, n+1, got, step.want[n])
			}
		}
	}
	exec(t, k.conn, "update api_keys set last_used_at = null")
	after := dump(t, k.conn)
	for _, table := range []string{"api_keys", "config_revision"} {
		if diff := cmp.Diff(before[table], after[table]); diff != "" {
			t.Errorf("more of %s changed (-before +after):\n%s", table, diff)
		}
	}
}

func zeroTime(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// Gateways record calls of the same keys, and keys are changed meanwhile, each in another order.
func TestGatewaysNoteTheUseOfTheSameKeysAtOnce(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	var ids []logos.APIKeyID
	for range 50 {
		id, _ := k.made(keySpec{})
		ids = append(ids, id)
	}
	start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	var all errgroup.Group
	for g := range 4 {
		all.Go(func() error {
			for round := range 10 {
				mine := slices.Clone(ids)
				if g%2 == 1 {
					slices.Reverse(mine)
				}
				at := start.Add(time.Duration(round) * time.Minute)
				if err := k.RecordCalls(t.Context(), fmt.Sprint("gateway-", g), usedBy(t, 10_000*g+100*round, at, mine...)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all.Go(func() error {
		for range 10 {
			_, err := k.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
				for i := range ids {
					if _, err := tx.Rotate(ctx, ids[len(ids)-1-i], 0, start); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, k.conn, "select count(*)::int from calls"); n != 4*10*50 {
		t.Errorf("%d calls are recorded", n)
	}
}

// Whoever has changed a key and takes its time holds up no records.
func TestRecordsCallsOfAKeyThatIsBeingChanged(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	busy, _ := k.made(keySpec{})
	free, _ := k.made(keySpec{})
	changing, err := k.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer changing.Rollback(context.WithoutCancel(t.Context()))
	if _, err := changing.Exec(t.Context(), "update api_keys set name = 'x' where id = $1", busy); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	if err := k.RecordCalls(t.Context(), gateway, usedBy(t, 1, at, busy, free)); err != nil {
		t.Fatal(err)
	}
	if err := changing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, k.conn, "select count(last_used_at)::int from api_keys where id in ($1, $2)", busy, free); n != 1 {
		t.Errorf("the use of %d keys is noted, want that of the one which nobody changed", n)
	}
	if err := k.RecordCalls(t.Context(), gateway, usedBy(t, 11, at, busy)); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, k.conn, "select count(last_used_at)::int from api_keys where id = $1", busy); n != 1 {
		t.Error("its use is not noted with the next batch")
	}
}
