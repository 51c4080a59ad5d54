package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/ls1intum/edutelligence/logos/egress"
)

// A hooks posts to webhooks, at hosts that providers could be at too.
type hooks struct{ client *http.Client }

func newHooks(book *egress.Book) *hooks {
	dialer := &net.Dialer{Timeout: 3 * time.Second}
	return &hooks{&http.Client{
		Transport: &http.Transport{
			// What is dialled is an address that was checked: a name can't be turned between check and call.
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				found := book.Look(ctx, host, port)
				switch {
				case found.Refused != nil && len(found.Addresses) == 0:
					return nil, found.Refused
				case len(found.Addresses) == 0:
					return nil, errors.New("the webhook's host does not resolve")
				}
				return dialer.DialContext(ctx, network, net.JoinHostPort(found.Addresses[0].String(), port))
			},
			MaxIdleConns: 8, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 3 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post sends JSON. Whoever gets it may answer with any status of success.
func (h *hooks) post(ctx context.Context, url string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's URL can't be read")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "logos")
	answer, err := h.client.Do(r)
	if err != nil {
		return errors.Unwrap(err) // without the URL, which may hold a secret
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("the webhook answered %d", answer.StatusCode)
	}
	return nil
}
