package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var november = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// TestRatesAPeriodAgainAndVerifiesIt records a call without a price, which an administrator sets then.
func TestRatesAPeriodAgainAndVerifiesIt(t *testing.T) {
	t.Parallel()
	db, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("insert into providers (name, base_url, dialect, revision) values ('p', 'https://p.example', 'openai', 1)")
	call := &logos.Call{
		ID: "4c3648d3-45cf-4a39-9983-4ec0041b40d3", End: logos.EndOK, Decision: logos.Decision{Start: november.UnixMicro(), Project: 1, APIKey: 1},
		Attempts: []logos.Attempt{{Number: 1, Start: november, Target: logos.DecisionTarget{Provider: 1}, Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 1_000_000}}}},
	}
	billing.NewBook(nil, nil).RateCall(call)
	if err := db.RecordCalls(t.Context(), "g", logos.LogBatch{Calls: []*logos.Call{call}}); err != nil {
		t.Fatal(err)
	}
	p := store.Period{From: november, To: november.AddDate(0, 1, 0), Reason: "a price was missing"}
	for _, step := range []struct {
		price, provider string
		dry             bool
		want            string
	}{
		{want: "0 calls changed, by 0 adjustments.\n1 calls have something without a price.\n"},
		{price: "2.5", dry: true, want: "1 calls would change, by 1 adjustments.\n2.5 EUR\n1 quantities that had no price have one.\n"},
		{provider: "p", want: "1 calls changed, by 1 adjustments.\n2.5 EUR\n1 quantities that had no price have one.\n"},
		{want: "0 calls changed, by 0 adjustments.\n"},
		{price: "2", want: "1 calls changed, by 1 adjustments.\n-0.5 EUR\n"},
	} {
		if step.price != "" {
			exec("update prices set deleted_at = now(), revision = revision + 1")
			exec("insert into prices (name, provider_id, meter, amount, unit, currency, revision) values ('x' || $1, 1, 'input', $2, 1000000, 'EUR', 5)", step.price, decimal.RequireFromString(step.price).String())
		}
		p.DryRun = step.dry
		var out bytes.Buffer
		if err := rerate(t.Context(), db, p, step.provider, "", &out); err != nil || out.String() != step.want {
			t.Errorf("at %q it says %q, %v; want %q", step.price, out.String(), err, step.want)
		}
	}
	if err := rerate(t.Context(), db, p, "nobody", "", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a provider that there is not: %v", err)
	}
	var out bytes.Buffer
	if err := verify(t.Context(), db, november, november.AddDate(0, 1, 0), &out); err != nil || !strings.Contains(out.String(), "1 calls of 1 days were checked.\nThe ledger adds up.\n") {
		t.Errorf("verify says %q, %v", out.String(), err)
	}
	exec("set session_replication_role = replica")
	exec("update calls set cost = 7")
	out.Reset()
	if err := verify(t.Context(), db, november, november.AddDate(0, 1, 0), &out); err == nil || !strings.Contains(out.String(), "call_cost: call 4c3648d3") {
		t.Errorf("with a fault it says %q, %v", out.String(), err)
	}
}

func TestLedgerCommandsWantToKnowWhatTheyDo(t *testing.T) {
	for _, args := range [][]string{
		{"ledger", "rerate", "--from", "2026-11-01", "--to", "2026-12-01"}, {"ledger", "rerate", "--dry-run", "--yes", "--from", "2026-11-01", "--to", "2026-12-01"},
		{"ledger", "rerate", "--dry-run"}, {"ledger", "verify", "--from", "2026-11-01", "--to", "2026-10-01"}, {"ledger", "verify", "--from", "yesterday"},
		{"usage", "--month", "november"}, {"usage", "--month", "2026-11", "--from", "2026-11-01"}, {"usage", "--csv", "--json"},
	} {
		var out, errs bytes.Buffer
		if code := run(args, &out, &errs); code != exitFinal {
			t.Errorf("%v ends with %d: %s", args, code, errs.String())
		}
	}
	for _, args := range [][]string{{"ledger"}, {"ledger", "burn"}} {
		if code := run(args, &bytes.Buffer{}, &bytes.Buffer{}); code != exitUsage {
			t.Errorf("%v ends with %d", args, code)
		}
	}
}

func TestUsageShowsWhatIsUnknown(t *testing.T) {
	asked := make(chan string, 1)
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Accept") + " " + r.URL.RequestURI()
		if r.Header.Get("Accept") == "text/csv" {
			w.Write([]byte("a,b\n"))
			return
		}
		w.Write([]byte(`{"rows": [
			{"team_id": "1", "team": "physics", "calls": "12", "unpriced_calls": "1", "costs": [{"currency": "EUR", "amount": "3.25"}], "meters": [{"meter": "input", "quantity": "1500"}, {"meter": "output", "quantity": "7"}]},
			{"calls": "1", "unpriced_calls": "0", "costs": [], "meters": []}]}`))
	}))
	defer gateway.Close()
	t.Setenv("LOGOS_ADMIN_URL", gateway.URL)
	t.Setenv("LOGOS_API_KEY", "lg-x")
	var out, errs bytes.Buffer
	if code := run([]string{"usage", "--by", "team,end_reason", "--month", "2026-11", "--time-zone", "Europe/Berlin"}, &out, &errs); code != 0 {
		t.Fatalf("it ends with %d: %s", code, errs.String())
	}
	if got, want := <-asked, "application/json /admin/v1/usage:summarize?bucket=&filter=&from=2026-10-31T23%3A00%3A00Z&group_by=team_id%2Cend_reason&time_zone=Europe%2FBerlin&to=2026-11-30T23%3A00%3A00Z"; got != want {
		t.Errorf("it asks for %s, want %s", got, want)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	if got, want := strings.Join(lines, "\n"), "calls unpriced input output cost\nphysics 12 1 1500 7 3.25 EUR + unknown\n(none) 1 0 0 0 0"; got != want {
		t.Errorf("it shows\n%s\nwant\n%s", got, want)
	}
	out.Reset()
	if code := run([]string{"usage", "--csv"}, &out, &errs); code != 0 || out.String() != "a,b\n" {
		t.Errorf("in CSV: %d %q", code, out.String())
	}
}
