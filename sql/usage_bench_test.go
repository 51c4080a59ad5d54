package store_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// An installation is one of a university: 60 projects of 12 teams, 300 keys, 12 models at 4 providers. Few keys make
// most calls, and most of those at day.
type installation struct{ r *rand.Rand }

// key returns one of 300 keys, with the team and the project that it is of.
func (i installation) key() (team, project, key int64) {
	key = 1 + int64(300*math.Pow(i.r.Float64(), 3))
	project = 1 + key%60
	return 1 + project%12, project, key
}

// model returns one of the three that a key uses, and its provider.
func (i installation) model(key int64) (model, provider int64) {
	model = 1 + (key*7+int64(3*math.Pow(i.r.Float64(), 2)))%12
	return model, 1 + model%4
}

// at returns a moment of a month.
func (i installation) at(month time.Time) time.Time {
	for {
		at := month.Add(time.Duration(i.r.Int64N(int64(30 * 24 * time.Hour))))
		if 0.15+0.85*math.Sin(math.Pi*float64(at.Hour())/24) > i.r.Float64() {
			return at.Truncate(time.Microsecond)
		}
	}
}

func (i installation) end() logos.EndReason {
	switch n := i.r.IntN(100); {
	case n < 93:
		return logos.EndOK
	case n < 97:
		return logos.EndClientCancelled
	case n < 99:
		return logos.EndUpstreamError
	}
	return logos.EndRejected
}

// call makes one with all that a usual call has on record, rated.
func (i installation) call(n int, start time.Time, b *billing.Book) *logos.Call {
	team, project, key := i.key()
	model, provider := i.model(key)
	target := logos.DecisionTarget{Deployment: logos.DeploymentID(model), Model: logos.ModelID(model), Provider: logos.ProviderID(provider), Credential: logos.CredentialID(provider), Cluster: fmt.Sprintf("d%d-c%d-5f0a1b2c", model, provider), AsksUsage: true}
	c := &logos.Call{
		ID: logos.CallID(fmt.Sprintf("%08x-45cf-4a39-9983-%012x", n, i.r.Int64N(1<<48))), Method: "POST", Status: 200, End: i.end(), Duration: 1234567 * time.Microsecond, FirstByte: 345678 * time.Microsecond,
		RequestBytes: 4321, AnswerBytes: 8765, ServiceTier: "default",
		Decision: logos.Decision{
			Start: start.UnixMicro(), Deadline: start.Add(time.Hour).UnixMicro(), Revision: 4711, API: logos.APIChat, Stream: true, Model: fmt.Sprintf("model-%d", model),
			Team: logos.TeamID(team), Project: logos.ProjectID(project), APIKey: logos.APIKeyID(key), Profile: logos.ProfileID(project), EndUser: fmt.Sprintf("%032x", i.r.Int64N(5000)), BodyBytes: 4321, MaxTokens: 1000,
			Targets: []logos.DecisionTarget{target}, Explanation: logos.Explanation{Candidates: []logos.DecisionCandidate{{Deployment: target.Deployment, Rank: 1}, {Deployment: target.Deployment + 1, Excluded: "over_limit"}}},
		},
		Attempts: []logos.Attempt{{
			Number: 1, Target: target, Start: start.Add(3 * time.Millisecond), Duration: 1230 * time.Millisecond, Status: 200, End: logos.EndOK, ProviderRequestID: "req_0123456789abcdef0123456789abcdef", Detail: "- via_upstream",
			Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 500 + i.r.Int64N(3000)}, {Meter: logos.MeterCachedInput, Quantity: i.r.Int64N(1000)}, {Meter: logos.MeterOutput, Quantity: i.r.Int64N(800)}},
		}},
	}
	b.RateCall(c)
	return c
}

func benchBook() *billing.Book {
	var prices []*logos.Price
	for provider := range logos.ProviderID(5) {
		for i, m := range []logos.Meter{logos.MeterInput, logos.MeterCachedInput, logos.MeterOutput} {
			prices = append(prices, &logos.Price{ID: logos.PriceID(i + 1), Version: int64(provider)*10 + int64(i) + 1, Provider: provider, Meter: m, Amount: decimal.New(25+int64(i), -1), Unit: 1_000_000, Currency: "USD"})
		}
	}
	return billing.NewBook(prices, nil)
}

