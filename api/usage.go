package api

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

const (
	summaryDays    = 30         // of usage, unless a time is given
	maxSummaryDays = 366 * 10   // by totals
	maxRecordDays  = 31         // by the calls themselves
	defaultEvents  = 1000       // of one page of an export
	byEndUser      = "end_user" // the dimension of calls alone
	unknownCost    = "unknown"  // in the place of an amount
)

// usageServer adds up what calls used and cost.
type usageServer struct {
	adminv1.UnimplementedUsageServiceServer
	*Service
}

func (s *usageServer) SummarizeUsage(ctx context.Context, r *adminv1.SummarizeUsageRequest) (*adminv1.SummarizeUsageResponse, error) {
	q, err := summaryQuery(r, time.Now())
	if err != nil {
		return nil, err
	}
	rows, err := s.store.Summarize(ctx, callerOf(ctx).scope, q)
	if err != nil {
		return nil, aboutList(err)
	}
	out := &adminv1.SummarizeUsageResponse{}
	for _, row := range rows {
		out.Rows = append(out.Rows, usageRow(row))
	}
	return out, nil
}

func summaryQuery(r *adminv1.SummarizeUsageRequest, now time.Time) (q store.SummaryQuery, err error) {
	q = store.SummaryQuery{From: now.AddDate(0, 0, -summaryDays), To: now, Bucket: r.GetBucket(), Zone: r.GetTimeZone(), Filter: r.GetFilter()}
	if q.By, err = dimensions(r.GetGroupBy()); err != nil {
		return q, err
	}
	if err := period(r.GetFrom(), r.GetTo(), &q.From, &q.To); err != nil {
		return q, err
	}
	// Of an hour that a bound divides, all counts to the time in which it begins, as in statements: what is asked of two
	// times that meet has no hour twice.
	q.From, q.To = q.From.Add(time.Hour-1).Truncate(time.Hour), q.To.Add(time.Hour-1).Truncate(time.Hour)
	days := maxSummaryDays
	if slices.Contains(q.By, byEndUser) {
		days = maxRecordDays
	}
	if q.To.Sub(q.From) > time.Duration(days)*24*time.Hour {
		return q, invalid("from", "must be at most %d days before the end: by end_user at most %d, else at most %d", days, maxRecordDays, maxSummaryDays)
	}
	return q, nil
}

// dimensions reads what is to be grouped by.
func dimensions(text string) (out []string, err error) {
	for d := range strings.SplitSeq(text, ",") {
		d = strings.TrimSpace(d)
		switch {
		case d == "":
		case !slices.Contains(store.Dimensions, d):
			return nil, invalid("group_by", "must be some of %s, with commas between them", strings.Join(store.Dimensions, ", "))
		case !slices.Contains(out, d):
			out = append(out, d)
		}
	}
	return out, nil
}

// period reads the bounds of a time, where they are given.
func period(from, to string, begin, end *time.Time) error {
	for _, x := range []struct {
		field, text string
		at          *time.Time
	}{{"from", from, begin}, {"to", to, end}} {
		if x.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, x.text)
		if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
			return invalid(x.field, "must be a time like 2026-11-01T00:00:00Z, of the years 1 to 9999")
		}
		*x.at = t.UTC()
	}
	if !end.IsZero() && !end.After(*begin) {
		return invalid("to", "must be after from")
	}
	return nil
}

func usageRow(r *store.SummaryRow) *adminv1.UsageRow {
	m := &adminv1.UsageRow{
		TeamId: r.IDs["team_id"], Team: r.Texts["team_id"], ProjectId: r.IDs["project_id"], Project: r.Texts["project_id"], ApiKeyId: r.IDs["api_key_id"], ApiKey: r.Texts["api_key_id"],
		ProfileId: r.IDs["profile_id"], Profile: r.Texts["profile_id"], ModelId: r.IDs["model_id"], Model: r.Texts["model_id"], ProviderId: r.IDs["provider_id"], Provider: r.Texts["provider_id"],
		DeploymentId: r.IDs["deployment_id"], Deployment: r.Texts["deployment_id"], Api: r.Texts["api"], EndReason: r.Texts["end_reason"], ServiceTier: r.Texts["service_tier"], EndUser: r.Texts[byEndUser],
		Calls: r.Calls, Attempts: r.Attempts, UnpricedCalls: r.Unknown, Costs: usageCosts(r.Costs),
	}
	if !r.Start.IsZero() {
		m.Start = timestamppb.New(r.Start)
	}
	for _, x := range r.Meters {
		m.Meters = append(m.Meters, &adminv1.UsageMeter{
			Meter: string(x.Meter), Quantity: x.Quantity.String(), Estimated: x.Estimated.String(), Unpriced: x.Unpriced.String(), Costs: usageCosts(x.Costs),
		})
	}
	return m
}

func usageCosts(costs []store.Cost) (out []*adminv1.UsageCost) {
	for _, c := range costs {
		out = append(out, &adminv1.UsageCost{Currency: c.Currency, Amount: c.Amount.String(), Adjustments: c.Adjustment.String()})
	}
	return out
}

func (s *usageServer) ExportUsage(ctx context.Context, r *adminv1.ExportUsageRequest) (*adminv1.ExportUsageResponse, error) {
	q := store.UsageQuery{Size: int(r.GetPageSize()), Token: r.GetPageToken()}
	if q.Size == 0 {
		q.Size = defaultEvents
	}
	if err := period(r.GetFrom(), r.GetTo(), &q.From, &q.To); err != nil {
		return nil, err
	}
	page, err := s.store.ExportUsage(ctx, callerOf(ctx).scope, q)
	if err != nil {
		return nil, aboutList(err)
	}
	out := &adminv1.ExportUsageResponse{NextPageToken: page.Next, End: page.End}
	for i := range page.Events {
		out.Events = append(out.Events, usageEvent(&page.Events[i]))
	}
	return out, nil
}

