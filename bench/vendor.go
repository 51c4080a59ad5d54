package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// What a call of the scenario is about, in tokens, as every vendor reports it.
const (
	vendorInput  = 500
	vendorOutput = 200
)

// A vendor is a provider of the scenario for policies: with a price, a speed, and troubles by a timetable. It
// keeps books of what it charged.
type vendor struct {
	name, zone    string
	quality       float64
	input, output float64       // price in USD for a million tokens
	first         time.Duration // median time to the first token
	trouble       func(since time.Duration) trouble
	address       string

	mu      sync.Mutex
	begin   time.Time // of the present timetable
	charged int       // calls since then
	refused int
}

// A trouble is what is wrong with a vendor at some time.
type trouble struct {
	slower   float64 // times; 0: none
	refusing bool    // 429
}

// vendors are those of the scenario.
func vendors() []*vendor {
	return []*vendor{
		{name: "cheap", zone: "eu_us", quality: 0.5, input: 0.2, output: 1, first: 300 * time.Millisecond},
		{name: "dear", zone: "anywhere", quality: 0.95, input: 5, output: 25, first: 60 * time.Millisecond},
		{name: "local", zone: "local", quality: 0.6, input: 0.3, output: 1.2, first: 120 * time.Millisecond},
		{name: "flaky", zone: "eu_eu", quality: 0.85, input: 1, output: 4, first: 80 * time.Millisecond, trouble: flakyHours},
	}
}

// The timetable of the vendor that has troubles, and of a run.
const (
	brownOut   = 8 * time.Second
	refusals   = 15 * time.Second
	recovery   = 19 * time.Second
	runLength  = 28 * time.Second
	slowerThen = 10
)

func flakyHours(since time.Duration) trouble {
	switch {
	case since >= brownOut && since < refusals:
		return trouble{slower: slowerThen}
	case since >= refusals && since < recovery:
		return trouble{refusing: true}
	}
	return trouble{}
}

// cost returns what the vendor charges for one call, in USD.
func (v *vendor) cost() float64 { return (vendorInput*v.input + vendorOutput*v.output) / 1e6 }

// serve starts the vendor; what it returns ends it.
func (v *vendor) serve() (stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v.address = listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(v.answer)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener) // ends by Close alone
	}()
	return func() { server.Close(); <-done }, nil
}

// open begins the timetable and the books anew.
func (v *vendor) open(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begin, v.charged, v.refused = at, 0, 0
}

// books returns how many calls were charged and refused.
func (v *vendor) books() (charged, refused int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.charged, v.refused
}

// admit books a call and says when its first token is due, or that it is refused.
func (v *vendor) admit() (wait time.Duration, refused bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := trouble{}
	if v.trouble != nil && !v.begin.IsZero() {
		now = v.trouble(time.Since(v.begin))
	}
	if now.refusing {
		v.refused++
		return 0, true
	}
	v.charged++
	wait = time.Duration(float64(v.first) * (0.8 + 0.4*rand.Float64()))
	if now.slower > 0 {
		wait = time.Duration(float64(wait) * now.slower)
	}
	return wait, false
}

func (v *vendor) answer(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Model string `json:"model"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked); err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	wait, refused := v.admit()
	if refused {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"error":{"message":"too many requests","type":"rate_limit_error","code":"rate_limited"}}`)
		return
	}
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return
	}
	const event = `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":%q,"choices":[%s]%s}` + "\n\n"
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, event, asked.Model, `{"index":0,"delta":{"content":"ok"},"finish_reason":"stop"}`, "") // a caller that is gone shows as a failed call
	fmt.Fprintf(w, event, asked.Model, "", fmt.Sprintf(`,"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, vendorInput, vendorOutput, vendorInput+vendorOutput))
	fmt.Fprint(w, "data: [DONE]\n\n")
}
