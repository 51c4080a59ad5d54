package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"
)

// callTimeout bounds one call of the loader.
const callTimeout = 30 * time.Second

const callPath = "/v1/chat/completions"

// A call is what the loader sends again and again, and the body that must come back.
type call struct {
	address, key string
	body, want   []byte
}

// check is an error for any answer but 200 with the wanted body.
func (c *call) check(status int, body []byte) error {
	done := []byte("data: [DONE]\n\n")
	switch {
	case status != http.StatusOK:
		return fmt.Errorf("status %d: %.300s", status, body)
	case bytes.HasSuffix(c.want, done) && !bytes.HasSuffix(body, done):
		return fmt.Errorf("a stream without [DONE] (%d bytes of %d)", len(body), len(c.want))
	case !bytes.Equal(body, c.want):
		return fmt.Errorf("the answer is not what the provider said (%d bytes of %d): %.300s", len(body), len(c.want), body)
	}
	return nil
}

// timing is how long an answer took, to the first byte of its body and to its last.
type timing struct{ first, whole time.Duration }

// A client is one keep-alive connection of the loader. What it costs matters: on the cores that it shares
// with what is measured, a cheap one drives a bare Envoy to where it takes many requests in one go, and
// so less CPU for each.
type client interface {
	// call sends a call and reads the answer to its end.
	call(*call) (timing, error)
	close()
}

// The kinds of client.
const (
	httpClient = "net/http"
	rawClient  = "raw"
)

func newClient(kind string) client {
	if kind == rawClient {
		return new(rawHTTP)
	}
	return &netHTTP{http.Client{Timeout: callTimeout, Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}}}
}

// A netHTTP is the standard library's client, limited to one connection.
type netHTTP struct{ http.Client }

func (c *netHTTP) close() { c.CloseIdleConnections() }

func (c *netHTTP) call(what *call) (t timing, err error) {
	start := time.Now()
	req, err := http.NewRequest(http.MethodPost, "http://"+what.address+callPath, bytes.NewReader(what.body))
	if err != nil {
		return t, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+what.key)
	resp, err := c.Do(req)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	body := make([]byte, len(what.want)+1)
	n, err := resp.Body.Read(body) // at least a part of it
	t.first = time.Since(start)
	for err == nil && n < len(body) {
		var more int
		more, err = resp.Body.Read(body[n:])
		n += more
	}
	if err != nil && err != io.EOF {
		return t, fmt.Errorf("read body: %w", err)
	}
	t.whole = time.Since(start)
	return t, what.check(resp.StatusCode, body[:n])
}
