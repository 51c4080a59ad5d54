package store

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Locks on the numbers of recordings, which the trigger note_recording takes as well: see its comment.
const (
	lockRecordings     = "select pg_advisory_xact_lock_shared((7106407::bigint << 40) + last_value) from recordings_sequence"
	lastRecording      = "select last_value from recordings_sequence"
	recordingsUnderway = `select min((classid::bigint << 32 | objid::bigint) - (7106407::bigint << 40)) from pg_locks
		where locktype = 'advisory' and objsubid = 1 and mode = 'ShareLock' and granted and classid::bigint >> 8 = 7106407
			and database = (select oid from pg_database where datname = current_database())`
)

// Bounds of a page of usage events.
const (
	feedScan  = 5000 // calls that are looked at
	feedReads = 500  // recordings that are read at once
)

// A UsageEvent is an attempt of a recorded call, or an adjustment of one.
type UsageEvent struct {
	Token      string        // of the events after this one
	Call       *logos.Call   // without what its record has beside its usage
	Attempt    logos.Attempt // zero for an adjustment of a call as a whole
	Adjustment *Adjustment   // nil: the event is the attempt
	At         time.Time     // when it was recorded
}

// Cost is what the attempt was charged when it was recorded.
func (e *UsageEvent) Cost() (total decimal.Decimal, currency string, known bool) {
	for _, l := range e.Attempt.Charge.Lines {
		total = total.Add(l.Cost)
	}
	return total, e.Attempt.Charge.Currency, e.Attempt.Charge.Known()
}

// A UsageQuery is which events an export shall hold.
type UsageQuery struct {
	From, To time.Time // of the start of the call, To excluded; zero: unbounded
	Size     int       // most events; what belongs to one call is not separated, so a page may have some more
	Token    string    // from an export before; empty: from the beginning
}

// A UsagePage is a part of an export.
type UsagePage struct {
	Events []UsageEvent
	Next   string // what comes after, also if that is nothing yet
	End    bool   // nothing more is recorded
}

// A feedPlace is a place among all that is recorded: after so many entries of a recording, and after so many
// events of the next one.
type feedPlace struct {
	sequence        int64
	entries, events uint32
}

func (p feedPlace) token() string {
	b := binary.BigEndian.AppendUint64([]byte{1}, uint64(p.sequence))
	b = binary.BigEndian.AppendUint32(b, p.entries)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, p.events))
}

func parsePlace(token string) (p feedPlace, err error) {
	if token == "" {
		return p, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 17 || b[0] != 1 || b[1] > 127 {
		return p, logos.Errorf(logos.Invalid, "invalid_page_token", "it is none of an export: take next_page_token, or the token of an event")
	}
	return feedPlace{int64(binary.BigEndian.Uint64(b[1:])), binary.BigEndian.Uint32(b[9:]), binary.BigEndian.Uint32(b[13:])}, nil
}

// ExportUsage returns the events after a place, in the order in which they were recorded. Whoever goes on with the
// token that it returns gets every event once, however late a call is recorded and whoever records at the same time.
func (s *Store) ExportUsage(ctx context.Context, in Scope, q UsageQuery) (*UsagePage, error) {
	place, err := parsePlace(q.Token)
	if err != nil {
		return nil, err
	}
	f := feed{store: s, q: q, in: in, place: place, page: &UsagePage{}}
	if err := s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return f.read(ctx, conn) }); err != nil {
		return nil, fmt.Errorf("export usage: %w", err)
	}
	f.page.Next = f.place.token()
	return f.page, nil
}

// A feed reads one page.
type feed struct {
	store   *Store
	q       UsageQuery
	in      Scope
	place   feedPlace
	page    *UsagePage
	scanned int
}

func (f *feed) read(ctx context.Context, conn *pgxpool.Conn) error {
	last, err := horizon(ctx, conn)
	if err != nil {
		return err
	}
	q := db.New(conn)
	for !f.full() {
		rows, err := q.Recordings(ctx, db.RecordingsParams{First: f.place.sequence, Last: last, Most: feedReads})
		if err != nil {
			return err
		}
		for i := range rows {
			if f.full() {
				return nil
			}
			if err := f.recording(ctx, conn, &rows[i]); err != nil {
				return err
			}
		}
		if len(rows) < feedReads {
			f.page.End = !f.full() || f.place.sequence > last
			return nil
		}
	}
	return nil
}

func (f *feed) full() bool { return len(f.page.Events) >= f.q.Size || f.scanned >= feedScan }

// horizon returns the number up to which all is recorded that ever will be. The last number is read before the
// locks: whoever took a number until then holds one, or has ended.
func horizon(ctx context.Context, conn *pgxpool.Conn) (last int64, err error) {
	if err := conn.QueryRow(ctx, lastRecording).Scan(&last); err != nil {
		return 0, err
	}
	var underway *int64
	if err := conn.QueryRow(ctx, recordingsUnderway).Scan(&underway); err != nil {
		return 0, err
	}
	if underway != nil {
		last = min(last, *underway)
	}
	return last, nil
}

