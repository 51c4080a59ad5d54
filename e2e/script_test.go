package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// An act is how a scripted provider treats one attempt.
type act struct {
	name string
	do   func(p *provider, w http.ResponseWriter, a asked)
}

func ok() act { return act{"200", answers(usage{input: 2, output: 1})} }

func status(n int, headers ...string) act {
	return refusal(n, `{"error":{"message":"no","type":"some_error","code":"some_code"}}`, headers...)
}

// refusal answers an error with a body and headers, given as "name: value".
func refusal(n int, body string, headers ...string) act {
	return act{strings.Join(append([]string{fmt.Sprint(n)}, headers...), ", "), func(_ *provider, w http.ResponseWriter, _ asked) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(n)
		_, _ = io.WriteString(w, body)
	}}
}

func reset() act { return act{"reset", resets} }

// silence answers nothing until the attempt is given up.
func silence(t *testing.T) act {
	return act{"silence", func(_ *provider, w http.ResponseWriter, a asked) {
		select {
		case <-a.gone:
		case <-t.Context().Done():
		}
	}}
}

// stream answers with events as they are given; last does what follows them.
func stream(name string, events string, last func(w http.ResponseWriter, a asked)) act {
	return act{name, func(_ *provider, w http.ResponseWriter, a asked) {
		openEvents(w).text(events)
		last(w, a)
	}}
}

// A script is a provider that treats its attempts as it is told, the last way again and again, and keeps a log
// of them.
type script struct {
	*provider
	mu    sync.Mutex
	begin time.Time // of the call
	log   []string
	at    []time.Duration // of each attempt, since the call
}

func newScript(t *testing.T, acts ...act) *script {
	t.Helper()
	s := &script{}
	s.provider = newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		s.mu.Lock()
		next := acts[min(len(s.log), len(acts)-1)]
		s.log, s.at = append(s.log, next.name), append(s.at, time.Since(s.begin))
		s.mu.Unlock()
		next.do(p, w, a)
	})
	return s
}

// starts says that the call is made now, and forgets those before.
func (s *script) starts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin, s.log, s.at = time.Now(), nil, nil
}

// saw describes the attempts that reached the provider.
func (s *script) saw() (attempts int, text string, at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, name := range s.log {
		if i > 0 {
			text += "; "
		}
		text += fmt.Sprintf("%s at %.1f s", name, s.at[i].Seconds())
	}
	return len(s.log), text, s.at
}
