package api_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// usageMethods are about all that was used, as far as the caller may see it.
var usageMethods = map[string]bool{"SummarizeUsage": true, "ExportUsage": true, "GetStatement": true}

// tryUsage compares what is shown with the calls and adjustments that may be seen.
func (w *world) tryUsage(t *testing.T, p person, name, reach string) {
	t.Helper()
	var calls []string
	for _, x := range w.things["Call"] {
		if p.reaches(reach, "Call", x) {
			calls = append(calls, x.id)
		}
	}
	slices.Sort(calls)
	sum := func(rows []any) (n int64) {
		for _, r := range rows {
			n += decimal.RequireFromString(r.(object)["calls"].(string)).IntPart()
		}
		return n
	}
	answer, err := w.call(p.key, name, map[string]object{
		"SummarizeUsage": {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "group_by": "api_key_id"},
		"ExportUsage":    {"page_size": 5000}, "GetStatement": {"month": "2026-11"},
	}[name])
	if err != nil {
		t.Errorf("%s gives %v", name, err)
		return
	}
	switch name {
	case "SummarizeUsage":
		if n := sum(answer["rows"].([]any)); n != int64(len(calls)) {
			t.Errorf("%s shows %d calls, want %d", name, n, len(calls))
		}
	case "GetStatement":
		if n := sum([]any{answer["total"]}); n != int64(len(calls)) {
			t.Errorf("%s states %d calls, want %d", name, n, len(calls))
		}
	case "ExportUsage":
		var seen []string
		for _, e := range answer["events"].([]any) {
			seen = append(seen, e.(object)["call_id"].(string))
		}
		slices.Sort(seen)
		if diff := cmp.Diff(calls, slices.Compact(seen)); diff != "" {
			t.Errorf("%s shows events of the calls (-want +got):\n%s", name, diff)
		}
	}
}

// A till is a gateway with some priced calls of a project of a team.
type till struct {
	*gateway
	root            client
	team, project   string
	model, provider int64
	day             time.Time
}

func newTill(t *testing.T) *till {
	t.Helper()
	g := newGateway(t)
	g.setup()
	x := &till{gateway: g, root: g.as(g.root), day: time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)}
	x.team = x.root.make("teams", object{"name": "=physics"})["id"].(string)
	x.project = x.root.make("projects", object{"name": "course", "team_id": x.team})["id"].(string)
	x.root.make("providers", object{"name": "p", "base_url": "https://p.example"})
	x.root.make("models", object{"name": "m"})
	x.model, x.provider = 1, 2
	return x
}

// pay records a call of so many input tokens at 2 EUR for a million, and of output tokens that have no price.
func (x *till) pay(n int, at time.Time, input, output int64) string {
	x.t.Helper()
	id := logos.CallID(strings.Replace(callID, "4c3648d3", "0000000"+string(rune('0'+n)), 1))
	c := &logos.Call{ID: id, End: logos.EndOK, Status: 200, Decision: logos.Decision{Start: at.UnixMicro(), API: logos.APIChat, Team: number[logos.TeamID](x.t, x.team), Project: number[logos.ProjectID](x.t, x.project), APIKey: 1, Model: "m", EndUser: "u"}}
	a := logos.Attempt{Number: 1, Start: at, Status: 200, End: logos.EndOK, Target: logos.DecisionTarget{Model: logos.ModelID(x.model), Provider: logos.ProviderID(x.provider)}, Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: input}}}
	if output > 0 {
		a.Meters = append(a.Meters, logos.MeterReading{Meter: logos.MeterOutput, Quantity: output, Estimated: true})
	}
	c.Attempts = []logos.Attempt{a}
	x.book("2").RateCall(c)
	if err := x.store.RecordCalls(x.t.Context(), "gateway-1", logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
		x.t.Fatal(err)
	}
	return string(id)
}

