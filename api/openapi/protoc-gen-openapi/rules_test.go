package main

import (
	"math"
	"regexp"
	"testing"
)

func TestDigitsAreNumbersWithinBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lo, hi   int64
		yes, not []string
	}{
		{0, 1000, []string{"0", "7", "999", "1000"}, []string{"", "-1", "00", "007", "1001", "9999", "1.0", "1e3", " 1", "x"}},
		{1, math.MaxInt64, []string{"1", "10", "999999999999999999", "9223372036854775807"}, []string{"0", "-1", "01", "9223372036854775808", "10000000000000000000"}},
		{math.MinInt32, math.MaxInt32, []string{"0", "-5", "2147483647", "999999999"}, []string{"--1", "9999999999"}},
	} {
		pattern := regexp.MustCompile(digits(c.lo, c.hi))
		for _, text := range c.yes {
			if !pattern.MatchString(text) {
				t.Errorf("%s does not match %q", pattern, text)
			}
		}
		for _, text := range c.not {
			if pattern.MatchString(text) {
				t.Errorf("%s matches %q", pattern, text)
			}
		}
	}
}

func TestWordsOfNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"CreateApiKey": "Create API key", "BatchCreateApiKeys": "Batch create API keys", "WhoAmI": "Who am I", "ListCalls": "List calls"} {
		if got := words(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
