package logos_test

import (
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestWindowsBeginWhereClocksSay(t *testing.T) {
	t.Parallel()
	berlin := zone(t, "Europe/Berlin")
	for _, c := range []struct {
		window         logos.BudgetWindow
		at, start, end string // RFC 3339
	}{
		{logos.WindowMinute, "2026-11-24T12:34:56Z", "2026-11-24T12:34:00Z", "2026-11-24T12:35:00Z"},
		{logos.WindowHour, "2026-11-24T12:34:56Z", "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"},
		{logos.WindowDay, "2026-11-24T23:30:00Z", "2026-11-24T23:00:00Z", "2026-11-25T23:00:00Z"}, // half past midnight in Berlin
		{logos.WindowWeek, "2026-11-29T12:00:00Z", "2026-11-22T23:00:00Z", "2026-11-29T23:00:00Z"},
		{logos.WindowMonth, "2026-03-31T22:30:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"},
		{logos.WindowMonth, "2026-03-31T21:30:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"},
		{logos.WindowYear, "2026-12-31T23:30:00Z", "2026-12-31T23:00:00Z", "2027-12-31T23:00:00Z"},
		// The clocks change at one o'clock UTC: a day of 23 hours, and one of 25.
		{logos.WindowDay, "2026-03-29T05:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{logos.WindowDay, "2026-10-25T05:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		// The hour from two to three comes twice.
		{logos.WindowHour, "2026-10-25T00:10:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{logos.WindowHour, "2026-10-25T01:10:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		start, end := c.window.Bounds(at, berlin)
		if start.UTC().Format(time.RFC3339) != c.start || end.UTC().Format(time.RFC3339) != c.end {
			t.Errorf("%s at %s: %s to %s, want %s to %s", c.window, c.at, start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339), c.start, c.end)
		}
	}
}

func TestEveryMomentIsInOneWindow(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "America/New_York"} {
		z := zone(t, name)
		for _, w := range logos.BudgetWindows[2:6] {
			last := time.Time{}
			for at := time.Date(2017, 9, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2019; at = at.Add(29 * time.Minute) {
				start, end := w.Bounds(at, z)
				if at.Before(start) || !at.Before(end) {
					t.Fatalf("%s in %s: %s is not in %s to %s", w, name, at, start, end)
				}
				if start.Before(last) {
					t.Fatalf("%s in %s: the window of %s begins before the one before", w, name, at)
				}
				last = start
			}
		}
	}
}