func usageEvent(e *store.UsageEvent) *adminv1.UsageEvent {
	d, a := &e.Call.Decision, &e.Attempt
	m := &adminv1.UsageEvent{
		Token: e.Token, RecordTime: timestamppb.New(e.At), CallId: string(e.Call.ID), CallStart: timestamppb.New(d.StartTime()), CallEndReason: string(e.Call.End), Gateway: e.Call.Gateway,
		TeamId: int64(d.Team), ProjectId: int64(d.Project), ApiKeyId: int64(d.APIKey), ProfileId: int64(d.Profile), EndUser: d.EndUser, Session: d.Session, Api: string(d.API), Model: d.Model,
		ServiceTier: e.Call.ServiceTier, Attempt: int32(a.Number), ModelId: int64(a.Target.Model), ProviderId: int64(a.Target.Provider), DeploymentId: int64(a.Target.Deployment), CredentialId: int64(a.Target.Credential),
	}
	if a.Number > 0 {
		m.Start, m.Duration, m.Status, m.EndReason, m.ProviderRequestId = timestamppb.New(a.Start), durationpb.New(a.Duration), int32(a.Status), string(a.End), a.ProviderRequestID
	}
	if e.Adjustment != nil {
		m.Adjustment = adjustmentMessage(e.Call, e.Adjustment)
		return m
	}
	m.Cost = unknownCost
	if total, currency, known := e.Cost(); known {
		m.Cost, m.Currency = total.String(), currency
	}
	for _, l := range a.Charge.Lines {
		m.Meters = append(m.Meters, chargedMeter(&l))
	}
	return m
}

func chargedMeter(l *logos.ChargeLine) *adminv1.ChargedMeter {
	m := &adminv1.ChargedMeter{Meter: string(l.Meter), Quantity: l.Quantity, Estimated: l.Estimated, Cost: unknownCost}
	if l.Price != nil {
		m.Cost, m.PriceVersion = l.Cost.String(), l.Price.Version
	}
	return m
}

func adjustmentMessage(c *logos.Call, j *store.Adjustment) *adminv1.Adjustment {
	d := &c.Decision
	return &adminv1.Adjustment{
		Id: j.ID, Time: timestamppb.New(j.At), CallId: string(c.ID), CallStart: timestamppb.New(d.StartTime()), Attempt: int32(j.Attempt), Meter: string(j.Meter), Kind: string(j.Kind),
		Amount: j.Amount.String(), Currency: j.Currency, PriceVersion: j.PriceVersion, Reason: j.Reason, TeamId: int64(d.Team), ProjectId: int64(d.Project), ApiKeyId: int64(d.APIKey),
		AuthorKeyId: int64(j.Key), AuthorMemberId: int64(j.Member),
	}
}

func (s *usageServer) GetStatement(ctx context.Context, r *adminv1.GetStatementRequest) (*adminv1.Statement, error) {
	out := &adminv1.Statement{Month: r.GetMonth(), TimeZone: r.GetTimeZone(), TeamId: r.GetTeamId(), ProjectId: r.GetProjectId()}
	q := store.StatementQuery{Zone: r.GetTimeZone(), Team: r.GetTeamId(), Project: r.GetProjectId()}
	year, month, _ := strings.Cut(r.GetMonth(), "-")
	q.Year, _ = strconv.Atoi(year) // the proto's rule has it in digits
	number, _ := strconv.Atoi(month)
	if q.Month = time.Month(number); q.Year == 0 || q.Year == 9999 {
		return nil, invalid("month", "must be a month like 2026-11")
	}
	var err error
	if out.Team, err = s.nameOf(ctx, store.Teams, q.Team); err != nil {
		return nil, err
	}
	if out.Project, err = s.nameOf(ctx, store.Projects, q.Project); err != nil {
		return nil, err
	}
	st, err := s.store.Statement(ctx, callerOf(ctx).scope, q)
	if err != nil {
		return nil, aboutList(err)
	}
	out.Start, out.End, out.CreateTime = timestamppb.New(st.Start), timestamppb.New(st.End), timestamppb.New(st.At)
	out.Total = &adminv1.UsageRow{}
	if st.Total != nil {
		out.Total = usageRow(st.Total)
	}
	for _, l := range st.Lines {
		out.Lines = append(out.Lines, usageRow(l))
	}
	for _, c := range st.Corrections {
		out.Corrections = append(out.Corrections, &adminv1.StatementCorrection{
			Time: timestamppb.New(c.At), Kind: c.Kind, Reason: c.Reason, Currency: c.Currency, Amount: c.Amount.String(), Adjustments: c.Adjustments, AdjustmentId: c.ID, CallId: string(c.Call),
		})
	}
	return out, nil
}

// nameOf returns the name of what a statement is of, which the caller must be allowed to see.
func (s *usageServer) nameOf(ctx context.Context, k *store.Kind, id int64) (string, error) {
	if id == 0 {
		return "", nil
	}
	doc, err := s.store.Get(ctx, k, callerOf(ctx).scope, id)
	if err != nil {
		return "", err
	}
	m, err := decode[*adminv1.Project](doc) // teams' documents have a name as well
	return m.GetName(), err
}