// BenchmarkRecordCalls records batches of some sizes, as gateways do that settle so many calls at a time.
func BenchmarkRecordCalls(b *testing.B) {
	for _, size := range []int{1, 20, 200} {
		b.Run(fmt.Sprintf("%d at a time", size), func(b *testing.B) {
			s, _ := pgtest.Store(b)
			if err := s.EnsurePartitions(b.Context(), ledgerDay, 2); err != nil {
				b.Fatal(err)
			}
			i, book, n := installation{rand.New(rand.NewPCG(1, 2))}, benchBook(), 0
			record := func(size int) {
				b.StopTimer()
				var batch logos.LogBatch
				for range size {
					n++
					batch.Calls = append(batch.Calls, i.call(n, ledgerDay.Add(time.Duration(n)*5*time.Millisecond), book))
				}
				b.StartTimer()
				if err := s.RecordCalls(b.Context(), gateway, batch); err != nil {
					b.Fatal(err)
				}
			}
			for range 50 { // what calls are of is known from then on, as it is to a gateway that runs
				record(500)
			}
			b.ResetTimer()
			calls := n
			for b.Loop() {
				record(size)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n-calls), "µs/call")
		})
	}
}

// BenchmarkStoredBytes says how many bytes a recorded call takes, with its indexes, by table. Run it once:
// -benchtime 1x.
func BenchmarkStoredBytes(b *testing.B) {
	s, url := pgtest.Store(b)
	conn := pgtest.Conn(b, url)
	month, i, book := ledgerDay, installation{rand.New(rand.NewPCG(1, 2))}, benchBook()
	if err := s.EnsurePartitions(b.Context(), month, 1); err != nil {
		b.Fatal(err)
	}
	const calls = 100_000
	for b.Loop() {
		for n := 0; n < calls; {
			var batch logos.LogBatch
			for range 50 {
				n++
				batch.Calls = append(batch.Calls, i.call(n, month.Add(time.Duration(n)*(24*time.Hour/calls)), book))
			}
			if err := s.RecordCalls(b.Context(), fmt.Sprintf("gateway-%d", i.r.IntN(3)), batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, table := range []string{"calls", "attempts", "meters"} {
		report(b, conn, table, "select pg_total_relation_size($1::regclass)", table+"_"+month.Format("20060102"), calls)
	}
	report(b, conn, "recordings", "select pg_total_relation_size($1::regclass)", "recordings", calls)
	if _, err := s.FoldUsage(b.Context(), month.AddDate(0, 0, 2)); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), "vacuum full usage_hours"); err != nil {
		b.Fatal(err)
	}
	var rows int64
	if err := conn.QueryRow(b.Context(), "select count(*) from usage_hours").Scan(&rows); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(rows), "rows-of-totals")
	report(b, conn, "total", "select pg_total_relation_size($1::regclass)", "usage_hours", int(rows))
}

func report(b *testing.B, conn *pgx.Conn, name, query, relation string, per int) {
	b.Helper()
	var bytes int64
	if err := conn.QueryRow(b.Context(), query, relation).Scan(&bytes); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/float64(per), "bytes/"+name)
}

