package catalogue

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// genAIFields are the fields of genai-prices that stand for a meter, and for how many of it.
var genAIFields = map[string]struct {
	meter logos.Meter
	unit  int64
}{
	"input_mtok": {logos.MeterInput, 1_000_000}, "output_mtok": {logos.MeterOutput, 1_000_000},
	"cache_read_mtok": {logos.MeterCachedInput, 1_000_000}, "cache_write_mtok": {logos.MeterCacheWrite, 1_000_000},
	"cache_write_1h_mtok": {logos.MeterCacheWrite1h, 1_000_000},
	"input_audio_mtok":    {logos.MeterAudioInput, 1_000_000}, "output_audio_mtok": {logos.MeterAudioOutput, 1_000_000},
	"output_reasoning_mtok": {logos.MeterReasoning, 1_000_000}, "requests_kcount": {logos.MeterRequest, 1000},
}

type genAIProvider struct {
	ID        string
	Fallbacks []string `json:"fallback_model_providers"`
	Models    []genAIModel
}

type genAIModel struct {
	ID       string
	Match    *clause
	Prices   json.RawMessage
	Variants []genAIVariant `json:"price_variants"`
}

// A genAIVariant is what other prices a model has in some calls.
type genAIVariant struct {
	When       map[string]string
	Prices     json.RawMessage
	Constraint map[string]any
}

// readGenAI reads the list of providers that prices/data.json holds.
func readGenAI(text []byte, at time.Time) (*List, error) {
	var providers []genAIProvider
	if err := json.Unmarshal(text, &providers); err != nil {
		return nil, unknown()
	}
	l := &List{Name: "genai-prices", others: make(map[string][]string)}
	for _, p := range providers {
		l.others[p.ID] = p.Fallbacks
		for _, m := range p.Models {
			l.add(p.ID, m.read(at))
		}
	}
	if l.Len() == 0 {
		return nil, unknown()
	}
	return l, nil
}

// read reads a model. One whose names are not understood has no price, lest another be taken for it.
func (m *genAIModel) read(at time.Time) model {
	switch {
	case m.Match == nil:
		return model{func(name string) bool { return strings.EqualFold(name, m.ID) }, m.prices(at)}
	case m.Match.understood():
		return model{m.Match.holds, m.prices(at)}
	}
	return model{named: m.Match.holds}
}

// prices reads those of the standard tier, and those of every tier that has some of its own: what is not among them
// costs there what it does in the standard one. Variants of other sorts, like batches, are of calls that the gateway
// does not tell from others.
func (m *genAIModel) prices(at time.Time) []logos.Price {
	standard, own := m.standard(at), m.tiers(at)
	var r rates
	r.addFields(standard, logos.StandardTier)
	for _, tier := range slices.Sorted(maps.Keys(own)) {
		all := maps.Clone(standard)
		maps.Copy(all, own[tier])
		r.addFields(all, tier)
	}
	return r.list
}

// standard reads prices, or a list of them with conditions of which the last that holds counts. A condition other
// than a day is not understood, so what hangs on it is left out.
func (m *genAIModel) standard(at time.Time) map[string]json.RawMessage {
	var dated []struct {
		Constraint map[string]any
		Prices     json.RawMessage
	}
	if json.Unmarshal(m.Prices, &dated) != nil {
		return object(m.Prices)
	}
	var present json.RawMessage
	for _, d := range dated {
		if begun(d.Constraint, at) {
			present = d.Prices
		}
	}
	return object(present)
}

// tiers reads what is other in service tiers; of several prices for the same the first counts.
func (m *genAIModel) tiers(at time.Time) map[string]map[string]json.RawMessage {
	tiers := make(map[string]map[string]json.RawMessage)
	for _, v := range m.Variants {
		tier := logos.ServiceTier(v.When["service_tier"])
		if len(v.When) != 1 || tier == logos.StandardTier || !begun(v.Constraint, at) {
			continue
		}
		all := object(v.Prices)
		maps.Copy(all, tiers[tier])
		if len(all) > 0 {
			tiers[tier] = all
		}
	}
	return tiers
}

// object reads an object; what is none is an empty one.
func object(text json.RawMessage) map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage)
	if json.Unmarshal(text, &fields) != nil || fields == nil {
		return make(map[string]json.RawMessage)
	}
	maps.DeleteFunc(fields, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	return fields
}

// begun says whether a condition is none, or a day that has come.
func begun(constraint map[string]any, at time.Time) bool {
	start, isDay := constraint["start_date"].(string)
	from, err := time.Parse(time.DateOnly, start)
	return len(constraint) == 0 || isDay && len(constraint) == 1 && err == nil && !from.After(at)
}

// addFields adds what fields say of a tier.
func (r *rates) addFields(fields map[string]json.RawMessage, tier string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		as, ok := genAIFields[name]
		if !ok || len(fields[name]) > maxPrice {
			continue
		}
		var tiered struct {
			Base  decimal.Decimal
			Tiers []struct {
				Start int64
				Price decimal.Decimal
			}
		}
		if json.Unmarshal(fields[name], &tiered.Base) != nil && json.Unmarshal(fields[name], &tiered) != nil {
			continue
		}
		r.add(as.meter, tiered.Base, as.unit, tier, 0)
		for _, t := range tiered.Tiers {
			if t.Start > 0 && t.Start < 1_000_000_000 {
				r.add(as.meter, t.Price, as.unit, tier, t.Start+1) // more than start
			}
		}
	}
}

// readPython reads the data.py of the package, as the expression that it is.
func readPython(text []byte, at time.Time) (*List, error) {
	_, after, ok := bytes.Cut(text, []byte("providers: list[Provider] ="))
	if !ok {
		return nil, unknown()
	}
	v, err := parsePython(after)
	if err != nil {
		return nil, unknown()
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, unknown()
	}
	return readGenAI(plain, at)
}
