package budget

import (
	"slices"
	"strconv"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// An Index finds the budgets that count a call. It is immutable; a nil one has none.
type Index struct {
	everyone []*entry // whose selector names none of those below
	keys     map[logos.APIKeyID][]*entry
	projects map[logos.ProjectID][]*entry
	teams    map[logos.TeamID][]*entry
	users    map[string][]*entry
}

// An entry is a budget with what is worked out once.
type entry struct {
	*logos.Budget
	limit int64
}

// NewIndex compiles the budgets of a configuration.
func NewIndex(budgets []*logos.Budget) *Index {
	if len(budgets) == 0 {
		return nil
	}
	x := &Index{
		keys: make(map[logos.APIKeyID][]*entry), projects: make(map[logos.ProjectID][]*entry),
		teams: make(map[logos.TeamID][]*entry), users: make(map[string][]*entry),
	}
	for _, b := range budgets {
		e, s := &entry{b, b.Unit.Amount(b.Limit)}, &b.Selector
		switch { // under what most likely tells calls apart
		case len(s.APIKeys) > 0:
			put(x.keys, s.APIKeys, e)
		case len(s.EndUsers) > 0:
			put(x.users, s.EndUsers, e)
		case len(s.Projects) > 0:
			put(x.projects, s.Projects, e)
		case len(s.Teams) > 0:
			put(x.teams, s.Teams, e)
		default:
			x.everyone = append(x.everyone, e)
		}
	}
	return x
}

func put[K comparable](lists map[K][]*entry, keys []K, e *entry) {
	for _, k := range keys {
		if !slices.Contains(lists[k], e) {
			lists[k] = append(lists[k], e)
		}
	}
}

// A Caller is who makes a call, as far as budgets tell calls apart.
type Caller struct {
	Team    logos.TeamID // 0: none
	Project logos.ProjectID
	APIKey  logos.APIKeyID
	Member  logos.MemberID // 0: none
	EndUser string         // pseudonym; empty: none
	Labels  map[string]string
}

// match returns the budgets that count a caller's calls, whatever their profile and targets are.
func (x *Index) match(c *Caller) (out []*entry) {
	if x == nil {
		return nil
	}
	for _, list := range [...][]*entry{x.everyone, x.teams[c.Team], x.projects[c.Project], x.users[c.EndUser], x.keys[c.APIKey]} {
		for _, e := range list {
			if matches(&e.Selector, c) {
				out = append(out, e)
			}
		}
	}
	return out
}

func matches(s *logos.BudgetSelector, c *Caller) bool {
	if !holds(s.Teams, c.Team) || !holds(s.Projects, c.Project) || !holds(s.APIKeys, c.APIKey) || !holds(s.EndUsers, c.EndUser) {
		return false
	}
	for name, want := range s.Labels {
		if got, ok := c.Labels[name]; !ok || got != want {
			return false
		}
	}
	return true
}

// holds says whether a list has a value, or demands none.
func holds[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// key names the counter of a caller.
func (e *entry) key(c *Caller) string {
	id := func(kind string, id int64) string { return kind + strconv.FormatInt(id, 10) }
	switch e.Each {
	case logos.EachEndUser:
		return "end_user:" + c.EndUser
	case logos.EachAPIKey:
		return id("api_key:", int64(c.APIKey))
	case logos.EachMember:
		return id("member:", int64(c.Member))
	case logos.EachProject:
		return id("project:", int64(c.Project))
	case logos.EachTeam:
		return id("team:", int64(c.Team))
	}
	return ""
}

// window returns the window of a moment, in seconds since 1970; zero: it has neither beginning nor end.
func (e *entry) window(now time.Time) (start, end int64) {
	from, to := e.Window.Bounds(now, e.Zone)
	if from.IsZero() {
		return 0, 0
	}
	return from.Unix(), to.Unix()
}