// BenchmarkSummarize adds up what ten million calls of a month leave in the totals. They are drawn one by one and added
// up, so that the number of rows is what it would be.
func BenchmarkSummarize(b *testing.B) {
	s, url := pgtest.Store(b)
	month := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	conn := pgtest.Conn(b, url)
	seedTotals(b, conn, month, 10_000_000)
	if _, err := conn.Exec(b.Context(), "vacuum full analyze"); err != nil {
		b.Fatal(err)
	}
	var rows int
	if err := conn.QueryRow(b.Context(), "select count(*) from usage_hours").Scan(&rows); err != nil {
		b.Fatal(err)
	}
	b.Logf("10,000,000 calls are %d rows of totals", rows)
	for name, q := range map[string]store.SummaryQuery{
		"all of it":               {},
		"by project":              {By: []string{"project_id"}},
		"by key and model":        {By: []string{"api_key_id", "model_id"}},
		"by day in Berlin, team":  {By: []string{"team_id"}, Bucket: "day", Zone: "Europe/Berlin"},
		"by hour":                 {Bucket: "hour"},
		"of a project, by day":    {By: []string{"model_id"}, Bucket: "day", Filter: "project_id = 7"},
		"by end reason and model": {By: []string{"end_reason", "model_id", "provider_id"}},
		"of a week, by project":   {By: []string{"project_id"}, To: month.AddDate(0, 0, 7)},
	} {
		b.Run(name, func(b *testing.B) {
			q.From = month
			if q.To.IsZero() {
				q.To = month.AddDate(0, 1, 0)
			}
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if _, err := s.Summarize(b.Context(), store.Scope{}, q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-longest")
		})
	}
}

// seedTotals stores the totals of so many calls, folded.
func seedTotals(b *testing.B, conn *pgx.Conn, month time.Time, calls int) {
	b.Helper()
	type of struct {
		team, project, key, model, provider int64
		end                                 logos.EndReason
	}
	type cell struct {
		hour   int64
		series int64
	}
	type sums struct{ calls, input, cached, output int64 }
	i := installation{rand.New(rand.NewPCG(1, 2))}
	ids, totals := make(map[of]int64), make(map[cell]*sums)
	for range calls {
		at := i.at(month)
		x := of{end: i.end()}
		x.team, x.project, x.key = i.key()
		x.model, x.provider = i.model(x.key)
		id, ok := ids[x]
		if !ok {
			id = int64(len(ids)) + 1
			ids[x] = id
		}
		c := cell{at.Unix() / 3600, id}
		if totals[c] == nil {
			totals[c] = &sums{}
		}
		t := totals[c]
		t.calls, t.input, t.cached, t.output = t.calls+1, t.input+500+i.r.Int64N(3000), t.cached+i.r.Int64N(1000), t.output+i.r.Int64N(800)
	}
	var rows [][]any
	for x, id := range ids {
		rows = append(rows, []any{id, x.team, x.project, x.key, x.project, x.model, x.provider, x.model, "chat", string(x.end), "default"})
	}
	slices.SortFunc(rows, func(a, b []any) int { return int(a[0].(int64) - b[0].(int64)) })
	copyRows(b, conn, "usage_series", []string{"id", "team_id", "project_id", "api_key_id", "profile_id", "model_id", "provider_id", "deployment_id", "api", "end_reason", "service_tier"}, rows)
	copyRows(b, conn, "usage_meters", []string{"meter"}, [][]any{{"input"}, {"cached_input"}, {"output"}})
	days := make(map[cell]*sums)
	for c, t := range totals {
		d := cell{c.hour / 24 * 24, c.series}
		if days[d] == nil {
			days[d] = &sums{}
		}
		x := days[d]
		x.calls, x.input, x.cached, x.output = x.calls+t.calls, x.input+t.input, x.cached+t.cached, x.output+t.output
	}
	for _, x := range []struct {
		table, at string
		totals    map[cell]*sums
		span      time.Duration
	}{{"usage_hours", "hour", totals, time.Hour}, {"usage_days", "day", days, 24 * time.Hour}} {
		rows = rows[:0]
		for c, t := range x.totals {
			at := time.Unix(c.hour*3600, 0)
			rows = append(rows, []any{at, c.series, "USD", t.calls, t.calls, 0, micro(t.input*3 + t.cached + t.output*9), micro(0), at, at.Add(x.span - time.Minute),
				decimal.NewFromInt(t.input), micro(t.input * 3), decimal.NewFromInt(t.cached), micro(t.cached), decimal.NewFromInt(t.output), micro(t.output * 9)})
			if x.table == "usage_hours" {
				rows[len(rows)-1] = append(rows[len(rows)-1], "")
			}
		}
		// Hours are folded one after another, and so they lie.
		slices.SortFunc(rows, func(a, b []any) int { return a[0].(time.Time).Compare(b[0].(time.Time)) })
		columns := []string{x.at, "series_id", "currency", "calls", "attempts", "unknown", "cost", "adjusted", "first_at", "last_at", "input", "input_cost", "cached_input", "cached_input_cost", "output", "output_cost", "gateway"}
		copyRows(b, conn, x.table, columns[:len(rows[0])], rows)
	}
}

func micro(n int64) decimal.Decimal { return decimal.New(n, -6) }

func copyRows(b *testing.B, conn *pgx.Conn, table string, columns []string, rows [][]any) {
	b.Helper()
	for _, r := range rows {
		for j, v := range r {
			if d, ok := v.(decimal.Decimal); ok {
				r[j] = d.String()
			}
		}
	}
	if _, err := conn.CopyFrom(b.Context(), pgx.Identifier{table}, columns, pgx.CopyFromRows(rows)); err != nil {
		b.Fatal(err)
	}
}
