package budget

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// Sums is what the database knows of counters.
type Sums interface {
	// CounterSums returns what all gateways have settled of counters, and the threshold that was told of last.
	CounterSums(ctx context.Context, counters []logos.CounterID) ([]logos.CounterSum, error)
	// TellThreshold notes that a threshold is told of. It returns false where somebody has done so already.
	TellThreshold(ctx context.Context, counter logos.CounterID, percent int) (bool, error)
}

const (
	tellEvery   = time.Second
	maxWaiting  = 10_000 // counters that were spent of, of which nobody has looked yet whether to tell
	postTries   = 4
	postTimeout = 5 * time.Second
	postsAtOnce = 8
	maxPosts    = 1000 // that wait: a budget may have thousands of counters, and webhooks may be slow
)

// An Event says that a threshold is reached. It is what webhooks get, as JSON.
type Event struct {
	Event    string     `json:"event"` // "budget_threshold"
	Budget   string     `json:"budget"`
	BudgetID int64      `json:"budget_id,string"`
	Key      string     `json:"key,omitempty"` // of the counter
	Unit     string     `json:"unit"`
	Currency string     `json:"currency,omitempty"`
	Percent  int        `json:"percent"`
	Limit    string     `json:"limit"`
	Spent    string     `json:"spent"`
	Start    *time.Time `json:"window_start,omitempty"`
	Time     time.Time  `json:"time"`
}

// A Teller tells when thresholds of budgets are reached, once for all gateways: in the log, in a metric, and to
// the budget's webhook. A process that dies after it has noted so, and before it has told, tells nobody.
type Teller struct {
	sums    Sums
	budgets func() []*logos.Budget
	post    func(ctx context.Context, url string, body []byte) error
	pause   time.Duration // after a post that failed; doubled each time
	log     *zap.Logger
	reached *prometheus.CounterVec
	posts   *prometheus.CounterVec

	mu    sync.Mutex
	spent map[logos.CounterID]bool
}

// NewTeller makes a teller. budgets returns those in force, and post sends an event to a webhook.
func NewTeller(sums Sums, budgets func() []*logos.Budget, post func(ctx context.Context, url string, body []byte) error, log *zap.Logger, reg prometheus.Registerer) *Teller {
	f := promauto.With(reg)
	return &Teller{
		sums: sums, budgets: budgets, post: post, pause: time.Second, log: log, spent: make(map[logos.CounterID]bool),
		reached: f.NewCounterVec(prometheus.CounterOpts{Name: "logos_budget_thresholds_total", Help: "Thresholds of budgets that were reached and told of, by what the budget counts."}, []string{"unit"}),
		posts:   f.NewCounterVec(prometheus.CounterOpts{Name: "logos_budget_webhooks_total", Help: "Events sent to webhooks of budgets, by result, after all tries."}, []string{"result"}),
	}
}

// Spent notes that something was spent of counters.
func (t *Teller) Spent(shares []logos.Share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range shares {
		if len(t.spent) < maxWaiting {
			t.spent[shares[i].Counter] = true
		}
	}
}

// Run tells until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	posts := make(chan told, maxPosts)
	var senders sync.WaitGroup
	defer senders.Wait()
	defer close(posts)
	for range postsAtOnce {
		senders.Go(func() {
			for e := range posts {
				t.send(ctx, e)
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, e := range t.look(ctx) {
			t.enqueue(posts, e)
		}
	}
}

func (t *Teller) enqueue(posts chan<- told, e told) {
	if e.webhook == "" {
		return
	}
	select {
	case posts <- e:
	default:
		t.posts.WithLabelValues("failed").Inc()
		t.log.Error("a budget's webhook is not told: too many events wait", zap.Int64("budget", e.BudgetID))
	}
}

// told is an event with where to send it.
type told struct {
	Event
	webhook string
}

// look returns the events of thresholds that were reached since it looked last.
func (t *Teller) look(ctx context.Context) (events []told) {
	budgets, counters := t.waiting()
	if len(counters) == 0 {
		return nil
	}
	sums, err := t.sums.CounterSums(ctx, counters)
	if err != nil {
		t.again(counters)
		return nil
	}
	for i := range sums {
		s := &sums[i]
		b := budgets[s.Counter.Budget]
		percent := reachedBy(b, s)
		if percent == 0 {
			continue
		}
		first, err := t.sums.TellThreshold(ctx, s.Counter, percent)
		if err != nil {
			t.again([]logos.CounterID{s.Counter})
			continue
		}
		if first {
			t.reached.WithLabelValues(string(b.Unit)).Inc()
			t.log.Warn("a budget has reached a threshold", zap.Int64("budget", int64(b.ID)), zap.String("name", b.Name), zap.Int("percent", percent))
			events = append(events, told{event(b, s, percent), b.Webhook})
		}
	}
	return events
}

// waiting takes the counters that were spent of and have thresholds.
func (t *Teller) waiting() (map[logos.BudgetID]*logos.Budget, []logos.CounterID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.spent) == 0 {
		return nil, nil
	}
	budgets := make(map[logos.BudgetID]*logos.Budget)
	for _, b := range t.budgets() {
		if len(b.Thresholds) > 0 {
			budgets[b.ID] = b
		}
	}
	var counters []logos.CounterID
	for id := range t.spent {
		if budgets[id.Budget] != nil {
			counters = append(counters, id)
		}
	}
	clear(t.spent)
	return budgets, counters
}

// again puts counters back that nobody could look at.
func (t *Teller) again(counters []logos.CounterID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range counters {
		if len(t.spent) < maxWaiting {
			t.spent[id] = true
		}
	}
}

// reachedBy returns the highest threshold that a sum reaches and that was not told of; 0: none.
func reachedBy(b *logos.Budget, s *logos.CounterSum) (percent int) {
	limit := b.Unit.Amount(b.Limit)
	for _, p := range b.Thresholds {
		// Limits are at most 1e18: a hundredth, rounded up, times the percentage does not overflow.
		if s.Settled >= limit/100*int64(p)+(limit%100*int64(p)+99)/100 && p > s.Told {
			percent = p
		}
	}
	return percent
}

func event(b *logos.Budget, s *logos.CounterSum, percent int) Event {
	e := Event{
		Event: "budget_threshold", Budget: b.Name, BudgetID: int64(b.ID), Key: s.Counter.Key, Unit: string(b.Unit), Currency: b.Currency,
		Percent: percent, Limit: b.Limit.String(), Spent: b.Unit.Quantity(s.Settled).String(), Time: time.Now().UTC(),
	}
	if s.Counter.Start != 0 {
		start := time.Unix(s.Counter.Start, 0).UTC()
		e.Start = &start
	}
	return e
}

// send posts an event, some times if need be.
func (t *Teller) send(ctx context.Context, e told) {
	body, err := json.Marshal(e.Event)
	if err != nil {
		panic(err) // it holds texts and numbers
	}
	pause := t.pause
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return
		}
		err = t.postOnce(ctx, e.webhook, body)
		if err == nil {
			t.posts.WithLabelValues("ok").Inc()
			return
		}
		if try == postTries {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause *= 2
		}
	}
	t.posts.WithLabelValues("failed").Inc()
	t.log.Error("a budget's webhook can't be told", zap.Int64("budget", e.BudgetID), zap.Error(err))
}

func (t *Teller) postOnce(ctx context.Context, url string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	return t.post(ctx, url, body)
}
