package api_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

func TestGRPCGoesThroughTheSameGate(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	conn := g.dial()
	teams, session := adminv1.NewTeamServiceClient(conn), adminv1.NewSessionServiceClient(conn)
	service := root.make("apiKeys", object{"project": "default"})["secret"].(string)
	for what, c := range map[string]struct {
		ctx  context.Context
		want codes.Code
	}{
		"no key":                {t.Context(), codes.Unauthenticated},
		"a wrong key":           {with(t.Context(), "lg-another"), codes.Unauthenticated},
		"an empty key":          {with(t.Context(), ""), codes.Unauthenticated},
		"a key without scheme":  {metadata.AppendToOutgoingContext(t.Context(), "authorization", g.root), codes.Unauthenticated},
		"a key elsewhere":       {metadata.AppendToOutgoingContext(t.Context(), "logos-key", g.root, "x-api-key", g.root), codes.Unauthenticated},
		"a wrong key first":     {with(with(t.Context(), "lg-another"), g.root), codes.Unauthenticated},
		"a key of no such role": {with(t.Context(), service), codes.PermissionDenied},
		"the root key":          {with(t.Context(), g.root), codes.OK},
	} {
		if _, err := teams.CreateTeam(c.ctx, &adminv1.CreateTeamRequest{Team: &adminv1.Team{Name: what}}); status.Code(err) != c.want {
			t.Errorf("%s gives %v, want %s", what, err, c.want)
		}
	}
	_, err := teams.CreateTeam(with(t.Context(), g.root), &adminv1.CreateTeamRequest{Team: &adminv1.Team{}})
	if status.Code(err) != codes.InvalidArgument || fieldOf(err) != "team.name" {
		t.Errorf("a team without a name gives %v about %q", err, fieldOf(err))
	}
	if _, err := teams.CreateTeam(with(t.Context(), g.root), &adminv1.CreateTeamRequest{Team: &adminv1.Team{Name: "x", Labels: map[string]string{"a": "b\x00"}}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a NUL gives %v", err)
	}
	if _, err := teams.CreateTeam(with(t.Context(), g.root), &adminv1.CreateTeamRequest{Team: &adminv1.Team{Name: strings.Repeat("x", 5<<20)}}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 MiB give %.200v", err)
	}
	if err := conn.Invoke(with(t.Context(), g.root), "/logos.admin.v1.TeamService/Nothing", &adminv1.GetTeamRequest{}, &adminv1.Team{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method gives %v", err)
	}
	who, err := session.WhoAmI(with(t.Context(), g.root), &adminv1.WhoAmIRequest{})
	if err != nil || who.GetRole() != "root" {
		t.Errorf("WhoAmI says %v, %v", who, err)
	}
	short, cancel := context.WithTimeout(with(t.Context(), g.root), time.Nanosecond)
	defer cancel()
	if _, err := session.WhoAmI(short, &adminv1.WhoAmIRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("without time it gives %v", err)
	}
}

// What a client says of where it comes from is not what the audit says.
func TestClientsCanNotSpeakForThemselvesInTheAudit(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	const lie = "192.0.2.66"
	lies := []string{"x-logos-source", "x-request-id", "x-forwarded-for", "forwarded", "x-real-ip", "via", "grpc-metadata-x-logos-source", "grpc-metadata-x-request-id", "x-logos-method", "x-envoy-external-address", "true-client-ip"}
	check := func(what string, do func() (id string)) {
		t.Helper()
		var id string
		for _, e := range g.events(func() { id = do() }) {
			if e["source"] != "127.0.0.1" || e["request_id"] == lie || e["request_id"] == "" || e["role"] != "root" || e["api_key_id"] != "1" {
				t.Errorf("%s: the event is %v", what, e)
			}
			if id == "" || e["request_id"] != id {
				t.Errorf("%s: the answer says the request id %q, and the event %q", what, id, e["request_id"])
			}
		}
	}
	conn := g.dial()
	check("gRPC", func() string {
		ctx := with(t.Context(), g.root)
		for _, name := range lies {
			ctx = metadata.AppendToOutgoingContext(ctx, name, lie)
		}
		var header metadata.MD
		if _, err := adminv1.NewTeamServiceClient(conn).CreateTeam(ctx, &adminv1.CreateTeamRequest{Team: &adminv1.Team{Name: "by gRPC"}}, grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		return strings.Join(header.Get("x-request-id"), "")
	})
	address := g.listen()
	for name, client := range clients() {
		check(name, func() string {
			r := g.real(address, "POST", "/admin/v1/teams", `{"name":"by `+name+`"}`)
			for _, name := range lies {
				r.Header.Set(name, lie)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("it is answered %s", resp.Status)
			}
			return resp.Header.Get("x-request-id")
		})
		// And a key counts in its own header alone.
		r := g.real(address, "GET", "/admin/v1/whoami", "")
		r.Header.Del("Authorization")
		for _, header := range []string{"Grpc-Metadata-Authorization", "Logos-Key", "X-Api-Key", "Proxy-Authorization"} {
			r.Header.Set(header, "Bearer "+g.root)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != 401 {
			t.Errorf("a key in other headers is answered %s", resp.Status)
		}
	}
}

// clients speak HTTP/1.1, and HTTP/2 without TLS.
func clients() map[string]*http.Client {
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	return map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": {Transport: two}}
}

// real makes a request with the root key over the network.
func (g *gateway) real(address, method, path, body string) *http.Request {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+g.root)
	return r
}

func TestRESTIsTheSameOverHTTP1AndHTTP2(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	address := g.listen()
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/admin/v1/whoami", ""}, {"GET", "/admin/v1/teams", ""}, {"GET", "/admin/v1/teams/7", ""}, {"POST", "/admin/v1/teams", `{"name":5}`}, {"GET", "/admin/v1/nothing", ""}, {"PUT", "/admin/v1/teams", ""},
		{"POST", "/admin/v1/teams", `{"name":""}`}, {"GET", "/logosdb/nothing", ""},
	} {
		answers := make(map[string]string)
		for name, client := range clients() {
			resp, err := client.Do(g.real(address, c.method, c.path, c.body))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.Proto[:6] != name[:6] || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s over %s: %s %v, %v", c.method, c.path, name, resp.Proto, resp.Header, err)
			}
			answers[name] = resp.Status + " " + string(body)
		}
		if answers["HTTP/1.1"] != answers["HTTP/2"] {
			t.Errorf("%s %s answers %q", c.method, c.path, answers)
		}
	}
}

// broken is a codec of a client that sends what is no message.
type broken struct{ bytes []byte }

func (b broken) Marshal(any) ([]byte, error)      { return b.bytes, nil }
func (broken) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }
func (broken) Name() string                       { return "proto" }

// What is no message changes nothing, and ends no connection.
func TestSurvivesWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	conn := g.dial()
	for what, bytes := range map[string][]byte{"garbage": {0xff, 0xff, 0xff}, "a text that is not UTF-8": {0x0a, 0x04, 0x12, 0x02, 0xff, 0xfe}, "half a message": {0x0a, 0x7f, 0x12}} {
		err := conn.Invoke(with(t.Context(), g.root), "/logos.admin.v1.TeamService/CreateTeam", &adminv1.CreateTeamRequest{}, &adminv1.Team{}, grpc.ForceCodec(broken{bytes}))
		if status.Code(err) == codes.OK {
			t.Errorf("%s is taken", what)
		}
	}
	if _, err := adminv1.NewSessionServiceClient(conn).WhoAmI(with(t.Context(), g.root), &adminv1.WhoAmIRequest{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if teams := g.as(g.root).list("teams", ""); len(teams) > 0 {
		t.Errorf("there are %v", teams)
	}
}