func (x *till) book(amount string, meters ...logos.Meter) *billing.Book {
	var prices []*logos.Price
	for i, m := range append(meters, logos.MeterInput) {
		prices = append(prices, &logos.Price{ID: logos.PriceID(i + 1), Version: 1, Provider: logos.ProviderID(x.provider), Meter: m, Amount: decimal.RequireFromString(amount), Unit: 1_000_000, Currency: "EUR"})
	}
	return billing.NewBook(prices, nil)
}

func number[T ~int64](t *testing.T, text string) T {
	t.Helper()
	return T(decimal.RequireFromString(text).IntPart())
}

func (x *till) rerate(reason string, b *billing.Book) {
	x.t.Helper()
	if _, err := x.store.Rerate(x.t.Context(), store.Period{From: x.day, To: x.day.AddDate(0, 0, 20), Reason: reason}, b.RateCall); err != nil {
		x.t.Fatal(err)
	}
}

// text returns an answer in another type.
func (x *till) text(path, accept string) string {
	x.t.Helper()
	r := request("GET", path, "")
	r.Header.Set("Authorization", "Bearer "+x.gateway.root)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	x.handler.ServeHTTP(w, r)
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), accept) {
		x.t.Fatalf("%s answers %d as %q: %s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return w.Body.String()
}

func (x *till) get(path string) object {
	x.t.Helper()
	r := request("GET", path, "")
	r.Header.Set("Authorization", "Bearer "+x.gateway.root)
	status, answer := x.do(x.handler, r)
	if status != 200 {
		x.t.Fatalf("%s answers %d %v", path, status, answer)
	}
	return answer
}

func TestSummaryTellsUnknownFromZero(t *testing.T) {
	t.Parallel()
	x := newTill(t)
	x.pay(1, x.day, 500_000, 0)
	x.pay(2, x.day.Add(time.Hour), 1_000_000, 40)
	path := "/admin/v1/usage:summarize?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z&group_by=team_id,model_id&bucket=month"
	row := func() object { return x.get(path)["rows"].([]any)[0].(object) }
	got := row()
	if got["team"] != "=physics" || got["model"] != "m" || got["calls"] != "2" || got["unpriced_calls"] != "1" || got["start"] != "2026-11-01T00:00:00Z" {
		t.Errorf("the row is %v", got)
	}
	want := []any{
		object{"meter": "input", "quantity": "1500000", "estimated": "0", "unpriced": "0", "costs": []any{object{"currency": "EUR", "amount": "3", "adjustments": "0"}}},
		object{"meter": "output", "quantity": "40", "estimated": "40", "unpriced": "40", "costs": []any{object{"currency": "EUR", "amount": "0", "adjustments": "0"}}},
	}
	if diff := cmp.Diff(want, got["meters"]); diff != "" {
		t.Errorf("meters (-want +got):\n%s", diff)
	}
	x.rerate("output was forgotten", x.book("3", logos.MeterOutput))
	got = row()
	if diff := cmp.Diff([]any{object{"currency": "EUR", "amount": "4.50012", "adjustments": "1.50012"}}, got["costs"]); diff != "" || got["unpriced_calls"] != "0" {
		t.Errorf("rated again, %v calls are unpriced, and costs are (-want +got):\n%s", got["unpriced_calls"], diff)
	}
	lines := readCSV(t, x.text(path, "text/csv"))
	if len(lines) != 4 || lines[1][1] != "'=physics" || lines[1][12] != "2" || lines[1][20] != "4.50012" || lines[2][15] != "input" {
		t.Errorf("in CSV: %q", lines)
	}
}

func readCSV(t *testing.T, text string) [][]string {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Where a month begins within an hour, as in India, that hour is of the month in which it begins, and of no other.
func TestTimesThatMeetHaveNoHourTwice(t *testing.T) {
	t.Parallel()
	x := newTill(t)
	meets := time.Date(2026, 10, 31, 18, 30, 0, 0, time.UTC) // November begins in India
	x.pay(1, meets.Add(-10*time.Minute), 1, 1)
	x.pay(2, meets.Add(10*time.Minute), 1, 1)
	x.pay(3, meets.Add(40*time.Minute), 1, 1)
	calls := func(path string) string { return x.text("/admin/v1/"+path, "text/csv") }
	count := func(from, to time.Time) (n string) {
		rows := readCSV(t, calls("usage:summarize?from="+from.Format(time.RFC3339)+"&to="+to.Format(time.RFC3339)))
		if len(rows) < 2 {
			return "0"
		}
		return rows[1][slices.Index(rows[0], "calls")]
	}
	october, november := count(meets.AddDate(0, -1, 0), meets), count(meets, meets.AddDate(0, 1, 0))
	statement := readCSV(t, calls("statements/2026-11?time_zone=Asia/Kolkata"))
	stated := ""
	for _, r := range statement {
		if r[0] == "total" && r[slices.Index(statement[0], "calls")] != "" {
			stated = r[slices.Index(statement[0], "calls")]
		}
	}
	if october != "2" || november != "1" || stated != november {
		t.Errorf("October has %s calls, November %s, and its statement %s: want 2, 1 and 1", october, november, stated)
	}
}

func TestSummaryRefusesWhatItCannotAnswer(t *testing.T) {
	t.Parallel()
	x := newTill(t)
	for query, field := range map[string]string{
		"from=yesterday": "from", "to=2026-13-01T00:00:00Z": "to", "from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z": "to", "from=1990-01-01T00:00:00Z": "from",
		"group_by=colour": "group_by", "group_by=end_user&from=2026-01-01T00:00:00Z": "from", "bucket=year": "bucket", "time_zone=Mars/Olympus&bucket=day": "time_zone", "filter=colour=%221%22": "filter",
	} {
		status, answer := x.root.do("GET", "/admin/v1/usage:summarize?"+query, nil)
		refused(t, query, status, answer, 400, "", field)
	}
}

func TestStatementListsEveryCorrection(t *testing.T) {
	t.Parallel()
	x := newTill(t)
	first := x.pay(1, x.day, 500_000, 0)
	x.pay(2, x.day.AddDate(0, 1, 0), 500_000, 0) // in December
	x.root.make("adjustments", object{"call_id": first, "kind": "refund", "amount": "-0.25", "currency": "EUR", "reason": "credit note"})
	x.rerate("a wrong price", x.book("3"))
	path := "/admin/v1/statements/2026-11?project_id=" + x.project
	got := x.get(path)
	total := got["total"].(object)
	if diff := cmp.Diff([]any{object{"currency": "EUR", "amount": "1.25", "adjustments": "0.25"}}, total["costs"]); diff != "" || total["calls"] != "1" || got["project"] != "course" {
		t.Errorf("the total is %v (-want +got):\n%s", total, diff)
	}
	var said []string
	for _, c := range got["corrections"].([]any) {
		c := c.(object)
		said = append(said, strings.Join([]string{c["kind"].(string), c["amount"].(string), c["reason"].(string)}, " "))
	}
	if diff := cmp.Diff([]string{"refund -0.25 credit note", "rerating 0.5 a wrong price"}, said); diff != "" {
		t.Errorf("corrections (-want +got):\n%s", diff)
	}
	var kinds []string
	for _, line := range readCSV(t, x.text(path, "text/csv"))[1:] {
		kinds = append(kinds, line[0]+" "+line[9]+" "+line[14])
	}
	if diff := cmp.Diff([]string{"usage  1.25", "usage input 1.5", "refund  -0.25", "rerating  0.5", "total  1.25", "total input 1.5"}, kinds); diff != "" {
		t.Errorf("lines of CSV (-want +got):\n%s", diff)
	}
	for path, want := range map[string]int{"/admin/v1/statements/2026-13": 400, "/admin/v1/statements/2026-11?team_id=999": 404, "/admin/v1/statements/2026-10": 200} {
		if status, answer := x.root.do("GET", path, nil); status != want {
			t.Errorf("%s answers %d %v", path, status, answer)
		}
	}
}

func TestRefundsNoMoreThanWasPaid(t *testing.T) {
	t.Parallel()
	x := newTill(t)
	id := x.pay(1, x.day, 500_000, 0)
	refund := object{"call_id": id, "kind": "refund", "amount": "-0.6", "currency": "EUR", "reason": "r"}
	const again = "?request_id=0190f5fe-0000-7000-8000-000000000001"
	for range 2 { // repeated, it is one
		if status, answer := x.root.do("POST", "/admin/v1/adjustments"+again, refund); status != 200 || answer["amount"] != "-0.6" || answer["author_key_id"] != "1" {
			t.Fatalf("%d %v", status, answer)
		}
	}
	status, answer := x.root.do("POST", "/admin/v1/adjustments", refund)
	refused(t, "a second refund", status, answer, 409, "REFUND_TOO_LARGE", "")
	for what, c := range map[string]struct {
		change object
		field  string
	}{
		"no call":          {object{"call_id": callID}, "adjustment.call_id"},
		"above 0":          {object{"amount": "1"}, "adjustment.amount"},
		"nothing":          {object{"amount": "0.00"}, "adjustment.amount"},
		"a float":          {object{"amount": "1e3"}, "adjustment.amount"},
		"no attempt":       {object{"attempt": 7}, "adjustment.attempt"},
		"no reason":        {object{"reason": ""}, "adjustment.reason"},
		"a kind of others": {object{"kind": "rerating"}, "adjustment.kind"},
	} {
		wrong := object{}
		for _, from := range []object{refund, c.change} {
			for k, v := range from {
				wrong[k] = v
			}
		}
		status, answer := x.root.do("POST", "/admin/v1/adjustments", wrong)
		refused(t, what, status, answer, 400, "", c.field)
	}
	events := x.root.list("auditEvents", "?filter=kind%20=%20%22adjustment%22")
	if len(events) != 1 || events[0]["project_id"] != x.project || events[0]["method"] != "CreateAdjustment" {
		t.Errorf("the audit has %v", events)
	}
	found, err := x.store.VerifyLedger(context.Background(), x.day, x.day.AddDate(0, 0, 1), func(f store.Finding) { t.Errorf("%s: %s", f.Check, f.What) })
	if err != nil || found.Calls != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestExportIsLinesThatCanBeResumed(t *testing.T) {
	t.Parallel()
	x := newTill(t)
	for n := range 3 {
		x.pay(n, x.day, 1000, int64(n))
	}
	x.root.make("adjustments", object{"call_id": strings.Replace(callID, "4c3648d3", "00000000", 1), "kind": "refund", "amount": "-0.001", "currency": "EUR", "reason": "r"})
	var all []object
	token := ""
	for end := false; !end; {
		for line := range strings.Lines(x.text("/admin/v1/usage:export?page_size=2&page_token="+token, "application/x-ndjson")) {
			var e object
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if next, ok := e["next_page_token"]; ok {
				token, end = next.(string), e["end"].(bool)
			} else {
				all = append(all, e)
			}
		}
	}
	if len(all) != 4 || all[0]["cost"] != "0.002" || all[1]["cost"] != "unknown" || all[3]["adjustment"].(object)["amount"] != "-0.001" || all[3]["cost"] != "" {
		t.Errorf("the events are %v", all)
	}
	if rest := x.get("/admin/v1/usage:export?page_token=" + all[1]["token"].(string))["events"].([]any); len(rest) != 2 {
		t.Errorf("after the second there are %v", rest)
	}
	status, answer := x.root.do("GET", "/admin/v1/usage:export?page_token=x", nil)
	refused(t, "a token", status, answer, 400, "", "page_token")
}
