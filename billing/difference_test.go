package billing

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

func TestImportHoldsWhatIsOdd(t *testing.T) {
	t.Parallel()
	there := []*logos.Price{
		price(logos.MeterInput, "10", listed), price(logos.MeterOutput, "10", listed), price(logos.MeterCachedInput, "0", listed),
		price(logos.MeterInput, "1", nil), // an operator's own is not the catalogue's matter
	}
	euros := func(p *logos.Price) { p.Currency = "EUR" }
	perToken := func(p *logos.Price) { p.Unit = 1 }
	for name, c := range map[string]struct {
		wanted *logos.Price
		want   string
	}{
		"the same":                  {price(logos.MeterInput, "10.00", listed), ""},
		"the same in another unit":  {price(logos.MeterInput, "0.00001", all(listed, perToken)), ""},
		"a little more":             {price(logos.MeterInput, "12", listed), "10>12"},
		"too much more":             {price(logos.MeterInput, "12.000001", listed), "10>12.000001 change"},
		"too much less":             {price(logos.MeterInput, "7", listed), "10>7 change"},
		"nothing":                   {price(logos.MeterInput, "0", listed), "10>0 zero change"},
		"something where none was":  {price(logos.MeterCachedInput, "1", listed), "0>1 change"},
		"for a thousand":            {price(logos.MeterInput, "0.01", listed), "10>0.01 change unit"},
		"for a million":             {price(logos.MeterInput, "10", all(listed, perToken)), "10>10 change unit"},
		"in euros":                  {price(logos.MeterInput, "10", all(listed, euros)), "10>10 currency"},
		"new":                       {price(logos.MeterReasoning, "3", listed), "new 3"},
		"new and nothing":           {price(logos.MeterReasoning, "0", listed), "new 0 zero"},
		"of another length is new":  {price(logos.MeterInput, "30", all(listed, func(p *logos.Price) { p.ContextFrom = 5 })), "new 30"},
		"of another model is new":   {price(logos.MeterInput, "30", modelled), "new 30"},
		"of the tier that it is of": {price(logos.MeterInput, "30", all(listed, func(p *logos.Price) { p.ServiceTier = "flex" })), "new 30"},
	} {
		var got string
		for _, d := range Compare(there, []*logos.Price{c.wanted}, "list", day, 20) {
			if d.After == nil {
				continue
			}
			got = "new " + d.After.Amount.String()
			if d.Before != nil {
				got = d.Before.Amount.String() + ">" + d.After.Amount.String()
			}
			got = strings.TrimSpace(got + " " + strings.Join(d.Held, " "))
			if d.After.Source != "list" || !d.After.ImportedAt.Equal(day) || d.After.ValidFrom.Equal(day) != (d.Before != nil) {
				t.Errorf("%s: is stored as %+v", name, d.After)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestImportRemovesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	there := []*logos.Price{
		price(logos.MeterInput, "10", listed), price(logos.MeterOutput, "10", func(p *logos.Price) { p.Source = "another" }), price(logos.MeterReasoning, "1", nil),
		price(logos.MeterImage, "1", all(listed, func(p *logos.Price) { p.ValidTo = day })),
	}
	diff := Compare(there, nil, "list", day, 20)
	if len(diff) != 1 || diff[0].Before != there[0] || !slices.Equal(diff[0].Held, []string{HeldRemoval}) {
		t.Errorf("got %+v", diff)
	}
}

func TestWhatComesBackBeginsNow(t *testing.T) {
	t.Parallel()
	gone := price(logos.MeterInput, "10", all(listed, func(p *logos.Price) { p.ValidTo = day.Add(-time.Hour) }))
	diff := Compare([]*logos.Price{gone}, []*logos.Price{price(logos.MeterInput, "10", listed)}, "list", day, 20)
	if len(diff) != 1 || diff[0].Before != nil || !diff[0].After.ValidFrom.Equal(day) {
		t.Errorf("got %+v", diff)
	}
}