// recording adds the events of one recording, from the present place in it on.
func (f *feed) recording(ctx context.Context, conn *pgxpool.Conn, r *db.RecordingsRow) error {
	done, events := 0, 0
	if r.Sequence == f.place.sequence {
		done, events = min(int(f.place.entries), len(r.Starts)), int(f.place.events)
	}
	// Of one recording, however large, no more is read than a page can hold.
	end := min(len(r.Starts), done+min(max(1, f.q.Size-len(f.page.Events)), max(1, feedScan-f.scanned)))
	var err error
	if r.Calls != nil {
		err = f.calls(ctx, conn, r, done, end, events)
	} else {
		err = f.adjustments(ctx, conn, r, done, end)
	}
	f.scanned += end - done
	f.place = feedPlace{sequence: r.Sequence, entries: uint32(end)}
	if end == len(r.Starts) {
		f.place = feedPlace{sequence: r.Sequence + 1}
	}
	return err
}

// calls adds the events of some calls of a recording; so many of the first one are known already.
func (f *feed) calls(ctx context.Context, conn *pgxpool.Conn, r *db.RecordingsRow, from, to, known int) error {
	found, err := f.visible(ctx, conn, r.Starts[from:to], r.Calls[from:to])
	if err != nil {
		return err
	}
	for i := from; i < to; i++ {
		u := found[r.Calls[i]]
		if u == nil || !u.Decision.StartTime().Equal(r.Starts[i]) {
			continue
		}
		for j := range u.Attempts {
			after := feedPlace{r.Sequence, uint32(i), uint32(j + 1)}
			if j == len(u.Attempts)-1 {
				after = feedPlace{sequence: r.Sequence, entries: uint32(i + 1)}
			}
			if i > from || j >= known {
				f.page.Events = append(f.page.Events, UsageEvent{Token: after.token(), Call: u.Call, Attempt: u.Attempts[j], At: r.RecordedAt})
			}
		}
	}
	return nil
}

func (f *feed) adjustments(ctx context.Context, conn *pgxpool.Conn, r *db.RecordingsRow, from, to int) error {
	rows, err := db.New(conn).AdjustmentsByID(ctx, db.AdjustmentsByIDParams{StartAt: r.Starts[from:to], ID: r.Adjustments[from:to]})
	if err != nil {
		return err
	}
	byID := make(map[int64]*db.Adjustment, len(rows))
	var starts []time.Time
	var ids []string
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
		starts, ids = append(starts, rows[i].StartAt), append(ids, rows[i].CallID)
	}
	found, err := f.visible(ctx, conn, starts, ids)
	if err != nil {
		return err
	}
	for i := from; i < to; i++ {
		row := byID[r.Adjustments[i]]
		if row == nil || found[row.CallID] == nil {
			continue
		}
		after := feedPlace{sequence: r.Sequence, entries: uint32(i + 1)}
		e := UsageEvent{Token: after.token(), Call: found[row.CallID].Call, Adjustment: readAdjustment(row), At: r.RecordedAt}
		if a := attemptOf(e.Call, e.Adjustment.Attempt); a != nil && e.Adjustment.Attempt != 0 {
			e.Attempt = *a
		}
		f.page.Events = append(f.page.Events, e)
	}
	return nil
}

// visible returns those of some calls that the query is of and the scope shows.
func (f *feed) visible(ctx context.Context, conn *pgxpool.Conn, starts []time.Time, ids []string) (map[string]*usage, error) {
	args := arguments{starts, ids}
	conditions := append([]string{"true"}, Calls.confine(f.in, &args)...)
	if !f.q.From.IsZero() {
		conditions = append(conditions, "r.start_at >= "+args.add(f.q.From))
	}
	if !f.q.To.IsZero() {
		conditions = append(conditions, "r.start_at < "+args.add(f.q.To))
	}
	rows, err := conn.Query(ctx, "select r.start_at, r.call_id::text from unnest($1::timestamptz[], $2::text[]::uuid[]) as u (start_at, call_id) join calls r on r.start_at = u.start_at and r.call_id = u.call_id where "+strings.Join(conditions, " and "), args...)
	if err != nil {
		return nil, err
	}
	var seen []time.Time
	var seenIDs []string
	var start time.Time
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&start, &id}, func() error {
		seen, seenIDs = append(seen, start), append(seenIDs, id)
		return nil
	}); err != nil {
		return nil, err
	}
	found, err := readUsage(ctx, db.New(conn), seen, seenIDs)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*usage, len(found))
	for _, u := range found {
		out[string(u.ID)] = u
	}
	return out, nil
}
