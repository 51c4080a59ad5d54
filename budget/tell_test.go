package budget

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// sums is a database with one counter.
type sums struct {
	mu sync.Mutex
	logos.CounterSum
	away bool
}

func (s *sums) CounterSums(context.Context, []logos.CounterID) ([]logos.CounterSum, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	return []logos.CounterSum{s.CounterSum}, nil
}

func (s *sums) TellThreshold(_ context.Context, _ logos.CounterID, percent int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := percent > s.Told
	s.Told = max(s.Told, percent)
	return first, nil
}

func TestThresholdsAreToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &logos.Budget{ID: 1, Name: "soft", Unit: logos.UnitMoney, Currency: "EUR", Limit: number("0.1"), Window: logos.WindowTotal, Thresholds: []int{50, 80, 100}, Webhook: "https://hook"}
		id := logos.CounterID{Budget: 1, Key: "project:7"}
		s := &sums{CounterSum: logos.CounterSum{Counter: id}}
		var posted []Event
		failures := 2
		post := func(_ context.Context, url string, body []byte) error {
			if failures--; failures >= 0 {
				return errors.New("not now")
			}
			var e Event
			if err := json.Unmarshal(body, &e); err != nil || url != "https://hook" {
				t.Errorf("posted is %s to %s", body, url)
			}
			posted = append(posted, e)
			return nil
		}
		told := NewTeller(s, func() []*logos.Budget { return []*logos.Budget{b} }, post, zap.NewNop(), prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = told.Run(ctx) }()
		spend := func(settled int64, away bool) {
			s.mu.Lock()
			s.Settled, s.away = settled, away
			s.mu.Unlock()
			told.Spent([]logos.Share{{Counter: id}})
			time.Sleep(10 * time.Second)
		}
		spend(49_999_999, false)
		spend(50_000_000, true) // nobody can look, and so looks again
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		time.Sleep(2 * time.Second)
		spend(60_000_000, false)
		spend(100_000_000, false) // passes over one
		spend(200_000_000, false)
		cancel()
		<-done
		var percents []int
		for _, e := range posted {
			percents = append(percents, e.Percent)
		}
		if len(percents) != 2 || percents[0] != 50 || percents[1] != 100 || posted[0].Key != "project:7" || posted[1].Spent != "0.1" || posted[1].Limit != "0.1" {
			t.Errorf("told is %+v", posted)
		}
	})
}

// manySums is a database whose counters have all reached their limit.
type manySums struct{ sums }

func (*manySums) CounterSums(_ context.Context, ids []logos.CounterID) (out []logos.CounterSum, err error) {
	for _, id := range ids {
		out = append(out, logos.CounterSum{Counter: id, Settled: 1})
	}
	return out, nil
}

func (*manySums) TellThreshold(context.Context, logos.CounterID, int) (bool, error) { return true, nil }

// TestASlowWebhookIsNotFlooded: of a budget for each end user, many counters reach a threshold at once.
func TestASlowWebhookIsNotFlooded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &logos.Budget{ID: 1, Unit: logos.UnitRequests, Limit: number("1"), Window: logos.WindowDay, Each: logos.EachEndUser, Thresholds: []int{100}, Webhook: "https://hook"}
		var mu sync.Mutex
		var open, most, all int
		post := func(ctx context.Context, _ string, _ []byte) error {
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				open, all = open+n, all+max(0, n)
				most = max(most, open)
			}
			count(1)
			defer count(-1)
			<-ctx.Done()
			return ctx.Err()
		}
		told := NewTeller(&manySums{}, func() []*logos.Budget { return []*logos.Budget{b} }, post, zap.NewNop(), prometheus.NewRegistry())
		for i := range int64(5000) {
			told.Spent([]logos.Share{{Counter: logos.CounterID{Budget: 1, Start: i}}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = told.Run(ctx) }()
		time.Sleep(time.Minute) // of the clock of the bubble: no time passes
		cancel()
		<-done
		if most != postsAtOnce || all < 2*postsAtOnce || open != 0 {
			t.Errorf("of %d posts %d were made at once, and %d are open at the end", all, most, open)
		}
	})
}

func TestAThresholdIsReachedNotNearly(t *testing.T) {
	t.Parallel()
	b := &logos.Budget{Unit: logos.UnitTokens, Limit: number("1000000000"), Thresholds: []int{1, 33, 100}}
	for settled, want := range map[int64]int{0: 0, 9_999_999: 0, 10_000_000: 1, 329_999_999: 1, 330_000_000: 33, 999_999_999: 33, 1_000_000_000: 100, 1 << 62: 100} {
		if got := reachedBy(b, &logos.CounterSum{Settled: settled}); got != want {
			t.Errorf("%d reaches %d, want %d", settled, got, want)
		}
	}
	odd := &logos.Budget{Unit: logos.UnitTokens, Limit: number("3"), Thresholds: []int{50}}
	if reachedBy(odd, &logos.CounterSum{Settled: 1}) != 0 || reachedBy(odd, &logos.CounterSum{Settled: 2}) != 50 {
		t.Error("half of three is not one")
	}
}
