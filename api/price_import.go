package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// defaultMaxChange is what a price may change by without approval, in per cent.
const defaultMaxChange = 20

// An importing is one import of a catalogue, within its change.
type importing struct {
	*change
	request *adminv1.ImportPricesRequest
	at      time.Time
	there   []*logos.Price
	named   map[*logos.Price]*adminv1.Price // all of them as messages
}

func (s *priceServer) ImportPrices(ctx context.Context, r *adminv1.ImportPricesRequest) (*adminv1.ImportPricesResponse, error) {
	answer := &adminv1.ImportPricesResponse{}
	if err := named("source", r.GetSource()); err != nil {
		return nil, err
	}
	err := s.do(ctx, func(ctx context.Context, c *change) error {
		x := &importing{change: c, request: r, at: time.Now().Truncate(time.Microsecond), named: make(map[*logos.Price]*adminv1.Price)}
		done, err := x.run(ctx, answer)
		if err != nil {
			return err
		}
		if r.GetDryRun() || done == 0 {
			return errDryRun
		}
		answer.Revision = c.Revision()
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return answer, err
}

// run makes the changes, and returns how many there were.
func (x *importing) run(ctx context.Context, answer *adminv1.ImportPricesResponse) (done int, err error) {
	if err := x.load(ctx); err != nil {
		return 0, err
	}
	wanted, err := x.wanted(ctx)
	if err != nil {
		return 0, err
	}
	limit := int64(defaultMaxChange)
	if x.request.MaxChangePercent != nil {
		limit = int64(x.request.GetMaxChangePercent())
	}
	for _, d := range billing.Compare(x.there, wanted, x.request.GetSource(), x.at, limit) {
		c := x.shown(d)
		answer.Changes = append(answer.Changes, c)
		if len(d.Held) > 0 && !x.request.GetApprove() {
			answer.Held++
			continue
		}
		if err := x.make(ctx, d, c.GetName()); err != nil {
			return 0, err
		}
		c.Done = true
		done++
	}
	return done, nil
}

// load reads the prices that there are.
func (x *importing) load(ctx context.Context) error {
	return x.Each(ctx, store.Prices, func(doc json.RawMessage) error {
		m, err := decode[*adminv1.Price](doc)
		if err != nil {
			return err
		}
		p, err := knownPrice(m)
		if err != nil {
			return fmt.Errorf("read price %d: %w", m.GetId(), err)
		}
		x.there, x.named[p] = append(x.there, p), m
		return nil
	})
}

// wanted reads what the catalogue says.
func (x *importing) wanted(ctx context.Context) ([]*logos.Price, error) {
	out := make([]*logos.Price, len(x.request.GetPrices()))
	for i, m := range x.request.GetPrices() {
		p, err := x.price(ctx, m)
		if err != nil {
			return nil, inside(item("prices", i), err)
		}
		out[i], x.named[p] = p, m
	}
	return out, nil
}

func (x *importing) shown(d billing.Difference) *adminv1.PriceChange {
	c := &adminv1.PriceChange{Action: "change", Held: d.Held}
	switch {
	case d.Before == nil:
		c.Action = "create"
	case d.After == nil:
		c.Action = "remove"
	}
	if d.Before != nil {
		c.Name, c.Before = x.named[d.Before].GetName(), chargeText(d.Before)
	}
	if d.After != nil {
		c.Name, c.After = priceName(x.named[d.Wanted], d.After), chargeText(d.After)
	}
	return c
}

func chargeText(p *logos.Price) string {
	return fmt.Sprintf("%s %s per %d", p.Amount, p.Currency, p.Unit)
}

// make ends what was before, and begins what is after.
func (x *importing) make(ctx context.Context, d billing.Difference, name string) error {
	if d.Before != nil {
		if err := x.end(ctx, d.Before); err != nil {
			return err
		}
	}
	if d.After == nil {
		return nil
	}
	columns := priceColumns(d.After)
	columns["name"], columns["imported_at"] = name, d.After.ImportedAt
	id, err := x.Insert(ctx, store.Prices, columns)
	if err != nil {
		return within("prices", err)
	}
	return x.Created(ctx, store.Prices, id)
}

func (x *importing) end(ctx context.Context, p *logos.Price) error {
	return x.Audited(ctx, store.Prices, int64(p.ID), func(ctx context.Context) error {
		return x.Update(ctx, store.Prices, int64(p.ID), store.Columns{"valid_to": x.at})
	})
}

// ListUnpricedDeployments reads everything as it is at one moment.
func (s *priceServer) ListUnpricedDeployments(ctx context.Context, _ *adminv1.ListUnpricedDeploymentsRequest) (*adminv1.ListUnpricedDeploymentsResponse, error) {
	var list []*logos.Price
	var all []*adminv1.Deployment
	err := s.store.View(ctx, func(ctx context.Context, v *store.View) error {
		err := v.Each(ctx, store.Prices, func(doc json.RawMessage) error {
			m, err := decode[*adminv1.Price](doc)
			if err != nil {
				return err
			}
			p, err := knownPrice(m)
			list = append(list, p)
			return err
		})
		if err != nil {
			return err
		}
		return v.Each(ctx, store.Deployments, func(doc json.RawMessage) error {
			d, err := decode[*adminv1.Deployment](doc)
			all = append(all, d)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	book, now := billing.NewBook(list, nil), time.Now()
	answer := &adminv1.ListUnpricedDeploymentsResponse{}
	for _, d := range all {
		if x := unpriced(book, d, now); x != nil {
			answer.Deployments = append(answer.Deployments, x)
		}
	}
	return answer, nil
}

// unpriced says what has no price; nil: everything has.
func unpriced(book *billing.Book, d *adminv1.Deployment, now time.Time) *adminv1.UnpricedDeployment {
	of := billing.Target{
		Deployment: logos.DeploymentID(d.GetId()), Provider: logos.ProviderID(d.GetProviderId()), Model: logos.ModelID(d.GetModelId()), ProviderModel: providerModel(d),
	}
	var missing []string
	flags := ""
	band := book.Card(of, logos.StandardTier, now).Band(0)
	for _, m := range band.Missing {
		if m == logos.MeterOutput && len(d.GetApis()) == 1 && d.GetApis()[0] == string(logos.APIEmbeddings) {
			continue // their answers are not counted
		}
		missing = append(missing, string(m))
		flags += " --" + string(m) + " AMOUNT"
	}
	if missing == nil {
		return nil
	}
	return &adminv1.UnpricedDeployment{
		DeploymentId: d.GetId(), Provider: d.GetProvider(), Model: d.GetModel(), Name: d.GetName(), Missing: missing,
		Command: "logos prices set --provider " + quoted(d.GetProvider()) + " --model " + quoted(d.GetModel()) + " --currency " + cmp.Or(band.Currency, "EUR") + flags,
	}
}

// providerModel is what a deployment's provider calls the model.
func providerModel(d *adminv1.Deployment) string {
	if d.GetProviderModel() != "" {
		return d.GetProviderModel()
	}
	return d.GetModel()
}

// quoted writes a word as a shell reads it.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
