package store

import (
	"context"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// What the documents of prices hold, those of their versions too.
var priceFields = []field{
	{"name", "r.name", text},
	{"provider_id", "r.provider_id", integer},
	{"provider", "p.name", text},
	{"deployment_id", "coalesce(r.deployment_id, 0)", integer},
	// A price can't be declared to be of a deployment without a name, so what it is shown as must not be empty.
	{"deployment", "case when d.name = '' then 'deployment ' || d.id else coalesce(d.name, '') end", text},
	{"model_id", "coalesce(r.model_id, d.model_id, 0)", integer},
	{"model", "coalesce(m.name, '')", text},
	{"provider_model", "r.provider_model", text},
	{"meter", "r.meter", text},
	{"amount", "trim_scale(r.amount)::text", shown},
	{"unit", "r.unit", integer},
	{"currency", "r.currency", text},
	{"service_tier", "r.service_tier", text},
	{"context_from", "r.context_from", integer},
	{"context_to", "r.context_to", integer},
	{"valid_from", "r.valid_from", moment},
	{"valid_to", "r.valid_to", moment},
	{"source", "r.source", text},
	{"import_time", "r.imported_at", moment},
	{"version", "r.version", integer},
}

const priceJoins = "join providers p on p.id = r.provider_id left join deployments d on d.id = r.deployment_id left join models m on m.id = coalesce(r.model_id, d.model_id)"

var (
	// Prices are what calls cost.
	Prices = &Kind{Name: "price", table: "prices", joins: priceJoins, fields: priceFields}

	// PriceVersions are all that was ever believed of prices, the latest first.
	PriceVersions = &Kind{
		Name: "price_version", bare: true, order: []term{{"r.version", "bigint", true}}, joins: priceJoins,
		table: `(select v.recorded_at, (jsonb_populate_record(null::prices, v.document || jsonb_build_object('version', v.version))).* from price_versions v)`,
		fields: append([]field{
			{"id", "r.id", integer},
			{"record_time", "r.recorded_at", moment},
			{"delete_time", "r.deleted_at", moment},
		}, priceFields...),
	}
)

func readPrices(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedPrices(ctx, since)
	for i := range rows {
		x := &rows[i]
		if x.Gone {
			c.Gone.Prices = append(c.Gone.Prices, logos.PriceID(x.ID))
			continue
		}
		c.Prices = append(c.Prices, &logos.Price{
			ID: logos.PriceID(x.ID), Version: x.Version, Deployment: logos.DeploymentID(zero(x.DeploymentID)), Provider: logos.ProviderID(x.ProviderID),
			Model: logos.ModelID(zero(x.ModelID)), ProviderModel: x.ProviderModel, Meter: logos.Meter(x.Meter), Amount: amount(x.Amount), Unit: x.Unit,
			ServiceTier: x.ServiceTier, ContextFrom: x.ContextFrom, ContextTo: x.ContextTo, Currency: x.Currency,
			ValidFrom: zero(x.ValidFrom), ValidTo: zero(x.ValidTo), Source: x.Source, ImportedAt: zero(x.ImportedAt), RecordedAt: x.UpdatedAt,
		})
	}
	return err
}
