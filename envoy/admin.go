package envoy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// An Admin speaks with the admin interface of a running Envoy. It is safe for concurrent use.
type Admin struct {
	base   string
	client *http.Client
}

// NewAdmin returns an Admin for the interface at address, which may be that of an Envoy yet to come.
func NewAdmin(address string) *Admin {
	return &Admin{base: "http://" + address, client: &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second},
	}}
}

// Close closes the connections that are kept open.
func (a *Admin) Close() { a.client.CloseIdleConnections() }

// Reopen makes Envoy open its access log files anew, by name.
func (a *Admin) Reopen(ctx context.Context) error {
	_, err := a.do(ctx, http.MethodPost, "/reopen_logs", nil)
	return err
}

// Drain makes Envoy take no new connections and close each old one after the response under way.
func (a *Admin) Drain(ctx context.Context) error {
	if _, err := a.do(ctx, http.MethodPost, "/healthcheck/fail", nil); err != nil {
		return err
	}
	_, err := a.do(ctx, http.MethodPost, "/drain_listeners", nil)
	return err
}

// ActiveRequests returns how many requests the data plane works on.
func (a *Admin) ActiveRequests(ctx context.Context) (int64, error) {
	return a.sum(ctx, "Gauges", `^http\..*\.downstream_rq_active$`, func(name string) bool { return !strings.HasPrefix(name, "http.admin.") })
}

// WriteFailures returns how many writes to files, that is to access logs, have failed since Envoy's
// start. They are lost lines.
func (a *Admin) WriteFailures(ctx context.Context) (int64, error) {
	return a.sum(ctx, "Counters", `^filesystem\.write_failed$`, func(string) bool { return true })
}

// sum adds up the stats of a kind whose name matches the filter and is wanted. Envoy looks through all of that
// kind, some for each cluster.
func (a *Admin) sum(ctx context.Context, kind, filter string, wanted func(name string) bool) (sum int64, err error) {
	stats, err := a.stats(ctx, kind, filter)
	for _, s := range stats {
		if wanted(s.Name) {
			sum += s.number()
		}
	}
	return sum, err
}

// A stat is one of Envoy's counters or gauges.
type stat struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

// number returns the value of a counter or gauge.
func (s stat) number() int64 {
	n, _ := s.Value.(json.Number)
	i, _ := n.Int64()
	return i
}

// stats returns those of a kind whose name matches the filter.
func (a *Admin) stats(ctx context.Context, kind, filter string) ([]stat, error) {
	body, err := a.do(ctx, http.MethodGet, "/stats", url.Values{"format": {"json"}, "type": {kind}, "filter": {filter}})
	if err != nil {
		return nil, err
	}
	var out struct {
		Stats []stat `json:"stats"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&out); err != nil {
		return nil, fmt.Errorf("read Envoy's stats: %w", err)
	}
	return out.Stats, nil
}

func (a *Admin) do(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	target := a.base + path
	if query != nil {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy's admin: %w", err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy's admin: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer of Envoy's admin: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("envoy's admin answers %s with %s", path, resp.Status)
	}
	return body, nil
}
