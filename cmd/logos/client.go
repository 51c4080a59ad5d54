package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// clientTimeout bounds one request; applying the largest configuration takes some seconds.
const clientTimeout = 2 * time.Minute

// A client calls the admin API of a gateway, which may be on another machine.
type client struct {
	url, key string
	http     http.Client
}

// newClient reads from the environment which gateway to call, and with which key.
func newClient(getenv func(string) string) (*client, error) {
	c := &client{url: strings.TrimSuffix(getenv("LOGOS_ADMIN_URL"), "/"), key: getenv("LOGOS_API_KEY")}
	if c.url == "" {
		c.url = "http://127.0.0.1:8081"
	}
	if c.key == "" {
		return nil, finalError{errors.New("LOGOS_API_KEY is not set: set it to an API key with the role root or admin (and LOGOS_ADMIN_URL, if the admin port is not at " + c.url + ")")}
	}
	c.http.Timeout = clientTimeout
	return c, nil
}

// call makes a request and decodes its answer. Errors are the gateway's own words.
func (c *client) call(ctx context.Context, method, path string, in, out proto.Message) error {
	var body io.Reader
	if in != nil {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	text, err := c.do(ctx, method, path, "application/json", body)
	if err != nil {
		return err
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, out)
}

// copy writes what is at a path, in a type.
func (c *client) copy(ctx context.Context, path, accept string, out io.Writer) error {
	text, err := c.do(ctx, http.MethodGet, path, accept, nil)
	if err == nil {
		_, err = out.Write(text)
	}
	return err
}

func (c *client) do(ctx context.Context, method, path, accept string, body io.Reader) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, finalError{fmt.Errorf("LOGOS_ADMIN_URL: %w", err)}
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", accept)
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("call the admin API at %s (LOGOS_ADMIN_URL): %w", c.url, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDeclared))
	if err != nil {
		return nil, fmt.Errorf("read the answer of the admin API: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var status struct{ Message string }
		_ = json.Unmarshal(text, &status) // what is not JSON has no message
		return nil, finalError{fmt.Errorf("the gateway answers %s: %s", resp.Status, status.Message)}
	}
	return text, nil
}
