package catalogue

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
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
	ID     string
	Models []struct {
		ID     string
		Match  *clause
		Prices json.RawMessage
	}
}

// readGenAI reads the list of providers that prices/data.json holds.
func readGenAI(text []byte, at time.Time) (*List, error) {
	var providers []genAIProvider
	if err := json.Unmarshal(text, &providers); err != nil {
		return nil, unknown()
	}
	l := &List{Name: "genai-prices"}
	for _, p := range providers {
		for _, m := range p.Models {
			named := m.Match.holds
			if m.Match == nil {
				named = func(name string) bool { return name == m.ID }
			}
			l.add(p.ID, model{named, genAIPrices(m.Prices, at)})
		}
	}
	if l.Len() == 0 {
		return nil, unknown()
	}
	return l, nil
}

// genAIPrices reads prices, or a list of them with conditions of which the last that holds counts. A condition
// other than a day is not understood, so what hangs on it is left out.
func genAIPrices(text json.RawMessage, at time.Time) []logos.Price {
	var dated []struct {
		Constraint map[string]any
		Prices     json.RawMessage
	}
	if json.Unmarshal(text, &dated) != nil {
		return genAIRates(text)
	}
	var present json.RawMessage
	for _, d := range dated {
		start, isDay := d.Constraint["start_date"].(string)
		from, err := time.Parse(time.DateOnly, start)
		if len(d.Constraint) == 0 || isDay && len(d.Constraint) == 1 && err == nil && !from.After(at) {
			present = d.Prices
		}
	}
	return genAIRates(present)
}

func genAIRates(text json.RawMessage) []logos.Price {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return nil
	}
	var r rates
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		as, ok := genAIFields[name]
		if !ok {
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
		r.add(as.meter, tiered.Base, as.unit, logos.StandardTier, 0)
		for _, t := range tiered.Tiers {
			if t.Start > 0 && t.Start < 1_000_000_000 {
				r.add(as.meter, t.Price, as.unit, logos.StandardTier, t.Start+1) // more than start
			}
		}
	}
	return r.list
}

// A clause says which names a model has.
type clause struct {
	Equals     *string
	StartsWith *string `json:"starts_with"`
	EndsWith   *string `json:"ends_with"`
	Contains   *string
	Regex      *string
	Or         []clause
	And        []clause
	pattern    *regexp.Regexp
}

// UnmarshalJSON compiles the pattern, which can't take long to match. One that is of another kind holds never.
func (c *clause) UnmarshalJSON(text []byte) error {
	type plain clause
	if err := json.Unmarshal(text, (*plain)(c)); err != nil {
		return err
	}
	if c.Regex != nil {
		c.pattern, _ = regexp.Compile(*c.Regex)
	}
	return nil
}

func (c *clause) holds(name string) bool {
	switch {
	case c.Equals != nil:
		return name == *c.Equals
	case c.StartsWith != nil:
		return strings.HasPrefix(name, *c.StartsWith)
	case c.EndsWith != nil:
		return strings.HasSuffix(name, *c.EndsWith)
	case c.Contains != nil:
		return strings.Contains(name, *c.Contains)
	case c.Regex != nil:
		return c.pattern != nil && c.pattern.MatchString(name)
	case len(c.Or) > 0:
		return slices.ContainsFunc(c.Or, func(x clause) bool { return x.holds(name) })
	}
	return len(c.And) > 0 && !slices.ContainsFunc(c.And, func(x clause) bool { return !x.holds(name) })
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
