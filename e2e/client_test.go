package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A reply is what a caller got.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
}

func (r *reply) id() string { return r.header.Get("x-request-id") }

func (r *reply) json() object {
	o := object{}
	_ = json.Unmarshal(r.body, &o)
	return o
}

// code returns the error code of an answer in OpenAI's or Anthropic's shape.
func (r *reply) code() string {
	e, _ := r.json()["error"].(object)
	code, _ := e["code"].(string)
	return code
}

func (r *reply) String() string {
	return fmt.Sprintf("%d %s", r.status, r.body[:min(len(r.body), 500)])
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: 2 * time.Minute}

// open sends a call with the root key, and leaves the answer's body to be read. Headers are given as
// "name: value"; one without value removes the default.
func (g *gateway) open(method, path string, body io.Reader, headers ...string) (*http.Response, error) {
	g.t.Helper()
	return g.openIn(g.t.Context(), method, path, body, headers...)
}

// openIn is open for as long as ctx lasts: the caller leaves with it.
func (g *gateway) openIn(ctx context.Context, method, path string, body io.Reader, headers ...string) (*http.Response, error) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.data+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+g.root)
	if body != nil {
		req.Header.Set("content-type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Del(name)
		if value = strings.TrimSpace(value); value != "" {
			req.Header.Set(name, value)
		}
	}
	return client.Do(req)
}

// readUntil makes a call and reads its answer line by line, until that is enough or over; then the caller leaves. An
// error means that there was no answer.
func (g *gateway) readUntil(ctx context.Context, path, body string, enough func(line string) bool, headers ...string) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	resp, err := g.openIn(ctx, "POST", path, strings.NewReader(body), headers...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := bufio.NewReader(resp.Body); ; {
		if line, err := lines.ReadString('\n'); err != nil || enough(line) {
			return nil
		}
	}
}

// call makes a call with the root key and reads the answer.
func (g *gateway) call(method, path, body string, headers ...string) *reply {
	g.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return g.callBody(method, path, r, headers...)
}

func (g *gateway) callBody(method, path string, body io.Reader, headers ...string) *reply {
	g.t.Helper()
	resp, err := g.open(method, path, body, headers...)
	if err != nil {
		return &reply{err: err, header: http.Header{}}
	}
	return readReply(resp)
}

func readReply(resp *http.Response) *reply {
	defer resp.Body.Close()
	out := &reply{status: resp.StatusCode, header: resp.Header}
	out.body, out.err = io.ReadAll(resp.Body)
	return out
}

// chat calls a model.
func (g *gateway) chat(model string, headers ...string) *reply {
	g.t.Helper()
	return g.call("POST", "/v1/chat/completions", chatBody(model, false), headers...)
}

func chatBody(model string, stream bool) string {
	body := object{"model": model, "messages": []object{{"role": "user", "content": "Say something."}}}
	if stream {
		body["stream"] = true
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// A record is a call as the admin API shows it.
type record struct {
	ID          string `json:"id"`
	EndReason   string `json:"end_reason"`
	Status      int    `json:"status"`
	API         string `json:"api"`
	Model       string `json:"model"`
	EndUser     string `json:"end_user"`
	ServiceTier string `json:"service_tier"`
	FirstByte   string `json:"first_byte"`
	Error       *struct{ Code, Type, Message string }
	Attempts    []struct {
		Number            int    `json:"number"`
		Status            int    `json:"status"`
		EndReason         string `json:"end_reason"`
		ProviderID        int64  `json:"provider_id,string"`
		ProviderRequestID string `json:"provider_request_id"`
		Detail            string `json:"detail"`
		Meters            []struct {
			Meter     string `json:"meter"`
			Quantity  int64  `json:"quantity,string"`
			Estimated bool   `json:"estimated"`
		} `json:"meters"`
	} `json:"attempts"`
	Candidates []struct {
		Excluded string `json:"excluded"`
	} `json:"candidates"`
}

// meters returns what all attempts used, as "input=3 output=4", with a ~ before estimates.
func (r *record) meters() string {
	var parts []string
	for _, a := range r.Attempts {
		for _, m := range a.Meters {
			sign := "="
			if m.Estimated {
				sign = "~"
			}
			parts = append(parts, fmt.Sprintf("%s%s%d", m.Meter, sign, m.Quantity))
		}
	}
	return strings.Join(parts, " ")
}

// record waits for the record of a call.
func (g *gateway) record(id string) *record {
	g.t.Helper()
	if id == "" {
		g.t.Fatal("the answer has no x-request-id")
	}
	var r record
	g.eventually("record of call "+id, 20*time.Second, func() bool {
		req, err := http.NewRequestWithContext(g.t.Context(), "GET", "http://"+g.admin+"/admin/v1/calls/"+id, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		req.Header.Set("authorization", "Bearer "+g.root)
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			return false
		}
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&r); err != nil {
			g.t.Fatalf("record: %v\n%s", err, body)
		}
		return true
	})
	return &r
}
