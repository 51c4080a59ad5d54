package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

// An asked is what `logos usage` shall show.
type asked struct {
	by, month, bucket, zone, filter *string
	during                          timeRange
	csv, json                       *bool
}

// usageCommand is `logos usage`.
func usageCommand(flags *flag.FlagSet, out io.Writer) command {
	a := asked{
		by:    flags.String("by", "project", "what to group by, with commas: team, project, api_key, profile, model, provider, deployment, api, end_reason, service_tier, end_user"),
		month: flags.String("month", "", "a month like 2026-11, instead of --from and --to"), bucket: flags.String("bucket", "", "hour, day, week or month"),
		zone: flags.String("time-zone", "", "in which months and buckets begin, like Europe/Berlin"), filter: flags.String("filter", "", `like 'team = "physics"'`),
		during: timeFlags(flags), csv: flags.Bool("csv", false, "write CSV"), json: flags.Bool("json", false, "write JSON"),
	}
	return func(ctx context.Context, _ *settings, _ *zap.Logger) error { return a.show(ctx, out) }
}

func (a asked) show(ctx context.Context, out io.Writer) error {
	query, err := a.query(time.Now())
	if err != nil {
		return err
	}
	c, err := newClient(os.Getenv)
	if err != nil {
		return err
	}
	path := "/admin/v1/usage:summarize?" + query.Encode()
	switch {
	case *a.csv:
		return c.copy(ctx, path, "text/csv", out)
	case *a.json:
		return c.copy(ctx, path, "application/json", out)
	}
	answer := &adminv1.SummarizeUsageResponse{}
	if err := c.call(ctx, http.MethodGet, path, nil, answer); err != nil {
		return err
	}
	return writeTable(out, answer)
}

// query makes the query of the request.
func (a asked) query(now time.Time) (url.Values, error) {
	var by []string
	for d := range strings.SplitSeq(*a.by, ",") {
		if d = strings.TrimSpace(d); slices.Contains([]string{"team", "project", "api_key", "profile", "model", "provider", "deployment"}, d) {
			d += "_id"
		}
		by = append(by, d)
	}
	q := url.Values{"group_by": {strings.Join(by, ",")}, "bucket": {*a.bucket}, "time_zone": {*a.zone}, "filter": {*a.filter}}
	if *a.csv && *a.json {
		return nil, finalError{errors.New("say --csv or --json, not both")}
	}
	from, to, err := a.bounds(now)
	if err != nil {
		return nil, err
	}
	q.Set("from", from.Format(time.RFC3339))
	q.Set("to", to.Format(time.RFC3339))
	return q, nil
}

// bounds returns the time that is asked about: the present month, unless it is said.
func (a asked) bounds(now time.Time) (from, to time.Time, err error) {
	zone, err := time.LoadLocation(*a.zone)
	if err != nil {
		return from, to, finalError{errors.New("--time-zone must be a name like Europe/Berlin")}
	}
	month := now.In(zone).Format("2006-01")
	if *a.month != "" {
		month = *a.month
	}
	from, err = time.ParseInLocation("2006-01", month, zone)
	switch {
	case err != nil:
		return from, to, finalError{errors.New("--month must be a month like 2026-11")}
	case *a.month != "" && (*a.during.from != "" || *a.during.to != ""):
		return from, to, finalError{errors.New("say --month, or --from and --to")}
	}
	return a.during.read(from.UTC(), from.AddDate(0, 1, 0).UTC())
}

// writeTable shows rows to people: what they are of, then calls, quantities and costs.
func writeTable(out io.Writer, answer *adminv1.SummarizeUsageResponse) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	meters := metersOf(answer)
	head := []string{"", "calls", "unpriced"}
	fmt.Fprintln(w, strings.Join(append(append(head, meters...), "cost\t"), "\t"))
	for _, r := range answer.GetRows() {
		line := []string{groupOf(r), fmt.Sprint(r.GetCalls()), fmt.Sprint(r.GetUnpricedCalls())}
		for _, name := range meters {
			quantity := "0"
			for _, m := range r.GetMeters() {
				if m.GetMeter() == name {
					quantity = m.GetQuantity()
				}
			}
			line = append(line, quantity)
		}
		fmt.Fprintln(w, strings.Join(append(line, costOf(r)+"\t"), "\t"))
	}
	return w.Flush()
}

func metersOf(answer *adminv1.SummarizeUsageResponse) (names []string) {
	for _, r := range answer.GetRows() {
		for _, m := range r.GetMeters() {
			if !slices.Contains(names, m.GetMeter()) {
				names = append(names, m.GetMeter())
			}
		}
	}
	return names
}

// groupOf names what a row is of.
func groupOf(r *adminv1.UsageRow) string {
	var parts []string
	if r.GetStart() != nil {
		parts = append(parts, r.GetStart().AsTime().Format("2006-01-02T15Z"))
	}
	for _, part := range []string{r.GetTeam(), r.GetProject(), r.GetApiKey(), r.GetProfile(), r.GetModel(), r.GetProvider(), r.GetDeployment(), r.GetApi(), r.GetEndReason(), r.GetServiceTier(), r.GetEndUser()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "(none)"
	}
	return strings.Join(parts, " / ")
}

// costOf never shows what is not known as nothing.
func costOf(r *adminv1.UsageRow) string {
	var parts []string
	for _, c := range r.GetCosts() {
		parts = append(parts, c.GetAmount()+" "+c.GetCurrency())
	}
	if r.GetUnpricedCalls() > 0 {
		parts = append(parts, "unknown")
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, " + ")
}
