package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

func (s *Store) readBudgets(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedBudgets(ctx, since)
	for i := range rows {
		x := &rows[i]
		if x.Gone {
			c.Gone.Budgets = append(c.Gone.Budgets, logos.BudgetID(x.ID))
			continue
		}
		b, err := readBudget(x)
		if err != nil {
			s.log.Error("a budget can't be read; it allows nothing", zap.Int64("budget", x.ID), zap.Error(err))
		}
		c.Budgets = append(c.Budgets, b)
	}
	return err
}

// readBudget makes a budget of its row. One that can't be read, since a newer program wrote it, say, allows
// nothing, together with the error.
func readBudget(x *db.ChangedBudgetsRow) (*logos.Budget, error) {
	b := &logos.Budget{
		ID: logos.BudgetID(x.ID), Name: x.Name, Revision: x.Revision, Each: logos.BudgetEach(x.Each), Unit: logos.BudgetUnit(x.Unit), Currency: x.Currency,
		Window: logos.BudgetWindow(x.Window), Hard: x.Hard, ClampMaxTokens: x.ClampMaxTokens, Webhook: x.WebhookUrl,
		Selector: logos.BudgetSelector{
			Teams: idsOf[logos.TeamID](x.TeamIds), Projects: idsOf[logos.ProjectID](x.ProjectIds), APIKeys: idsOf[logos.APIKeyID](x.ApiKeyIds), EndUsers: x.EndUsers,
			Profiles: idsOf[logos.ProfileID](x.ProfileIds), Models: idsOf[logos.ModelID](x.ModelIds), Providers: idsOf[logos.ProviderID](x.ProviderIds),
		},
	}
	if x.TeamID != nil { // it counts that team's calls alone
		b.Selector.Teams = []logos.TeamID{logos.TeamID(*x.TeamID)}
	}
	for _, p := range x.Thresholds {
		b.Thresholds = append(b.Thresholds, int(p))
	}
	if len(b.Thresholds) == 0 && !b.Hard {
		b.Thresholds = []int{100}
	}
	err := readLabels(x.CallLabels, &b.Selector.Labels)
	if err == nil {
		err = readLabels(x.Labels, &b.Labels)
	}
	if err == nil {
		b.Zone, err = time.LoadLocation(x.TimeZone)
	}
	if err == nil {
		b.Limit, err = decimal.NewFromString(x.Amount)
	}
	if err == nil {
		err = logos.CheckBudget(b)
	}
	if err != nil {
		b.Unit, b.Currency, b.Limit, b.Window, b.Each, b.Hard, b.ClampMaxTokens = logos.UnitRequests, "", decimal.Zero, logos.WindowTotal, logos.EachNone, true, false
		return b, fmt.Errorf("budget %d: %w", x.ID, err)
	}
	return b, nil
}

func idsOf[T ~int64](list []int64) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, id := range list {
		out[i] = T(id)
	}
	return out
}

// readLabels leaves the map nil where there are none.
func readLabels(raw []byte, to *map[string]string) error {
	if len(raw) <= len("{}") {
		return nil
	}
	return json.Unmarshal(raw, to)
}
