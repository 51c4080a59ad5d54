package main

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPricesAreSetUnderTheNamesThatTheGatewayGives(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 4, 5, 6, 789, time.UTC)
	for line, want := range map[string][]string{
		"--provider p --currency EUR --input 0 --output 1":                                   {"p/input=0", "p/output=1"},
		"--provider p --model m --currency EUR --cache-write-1h 2":                           {"p/m/cache_write_1h=2"},
		"--provider p --provider-model x/y --currency EUR --input 2 --from now":              {"p/x/y/input from 2026-11-25T04:05:06Z=2"},
		"--provider p --model m --deployment d --currency EUR --image 2":                     {"p/m/d/image=2"},
		"--provider p --model m --currency EUR --request 2 --from 2027-01-01T00:00:00+01:00": {"p/m/request from 2026-12-31T23:00:00Z=2"},
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
			got = append(got, p.GetName()+"="+p.GetAmount())
			if (p.GetValidFrom() != nil) != strings.Contains(line, "--from") {
				t.Errorf("%s: is valid from %v", line, p.GetValidFrom())
			}
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
