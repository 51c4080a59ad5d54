package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// withLedger calls do with the database, whose schema must be up to date.
func withLedger(ctx context.Context, s *settings, log *zap.Logger, do func(context.Context, *store.Store) error) error {
	return withDatabase(ctx, s, mustExist, log, func(ctx context.Context, url string) error {
		db, err := store.Open(ctx, url, log)
		if err != nil {
			return err
		}
		defer db.Close()
		if err := db.Migrated(ctx); err != nil {
			return finalError{err}
		}
		return do(ctx, db)
	})
}

// A timeRange is two flags; the second is excluded.
type timeRange struct{ from, to *string }

func timeFlags(flags *flag.FlagSet) timeRange {
	return timeRange{flags.String("from", "", "first day or time of the start of calls, in UTC"), flags.String("to", "", "day or time before which they began")}
}

// read returns the bounds; where none is given, the defaults.
func (r timeRange) read(from, to time.Time) (time.Time, time.Time, error) {
	for _, x := range []struct {
		name, text string
		at         *time.Time
	}{{"from", *r.from, &from}, {"to", *r.to, &to}} {
		if x.text == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, x.text)
		if err != nil {
			at, err = time.Parse(time.RFC3339, x.text)
		}
		if err != nil {
			return from, to, finalError{fmt.Errorf("--%s must be a day like 2026-11-01 or a time like 2026-11-01T12:00:00Z", x.name)}
		}
		*x.at = at.UTC()
	}
	if !to.After(from) {
		return from, to, finalError{errors.New("--to must be after --from")}
	}
	return from, to, nil
}

// verifyCommand is `logos ledger verify`.
func verifyCommand(flags *flag.FlagSet, out io.Writer) command {
	during := timeFlags(flags)
	return func(ctx context.Context, s *settings, log *zap.Logger) error {
		from, to, err := during.read(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().UTC().Add(24*time.Hour))
		if err != nil {
			return err
		}
		return withLedger(ctx, s, log, func(ctx context.Context, db *store.Store) error { return verify(ctx, db, from, to, out) })
	}
}

func verify(ctx context.Context, db *store.Store, from, to time.Time, out io.Writer) error {
	faults := 0
	c, err := db.VerifyLedger(ctx, from, to, func(f store.Finding) {
		faults++
		fmt.Fprintf(out, "%s: %s\n", f.Check, f.What)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d calls of %d days were checked.\n", c.Calls, c.Days)
	switch {
	case faults > 0:
		return fmt.Errorf("the ledger does not add up: see the %d lines above", faults)
	case c.TotalsNotChecked:
		return errors.New("the totals were not checked, since `logos serve` still adds to them what an older program recorded: try again later")
	}
	fmt.Fprintln(out, "The ledger adds up.")
	return nil
}

// rerateCommand is `logos ledger rerate`.
func rerateCommand(flags *flag.FlagSet, out io.Writer) command {
	during := timeFlags(flags)
	provider, model := flags.String("provider", "", "only attempts at this provider"), flags.String("model", "", "only attempts at this model")
	reason := flags.String("reason", "", "why, for statements and the audit")
	dry, sure := flags.Bool("dry-run", false, "say what would change, and change nothing"), flags.Bool("yes", false, "add the differences to the ledger")
	return func(ctx context.Context, s *settings, log *zap.Logger) error {
		if *dry == *sure {
			return finalError{errors.New("say either --dry-run, to see what would change, or --yes")}
		}
		if *during.from == "" || *during.to == "" {
			return finalError{errors.New("--from and --to are missing: they say which calls are to be rated again, by their start")}
		}
		from, to, err := during.read(time.Time{}, time.Time{})
		if err != nil {
			return err
		}
		p := store.Period{From: from, To: to, Reason: *reason, DryRun: *dry}
		return withLedger(ctx, s, log, func(ctx context.Context, db *store.Store) error { return rerate(ctx, db, p, *provider, *model, out) })
	}
}

func rerate(ctx context.Context, db *store.Store, p store.Period, provider, model string, out io.Writer) error {
	for _, x := range []struct {
		kind *store.Kind
		name string
		set  func(int64)
	}{{store.Providers, provider, func(id int64) { p.Provider = logos.ProviderID(id) }}, {store.Models, model, func(id int64) { p.Model = logos.ModelID(id) }}} {
		if x.name == "" {
			continue
		}
		id, err := db.IDOf(ctx, x.kind, x.name)
		if err != nil {
			return finalError{err}
		}
		x.set(id)
	}
	prices, names, err := db.PriceList(ctx)
	if err != nil {
		return err
	}
	r, err := db.Rerate(ctx, p, billing.NewBook(prices, names).RateCall)
	if err != nil {
		return err
	}
	what := "changed"
	if p.DryRun {
		what = "would change"
	}
	fmt.Fprintf(out, "%d calls %s, by %d adjustments.\n", r.Calls, what, r.Adjustments)
	for _, currency := range slices.Sorted(maps.Keys(r.Amounts)) {
		fmt.Fprintf(out, "%s %s\n", r.Amounts[currency], currency)
	}
	if r.Known > 0 {
		fmt.Fprintf(out, "%d quantities that had no price have one.\n", r.Known)
	}
	if r.Unpriced > 0 {
		fmt.Fprintf(out, "%d calls have something without a price.\n", r.Unpriced)
	}
	return nil
}
