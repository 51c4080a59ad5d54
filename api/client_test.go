package api_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// A client makes administrative calls with one API key.
type client struct {
	g   *gateway
	key string
}

func (g *gateway) as(key string) client { return client{g, key} }

// do makes a call over REST; body is encoded, unless it is a text already.
func (c client) do(method, path string, body any) (status int, answer object) {
	c.g.t.Helper()
	text, raw := body.(string)
	if body != nil && !raw {
		text = encode(c.g.t, body)
	}
	r := request(method, path, text)
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	return c.g.do(c.g.handler, r)
}

// must makes a call that must work.
func (c client) must(method, path string, body any) object {
	c.g.t.Helper()
	status, answer := c.do(method, path, body)
	if status != 200 {
		c.g.t.Fatalf("%s %s answers %d %v", method, path, status, answer)
	}
	return answer
}

// make adds a resource and returns it; get, patch and remove are what they say.
func (c client) make(collection string, resource object) object {
	c.g.t.Helper()
	return c.must("POST", "/admin/v1/"+collection, resource)
}

func (c client) get(collection string, id any) object {
	c.g.t.Helper()
	return c.must("GET", at(collection, id), nil)
}

func (c client) patch(collection string, id any, fields object) object {
	c.g.t.Helper()
	return c.must("PATCH", at(collection, id), fields)
}

func (c client) remove(collection string, id any) object {
	c.g.t.Helper()
	return c.must("DELETE", at(collection, id), nil)
}

// list returns the resources of a first page.
func (c client) list(collection, query string) []object {
	c.g.t.Helper()
	var out []object
	for _, x := range items(c.must("GET", "/admin/v1/"+collection+query, nil)) {
		out = append(out, x.(object))
	}
	return out
}

// items returns the elements of the one list in an answer.
func items(answer object) []any {
	for name, v := range answer {
		if list, ok := v.([]any); ok && name != "next_page_token" {
			return list
		}
	}
	return nil
}

func at(collection string, id any) string {
	if n, ok := id.(object); ok {
		id = n["id"]
	}
	text, _ := id.(string)
	return "/admin/v1/" + collection + "/" + text
}

// fieldsIn returns the fields that an error names, with what it says of each.
func fieldsIn(answer object) map[string]string {
	out := make(map[string]string)
	details, _ := answer["details"].([]any)
	for _, d := range details {
		violations, _ := d.(object)["field_violations"].([]any)
		for _, v := range violations {
			field, _ := v.(object)["field"].(string)
			out[field], _ = v.(object)["description"].(string)
		}
	}
	return out
}

// refused checks that an answer is an error about a field.
func refused(t *testing.T, what string, status int, answer object, want int, code, field string) {
	t.Helper()
	_, named := fieldsIn(answer)[field]
	if status != want || code != "" && reason(answer) != code || field != "" && !named {
		t.Errorf("%s answers %d %s %v (%v), want %d %s about %q", what, status, reason(answer), fieldsIn(answer), answer["message"], want, code, field)
	}
}

// listen serves the admin port over real HTTP, HTTP/2 without TLS included.
func (g *gateway) listen() (address string) {
	g.t.Helper()
	server := httptest.NewUnstartedServer(g.handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	g.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// dial connects to the admin port by gRPC.
func (g *gateway) dial() *grpc.ClientConn {
	g.t.Helper()
	address := g.listen()
	conn, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	return conn
}

// with adds an API key to the calls of a context.
func with(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}
