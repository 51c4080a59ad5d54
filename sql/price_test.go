package store_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// addPrice adds a price of a provider that it makes on the first call.
func addPrice(t *testing.T, s *store.Store, name, meter, amount string, more store.Columns) (id int64) {
	t.Helper()
	_, err := s.Change(t.Context(), store.Actor{Method: "test"}, func(ctx context.Context, tx *store.Tx) error {
		provider, err := tx.AddProvider(ctx, &logos.Provider{Name: "p", BaseURL: &url.URL{Scheme: "https", Host: "p.example"}, Dialect: logos.DialectOpenAI})
		if err != nil {
			return err
		}
		values := store.Columns{"name": name, "provider_id": int64(provider), "meter": meter, "amount": amount, "unit": int64(1_000_000), "currency": "EUR"}
		for k, v := range more {
			values[k] = v
		}
		id, err = tx.Insert(ctx, store.Prices, values)
		if err != nil {
			return err
		}
		return tx.Created(ctx, store.Prices, id)
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func setPrice(t *testing.T, s *store.Store, id int64, values store.Columns) {
	t.Helper()
	if _, err := s.Change(t.Context(), store.Actor{Method: "test"}, func(ctx context.Context, tx *store.Tx) error {
		return tx.Audited(ctx, store.Prices, id, func(ctx context.Context) error { return tx.Update(ctx, store.Prices, id, values) })
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPricesOfARevisionAreInTheConfiguration(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	addPrice(t, s, "a", "input", "2.500", store.Columns{"provider_model": "gpt", "service_tier": "flex", "context_from": int64(5), "context_to": int64(9), "source": "list"})
	id := addPrice(t, s, "b", "output", "0", nil)
	setPrice(t, s, id, store.Columns{"amount": "0.000000000000000001"})
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	prices := config.Prices()
	if len(prices) != 2 {
		t.Fatalf("there are %d prices", len(prices))
	}
	want := []*logos.Price{
		{ID: 1, Version: 1, Provider: 1, ProviderModel: "gpt", Meter: logos.MeterInput, Amount: decimal.RequireFromString("2.5"), Unit: 1_000_000, Currency: "EUR",
			ServiceTier: "flex", ContextFrom: 5, ContextTo: 9, Source: "list", RecordedAt: prices[0].RecordedAt},
		{ID: 2, Version: 3, Provider: 1, Meter: logos.MeterOutput, Amount: decimal.RequireFromString("0.000000000000000001"), Unit: 1_000_000, Currency: "EUR", RecordedAt: prices[1].RecordedAt},
	}
	if diff := cmp.Diff(want, prices); diff != "" {
		t.Errorf("prices differ (-want +got):\n%s", diff)
	}
}

func TestWhatWasBelievedOfAPriceIsKept(t *testing.T) {
	t.Parallel()
	s, base := pgtest.Store(t)
	conn := pgtest.Conn(t, base)
	id := addPrice(t, s, "a", "input", "2.5", nil)
	setPrice(t, s, id, store.Columns{"amount": "2.40"})
	if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, store.Prices, id) }); err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), store.PriceVersions, store.Scope{}, store.Query{Size: 10, Filter: "id = 1"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, doc := range page.Documents {
		amount, deleted := one[string](t, conn, "select $1::jsonb->>'amount'", string(doc)), one[bool](t, conn, "select $1::jsonb->>'delete_time' is not null", string(doc))
		got = append(got, amount+map[bool]string{true: " deleted", false: ""}[deleted])
	}
	if want := []string{"2.4 deleted", "2.4", "2.5"}; !slices.Equal(got, want) {
		t.Errorf("the versions are %v, want %v", got, want)
	}
	for _, statement := range []string{"update price_versions set price_id = 2", "delete from price_versions", "truncate price_versions"} {
		if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestTwoPricesOfTheSameAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	addPrice(t, s, "a", "input", "2.5", nil)
	addPrice(t, s, "a list's", "input", "2.5", store.Columns{"source": "list"}) // beside an operator's
	for name, more := range map[string]store.Columns{"another name": nil, "another list's": {"source": "list 2"}, "a": {"provider_model": "x"}} {
		_, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
			values := store.Columns{"name": name, "provider_id": int64(1), "meter": "input", "amount": "1", "unit": int64(1), "currency": "EUR"}
			for k, v := range more {
				values[k] = v
			}
			_, err := tx.Insert(ctx, store.Prices, values)
			return err
		})
		if logos.KindOf(err) != logos.Exists {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPricesGoWithWhatTheyAreOf(t *testing.T) {
	t.Parallel()
	s, base := pgtest.Store(t)
	addPrice(t, s, "a", "input", "2.5", nil)
	if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, store.Providers, 1) }); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, pgtest.Conn(t, base), "select count(*)::int from prices where deleted_at is null"); n != 0 {
		t.Errorf("%d prices are left", n)
	}
}

// TestACostIsStoredToTheLastDecimal also holds what is not known apart from what is nothing.
func TestACostIsStoredToTheLastDecimal(t *testing.T) {
	t.Parallel()
	s, base := pgtest.Store(t)
	conn := pgtest.Conn(t, base)
	price := func(m logos.Meter, amount string) *logos.Price {
		return &logos.Price{Provider: 7, Meter: m, Amount: decimal.RequireFromString(amount), Unit: 1_000_000, Currency: "EUR", Version: 40}
	}
	input, output := price(logos.MeterInput, "0.123456789012345678"), price(logos.MeterOutput, "1000000")
	request := price(logos.MeterRequest, "0.5")
	request.Unit, request.Version = 1, 41
	for i, c := range []struct {
		prices  []*logos.Price
		cost    string // as the row has it
		meters  int
		version int64
	}{
		{[]*logos.Price{input, output, request}, "1099511627776.50000555555550555555551", 4, 41},
		{[]*logos.Price{input, request}, "", 4, 0},
		{nil, "", 3, 0},
	} {
		call := fullCall(t, callID(i+1))
		billing.NewBook(c.prices, nil).RateCall(call)
		if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{call}}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Call(t.Context(), store.Scope{}, call.ID)
		if err != nil {
			t.Fatal(err)
		}
		total, known := got.Cost()
		if want, ok := call.Cost(); known != ok || !total.Amount.Equal(want.Amount) || total.Currency != want.Currency || known != (c.cost != "") {
			t.Errorf("case %d: costs %v (%t), recorded was %v (%t)", i, total, known, want, ok)
		}
		if len(got.Attempts[1].Meters) != c.meters {
			t.Errorf("case %d: %d meters, want %d", i, len(got.Attempts[1].Meters), c.meters)
		}
		row := one[string](t, conn, "select coalesce(cost::text, '') from calls where call_id = $1", string(call.ID))
		sum := one[string](t, conn, "select trim_scale(coalesce(sum(cost), 0))::text from meters where call_id = $1", string(call.ID))
		if row != c.cost || c.cost != "" && sum != c.cost {
			t.Errorf("case %d: the row has %q, its meters add up to %q, want %q", i, row, sum, c.cost)
		}
		if c.version != 0 {
			if v := one[int64](t, conn, "select price_version from attempts where call_id = $1 and attempt = 2", string(call.ID)); v != c.version {
				t.Errorf("case %d: version %d, want %d", i, v, c.version)
			}
		}
	}
	refused := fullCall(t, callID(9))
	refused.Attempts = nil
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{refused}}); err != nil {
		t.Fatal(err)
	}
	if cost := one[string](t, conn, "select cost::text from calls where call_id = $1", string(refused.ID)); cost != "0" {
		t.Errorf("a refused call costs %q", cost)
	}
}
