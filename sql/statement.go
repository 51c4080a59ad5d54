package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// maxCorrections bounds those of one statement.
const maxCorrections = 10_000

// A StatementQuery is whose month is to be stated.
type StatementQuery struct {
	Year          int
	Month         time.Month
	Zone          string // in which it begins; empty: UTC
	Team, Project int64  // 0: of everything within the scope
}

// A Statement is what calls that began in a month cost.
type Statement struct {
	Start, End, At time.Time
	Lines          []*SummaryRow // by model and provider
	Total          *SummaryRow   // nil: nothing was used
	Corrections    []StatementCorrection
}

// A StatementCorrection is a refund or a correction, or all that one rating of calls again has changed.
type StatementCorrection struct {
	At                     time.Time
	Kind, Reason, Currency string
	Amount                 decimal.Decimal
	Adjustments, ID        int64 // ID 0: several
	Call                   logos.CallID
}

// Statement states a month, as of one moment. An hour belongs to the month in which it begins.
func (s *Store) Statement(ctx context.Context, in Scope, q StatementQuery) (*Statement, error) {
	st := &Statement{}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		summary := SummaryQuery{Zone: q.Zone, Filter: q.filter()}
		if summary.Zone == "" {
			summary.Zone = "UTC"
		}
		next := time.Date(q.Year, q.Month+1, 1, 0, 0, 0, 0, time.UTC)
		const begin = "date_trunc('hour', make_timestamptz(%d, %d, 1, 0, 0, 0, $1) + interval '59 minutes')"
		bounds := fmt.Sprintf("select "+begin+", "+begin+", now()", q.Year, q.Month, next.Year(), next.Month())
		if err := tx.QueryRow(ctx, bounds, summary.Zone).Scan(&st.Start, &st.End, &st.At); err != nil {
			return summary.refused(err)
		}
		summary.From, summary.To = st.Start, st.End
		total, err := summarize(ctx, tx, in, summary)
		if err != nil {
			return err
		}
		if len(total) > 0 {
			st.Total = total[0]
		}
		summary.By = []string{"model_id", "provider_id"}
		if st.Lines, err = summarize(ctx, tx, in, summary); err != nil {
			return err
		}
		st.Corrections, err = corrections(ctx, tx, in, q, st.Start, st.End)
		return err
	})
	return st, err
}

func (q StatementQuery) filter() string {
	var parts []string
	if q.Team != 0 {
		parts = append(parts, fmt.Sprintf("team_id = %d", q.Team))
	}
	if q.Project != 0 {
		parts = append(parts, fmt.Sprintf("project_id = %d", q.Project))
	}
	return strings.Join(parts, " AND ")
}

// corrections returns what was corrected of calls that began in a time. What rates calls again makes an adjustment for
// each, in batches: those of one reason, currency and hour are shown together.
func corrections(ctx context.Context, tx pgx.Tx, in Scope, q StatementQuery, from, to time.Time) ([]StatementCorrection, error) {
	args := arguments{from, to, q.Team, q.Project}
	conditions := append([]string{"r.start_at >= $1", "r.start_at < $2", "($3::bigint = 0 or r.team_id = $3)", "($4::bigint = 0 or r.project_id = $4)"}, Adjustments.confine(in, &args)...)
	const alone = "case when r.kind = 'rerating' then null else r.id end"
	rows, err := tx.Query(ctx, `select min(r.at), r.kind, r.reason, r.currency, sum(r.amount), count(*), coalesce(`+alone+`, 0), coalesce(case when count(*) = 1 then min(r.call_id::text) end, '')
		from adjustments r where `+strings.Join(conditions, " and ")+` group by r.kind, r.reason, r.currency, `+alone+`, case when r.kind = 'rerating' then date_trunc('hour', r.at) end
		order by 1, 7, 4 limit `+args.add(maxCorrections+1), args...)
	if err != nil {
		return nil, fmt.Errorf("read corrections: %w", err)
	}
	var out []StatementCorrection
	var c StatementCorrection
	var sum pgtype.Numeric
	if _, err := pgx.ForEachRow(rows, []any{&c.At, &c.Kind, &c.Reason, &c.Currency, &sum, &c.Adjustments, &c.ID, &c.Call}, func() error {
		c.Amount = amount(sum)
		out = append(out, c)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read corrections: %w", err)
	}
	if len(out) > maxCorrections {
		return nil, logos.Errorf(logos.Invalid, "invalid_project_id", "there are more than %d corrections: ask for one project's statement, and list adjustments for all of them", maxCorrections)
	}
	return out, nil
}
