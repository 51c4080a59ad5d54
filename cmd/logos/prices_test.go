package main

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPricesAreSetForWhatTheFlagsName(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 4, 5, 6, 789, time.UTC)
	for line, want := range map[string][]string{
		"--provider p --currency EUR --input 0 --output 1":                                   {"p input 0 EUR", "p output 1 EUR"},
		"--provider p --model m --currency EUR --cache-write-1h 2":                           {"p m cache_write_1h 2 EUR"},
		"--provider p --provider-model x/y --currency EUR --input 2 --from now":              {"p x/y input 2 EUR 2026-11-25T04:05:06Z"},
		"--provider p --model m --deployment d --currency EUR --image 2":                     {"p m d image 2 EUR"},
		"--provider p --model m --currency EUR --request 2 --from 2027-01-01T00:00:00+01:00": {"p m request 2 EUR 2026-12-31T23:00:00Z"},
		"--provider p --currency EUR":                                                        nil,
		"--provider p --input 2":                                                             nil,
		"--currency EUR --input 2":                                                           nil,
		"--provider p --currency EUR --input 2 --from tomorrow":                              nil,
	} {
		flags := flag.NewFlagSet("prices set", flag.ContinueOnError)
		s := newSetPrices(flags, nil)
		if err := flags.Parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		prices, err := s.prices(now)
		var got []string
		for _, p := range prices {
			text := strings.Join([]string{p.GetProvider(), p.GetModel() + p.GetProviderModel(), p.GetDeployment(), p.GetMeter(), p.GetAmount(), p.GetCurrency()}, " ")
			if p.GetValidFrom() != nil {
				text += " " + p.GetValidFrom().AsTime().Format(time.RFC3339)
			}
			got = append(got, strings.Join(strings.Fields(text), " "))
		}
		if diff := cmp.Diff(want, got); diff != "" || (err != nil) != (want == nil) {
			t.Errorf("%s: %v (-want +got):\n%s", line, err, diff)
		}
	}
}

func TestCommandsOfTwoWordsTakeTheirFile(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"prices import FILE --approve": "prices import|-f|FILE|--approve", "prices import --builtin": "prices import|--builtin", "prices unpriced": "prices unpriced",
		"prices": "prices", "apply -f FILE": "apply|-f|FILE",
	} {
		if got := withSubcommand(strings.Fields(line)); !slices.Equal(got, strings.Split(want, "|")) {
			t.Errorf("%s is %q", line, got)
		}
	}
}
