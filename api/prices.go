package api

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var prices = resource[*adminv1.Price]{
	kind: store.Prices,
	columns: func(ctx context.Context, c *change, m, _ *adminv1.Price) (store.Columns, error) {
		p, err := c.price(ctx, m)
		if err != nil {
			return nil, err
		}
		columns := priceColumns(p)
		if columns["name"] = m.GetName(); m.GetName() == "" {
			columns["name"] = priceName(m, p)
		}
		return columns, at("name", checkName("it", columns["name"].(string)))
	},
	name: func(m *adminv1.Price) error {
		p, err := chargeOf(m)
		switch {
		case err != nil || m.GetName() != "":
			return err
		case m.GetProvider() == "":
			return invalid("provider", "must be given")
		}
		m.Name = priceName(m, p)
		return nil
	},
	settle: func(_ context.Context, _ *change, _, after *adminv1.Price) error {
		p, err := chargeOf(after)
		if err == nil {
			after.Amount, after.Unit = p.Amount.String(), p.Unit
		}
		return err
	},
}

// chargeOf reads what a message says but for what the price is of.
func chargeOf(m *adminv1.Price) (*logos.Price, error) {
	amount, err := billing.ParseAmount(m.GetAmount())
	if err != nil {
		return nil, at("amount", err)
	}
	p := &logos.Price{
		ID: logos.PriceID(m.GetId()), Version: m.GetVersion(), ProviderModel: m.GetProviderModel(), Meter: logos.Meter(m.GetMeter()), Amount: amount, Unit: m.GetUnit(),
		Currency: m.GetCurrency(), ServiceTier: m.GetServiceTier(), ContextFrom: m.GetContextFrom(), ContextTo: m.GetContextTo(),
		ValidFrom: moment(m.GetValidFrom()), ValidTo: moment(m.GetValidTo()), Source: m.GetSource(), ImportedAt: moment(m.GetImportTime()),
	}
	switch {
	case p.Unit != 0:
	case p.Meter.Tokens():
		p.Unit = 1_000_000
	default:
		p.Unit = 1
	}
	return p, nil
}

// moment reads a time as the database keeps it.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime().Truncate(time.Microsecond)
}

// price reads a price, and finds what it is of.
func (c *change) price(ctx context.Context, m *adminv1.Price) (*logos.Price, error) {
	p, err := chargeOf(m)
	if err != nil {
		return nil, err
	}
	provider, err := c.need(ctx, reference{kind: store.Providers, field: "provider", id: m.GetProviderId(), name: m.GetProvider()})
	if err != nil {
		return nil, err
	}
	model, err := c.find(ctx, reference{kind: store.Models, field: "model", id: m.GetModelId(), name: m.GetModel()})
	if err != nil {
		return nil, err
	}
	p.Provider, p.Model = logos.ProviderID(provider), logos.ModelID(model)
	if m.GetDeploymentId() != 0 || m.GetDeployment() != "" {
		if err := c.ofDeployment(ctx, p, m); err != nil {
			return nil, err
		}
	}
	if e, wrong := errors.AsType[*logos.Error](billing.Check(p)); wrong {
		return nil, &fieldError{strings.TrimPrefix(e.Code, "invalid_"), e}
	}
	if !printable(p.ServiceTier) {
		return nil, invalid("service_tier", "must be printable ASCII")
	}
	return p, nil
}

// ofDeployment makes a price that of a deployment, which has a name: else nobody could declare it.
func (c *change) ofDeployment(ctx context.Context, p *logos.Price, m *adminv1.Price) error {
	within := store.Columns{"provider_id": int64(p.Provider)}
	if p.Model != 0 {
		within["model_id"] = int64(p.Model)
	} else if m.GetDeploymentId() == 0 {
		return invalid("model", "must be given: deployments have names among those of a model at a provider")
	}
	id, err := c.find(ctx, reference{kind: store.Deployments, field: "deployment", id: m.GetDeploymentId(), name: m.GetDeployment(), within: within})
	if err != nil {
		return err
	}
	doc, err := c.Get(ctx, store.Deployments, c.scope, id)
	if err != nil {
		return err
	}
	d, err := decode[*adminv1.Deployment](doc)
	if err != nil {
		return err
	}
	if d.GetName() == "" {
		return invalid("deployment", "it has no name: give it one first, or price the model at the provider")
	}
	p.Deployment, p.Model = logos.DeploymentID(id), 0
	return nil
}

