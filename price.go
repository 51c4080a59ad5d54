package logos

import (
	"time"

	"github.com/shopspring/decimal"
)

// A PriceID names a price, through all that was ever believed of it.
type PriceID int64

// A Price is what one meter costs in calls that it is of: those to one deployment, to one model at a
// provider, or to all of a provider. It does not change: what is believed later is another version.
type Price struct {
	ID      PriceID
	Version int64 // grows with each thing that is believed of any price

	// Either the deployment, or the provider with at most one of the two models.
	Deployment    DeploymentID // 0: any
	Provider      ProviderID   // 0: the deployment's
	Model         ModelID      // 0: any
	ProviderModel string       // what the provider calls the model; empty: any

	Meter  Meter
	Amount decimal.Decimal // for Unit of the meter; an explicit 0 is a price
	Unit   int64           // 1, 1,000 or 1,000,000

	// Which calls it is of. A price without a service tier is for all of them.
	ServiceTier            string // [StandardTier] or what the provider calls it; empty: any
	ContextFrom, ContextTo int64  // tokens of the prompt, both included; ContextTo 0: no upper bound

	Currency           string    // ISO 4217, e.g. "EUR"
	ValidFrom, ValidTo time.Time // of the start of a call, the end excluded; zero: unbounded

	Source     string    // the catalogue that it was taken from; empty: an operator said so, which counts more
	ImportedAt time.Time // from the catalogue; zero: never

	RecordedAt time.Time // since when it is believed
	ReplacedAt time.Time // since when no longer; zero: it is
}

// StandardTier is the service tier of calls that ask for none.
const StandardTier = "standard"

// ServiceTier returns one name for the tier that providers call by several.
func ServiceTier(reported string) string {
	switch reported {
	case "", "default", "auto", "on_demand":
		return StandardTier
	}
	return reported
}

// A Charge is what an attempt cost.
type Charge struct {
	Currency string // empty: there is nothing to charge
	Total    decimal.Decimal
	Lines    []ChargeLine // in the order of [Meters]; they add up to Total
	Missing  []Meter      // used, and without a price: the cost is not known
}

// Known says whether every meter has a price. If not, Total is only a part.
func (c *Charge) Known() bool { return len(c.Missing) == 0 }

// Version is the latest version of a price that was used; 0: none.
func (c *Charge) Version() (latest int64) {
	for _, l := range c.Lines {
		if l.Price != nil {
			latest = max(latest, l.Price.Version)
		}
	}
	return latest
}

// Cost returns what a call costs, as far as its attempts are rated. It is not known if a price is missing, or if
// attempts are charged in several currencies. A call that was sent nowhere costs nothing.
func (c *Call) Cost() (total Money, known bool) {
	for i := range c.Attempts {
		charge := c.Attempts[i].Charge
		if charge == nil || !charge.Known() || charge.Currency != "" && total.Currency != "" && charge.Currency != total.Currency {
			return Money{}, false
		}
		total.Amount = total.Amount.Add(charge.Total)
		if charge.Currency != "" {
			total.Currency = charge.Currency
		}
	}
	return total, true
}

// A ChargeLine is the part of a charge that one meter makes.
type ChargeLine struct {
	MeterReading
	Price *Price // nil: it has none
	Cost  decimal.Decimal
}
