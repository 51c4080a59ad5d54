package logos

import "time"

// A BudgetWindow is the time over which a budget counts.
type BudgetWindow string

// The windows. Days begin at midnight of the budget's time zone, weeks on Monday.
const (
	WindowMinute BudgetWindow = "minute"
	WindowHour   BudgetWindow = "hour"
	WindowDay    BudgetWindow = "day"
	WindowWeek   BudgetWindow = "week"
	WindowMonth  BudgetWindow = "month"
	WindowYear   BudgetWindow = "year"
	WindowTotal  BudgetWindow = "total" // has neither beginning nor end
)

// BudgetWindows are all of them.
var BudgetWindows = []BudgetWindow{WindowMinute, WindowHour, WindowDay, WindowWeek, WindowMonth, WindowYear, WindowTotal}

// Bounds returns the window in which a moment lies: its first moment, and the first after it. Those of
// WindowTotal are zero. A day on which clocks change is shorter or longer; an hour that comes twice is two
// windows.
func (w BudgetWindow) Bounds(at time.Time, zone *time.Location) (start, end time.Time) {
	if zone == nil {
		zone = time.UTC
	}
	at = at.In(zone)
	year, month, day := at.Date()
	date := func(year int, month time.Month, day int) time.Time { return midnight(year, month, day, zone) }
	switch w {
	case WindowMinute:
		start = at.Add(-time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
		return start, start.Add(time.Minute)
	case WindowHour:
		start = at.Add(-time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
		return start, start.Add(time.Hour)
	case WindowDay:
		return date(year, month, day), date(year, month, day+1)
	case WindowWeek:
		monday := day - (int(at.Weekday())+6)%7
		return date(year, month, monday), date(year, month, monday+7)
	case WindowMonth:
		return date(year, month, 1), date(year, month+1, 1)
	case WindowYear:
		return date(year, time.January, 1), date(year+1, time.January, 1)
	}
	return time.Time{}, time.Time{}
}

// midnight returns the first moment of a day. Where clocks go forward at midnight there is none, and
// time.Date may return one of the day before.
func midnight(year int, month time.Month, day int, zone *time.Location) time.Time {
	t := time.Date(year, month, day, 0, 0, 0, 0, zone)
	if noon := time.Date(year, month, day, 12, 0, 0, 0, zone); t.Day() != noon.Day() {
		return t.Add(time.Hour)
	}
	return t
}