func priceColumns(p *logos.Price) store.Columns {
	return store.Columns{
		"provider_id": int64(p.Provider), "deployment_id": orNull(int64(p.Deployment)), "model_id": orNull(int64(p.Model)), "provider_model": p.ProviderModel,
		"meter": string(p.Meter), "amount": p.Amount.String(), "unit": p.Unit, "currency": p.Currency, "service_tier": p.ServiceTier,
		"context_from": p.ContextFrom, "context_to": p.ContextTo, "valid_from": timeOrNull(p.ValidFrom), "valid_to": timeOrNull(p.ValidTo), "source": p.Source,
	}
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// priceName is made of what tells prices apart.
func priceName(m *adminv1.Price, p *logos.Price) string {
	parts := []string{m.GetProvider()}
	if parts[0] == "" {
		parts[0] = "provider " + logos.FormatID(p.Provider)
	}
	switch {
	case m.GetDeployment() != "":
		parts = append(parts, m.GetModel(), m.GetDeployment())
	case p.Deployment != 0:
		parts = append(parts, "deployment "+logos.FormatID(p.Deployment))
	case m.GetModel() != "":
		parts = append(parts, m.GetModel())
	case p.Model != 0:
		parts = append(parts, "model "+logos.FormatID(p.Model))
	case p.ProviderModel != "":
		parts = append(parts, p.ProviderModel)
	}
	parts = append(parts, string(p.Meter))
	if p.ServiceTier != "" {
		parts = append(parts, p.ServiceTier)
	}
	name := strings.Join(parts, "/")
	if p.ContextFrom != 0 || p.ContextTo != 0 {
		name += " " + strconv.FormatInt(p.ContextFrom, 10) + "-"
		if p.ContextTo != 0 {
			name += strconv.FormatInt(p.ContextTo, 10)
		}
	}
	if !p.ValidFrom.IsZero() {
		name += " from " + p.ValidFrom.UTC().Format(time.RFC3339Nano)
	}
	if p.Source != "" {
		name += " (" + p.Source + ")"
	}
	return name
}

// knownPrice reads a stored price.
func knownPrice(m *adminv1.Price) (*logos.Price, error) {
	p, err := chargeOf(m)
	if err != nil {
		return nil, err
	}
	p.Provider, p.Deployment = logos.ProviderID(m.GetProviderId()), logos.DeploymentID(m.GetDeploymentId())
	if p.Deployment == 0 {
		p.Model = logos.ModelID(m.GetModelId())
	}
	return p, nil
}

type priceServer struct {
	adminv1.UnimplementedPriceServiceServer
	*Service
}

func (s *priceServer) GetPrice(ctx context.Context, r *adminv1.GetPriceRequest) (*adminv1.Price, error) {
	return get[*adminv1.Price](ctx, s.Service, store.Prices, r.GetId())
}

func (s *priceServer) ListPrices(ctx context.Context, r *adminv1.ListPricesRequest) (*adminv1.ListPricesResponse, error) {
	items, next, err := list[*adminv1.Price](ctx, s.Service, store.Prices, r)
	return &adminv1.ListPricesResponse{Prices: items, NextPageToken: next}, err
}

func (s *priceServer) ListPriceVersions(ctx context.Context, r *adminv1.ListPriceVersionsRequest) (*adminv1.ListPriceVersionsResponse, error) {
	items, next, err := list[*adminv1.Price](ctx, s.Service, store.PriceVersions, r)
	return &adminv1.ListPriceVersionsResponse{Prices: items, NextPageToken: next}, err
}

func (s *priceServer) CreatePrice(ctx context.Context, r *adminv1.CreatePriceRequest) (*adminv1.Price, error) {
	return prices.create(ctx, s.Service, r.GetPrice(), r.GetRequestId())
}

func (s *priceServer) UpdatePrice(ctx context.Context, r *adminv1.UpdatePriceRequest) (*adminv1.Price, error) {
	return prices.update(ctx, s.Service, r.GetPrice(), r.GetUpdateMask())
}

func (s *priceServer) DeletePrice(ctx context.Context, r *adminv1.DeletePriceRequest) (*adminv1.Price, error) {
	return prices.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
