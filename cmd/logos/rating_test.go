package main

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// TestACallWaitsForPrices: what is read after a restart, before there is a configuration, must not stay unknown.
func TestACallWaitsForPrices(t *testing.T) {
	t.Parallel()
	db, _ := pgtest.Store(t)
	f := newForce(func(context.Context, *logos.Config) {}, zap.NewNop(), prometheus.NewRegistry())
	registry := prometheus.NewRegistry()
	s := newRatingStore(db, f, budget.New(db, logos.Gateway{ID: "g"}, budget.Options{}, zap.NewNop(), prometheus.NewRegistry()),
		budget.NewTeller(db, f.budgets, nil, zap.NewNop(), prometheus.NewRegistry()), registry)
	call := &logos.Call{
		ID: "4c3648d3-45cf-4a39-9983-4ec0041b40d3", End: logos.EndOK, Decision: logos.Decision{Start: time.Now().UnixMicro(), Project: 1, APIKey: 1},
		Attempts: []logos.Attempt{{Number: 1, Target: logos.DecisionTarget{Provider: 1}, Start: time.Now(), End: logos.EndOK, Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 3}}}},
	}
	batch := logos.LogBatch{Calls: []*logos.Call{call}}
	early, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := s.RecordCalls(early, "g", batch); err == nil {
		t.Fatal("a call was stored before prices are known")
	}
	config, err := logos.NewConfig(1, logos.Resources{Prices: []*logos.Price{{
		ID: 1, Version: 1, Provider: 1, Meter: logos.MeterInput, Amount: decimal.RequireFromString("0.5"), Unit: 1, Currency: "EUR",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	f.routed = config
	f.take(t.Context(), config, time.Time{})
	if err := s.RecordCalls(t.Context(), "g", batch); err != nil {
		t.Fatal(err)
	}
	got, err := db.Call(t.Context(), store.Scope{}, call.ID)
	if err != nil {
		t.Fatal(err)
	}
	if total, known := got.Cost(); !known || total.Amount.String() != "1.5" || total.Currency != "EUR" {
		t.Errorf("it costs %v (%t)", total, known)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetLabel()[0].GetValue() != "known" || families[0].GetMetric()[0].GetCounter().GetValue() != 1 {
		t.Errorf("counted is %v (%v)", families, err)
	}
}
