package api_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

const (
	requestID = "?request_id=0b0e7a3e-6d0f-4d5c-9c57-4f6f5f0e9a01"
	otherID   = "?request_id=7f1d7c0a-54a6-4e0c-8d3f-0d9d3c1c2b02"
)

func TestARepeatedRequestGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	conn := g.conn()
	first := root.must("POST", "/admin/v1/apiKeys"+requestID, object{"project": "default", "name": "k"})
	secret := first["secret"]
	if secret == nil {
		t.Fatal("the first answer has no secret")
	}
	before := scalar[int64](t, conn, "select revision from config_revision")
	delete(first, "secret")
	for range 3 {
		if diff := cmp.Diff(first, root.must("POST", "/admin/v1/apiKeys"+requestID, object{"name": "k", "project": "default"})); diff != "" {
			t.Errorf("a repeated request differs (-first +again):\n%s", diff)
		}
	}
	if after := scalar[int64](t, conn, "select revision from config_revision"); after != before {
		t.Errorf("repeated requests lead from revision %d to %d", before, after)
	}
	// The id in another spelling is the same one.
	upper := "?request_id=0B0E7A3E-6D0F-4D5C-9C57-4F6F5F0E9A01"
	if again := root.must("POST", "/admin/v1/apiKeys"+upper, object{"project": "default", "name": "k"}); again["id"] != first["id"] {
		t.Errorf("in capitals it makes %v", again)
	}
	for what, c := range map[string]struct {
		path string
		body object
	}{
		"another body":                     {"apiKeys" + requestID, object{"project": "default", "name": "other"}},
		"another method":                   {"teams" + requestID, object{"name": "k"}},
		"the same reference in other form": {"apiKeys" + requestID, object{"project_id": 1, "name": "k"}},
	} {
		status, answer := root.do("POST", "/admin/v1/"+c.path, c.body)
		refused(t, what, status, answer, 409, "REQUEST_ID_REUSED", "request_id")
	}
	status, answer := root.do("POST", "/admin/v1/teams?request_id=not-a-uuid", object{"name": "k"})
	refused(t, "no UUID", status, answer, 400, "", "request_id")
	// Another caller's ids are its own.
	second := g.as(root.make("apiKeys", object{"project": "default", "role": "admin"})["secret"].(string))
	if made := second.must("POST", "/admin/v1/apiKeys"+requestID, object{"project": "default", "name": "theirs"}); made["secret"] == nil || made["id"] == first["id"] {
		t.Errorf("another caller with the same id gets %v", made)
	}
	// A request that failed may be made again.
	status, answer = root.do("POST", "/admin/v1/projects"+otherID, object{"name": "p", "team": "later"})
	refused(t, "before", status, answer, 400, "", "project.team")
	root.make("teams", object{"name": "later"})
	root.must("POST", "/admin/v1/projects"+otherID, object{"name": "p", "team": "later"})
	// What was made may be gone: the answer stays that of then.
	root.remove("apiKeys", first)
	if again := root.must("POST", "/admin/v1/apiKeys"+requestID, object{"project": "default", "name": "k"}); again["id"] != first["id"] || again["secret"] != nil {
		t.Errorf("after its deletion a repeated request answers %v", again)
	}
	if n := scalar[int64](t, conn, "select count(*) from api_keys where name = 'k'"); n != 1 {
		t.Errorf("there are %d keys", n)
	}
}

func TestARequestMadeManyTimesAtOnceIsMadeOnce(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	w := &world{gateway: g, conn: g.dial(), methods: methodsOf(t)}
	answers := make([]object, 8)
	var all errgroup.Group
	for i := range answers {
		all.Go(func() (err error) {
			answers[i], err = w.call(g.root, "CreateApiKey", object{"api_key": object{"project": "default", "name": "k"}, "request_id": requestID[len("?request_id="):]})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	secrets, ids := make(map[any]bool), make(map[any]bool)
	for _, a := range answers {
		ids[a["id"]] = true
		if a["secret"] != nil {
			secrets[a["secret"]] = true
		}
	}
	if len(secrets) != 1 || len(ids) != 1 {
		t.Errorf("%d keys are made, and %d secrets shown", len(ids), len(secrets))
	}
}

func TestABatchIsMadeOnce(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	body := object{"template": object{"project": "default", "name": "k-{name}", "labels": object{"who": "{email}"}}, "csv": "name,email\na,a@example.org\nb,b@example.org\n", "request_id": requestID[len("?request_id="):]}
	first := items(root.must("POST", "/admin/v1/apiKeys:batchCreate", body))
	if len(first) != 2 || first[1].(object)["name"] != "k-b" || first[1].(object)["email"] != "b@example.org" {
		t.Fatalf("the batch answers %v", first)
	}
	status, answer := root.do("POST", "/admin/v1/apiKeys:batchCreate", body)
	refused(t, "again", status, answer, 409, "REPEATED", "request_id")
	body["csv"] = "name,email\nc,c@example.org\n"
	status, answer = root.do("POST", "/admin/v1/apiKeys:batchCreate", body)
	refused(t, "another batch", status, answer, 409, "REQUEST_ID_REUSED", "request_id")
	if keys := root.list("apiKeys", "?filter=name:%22k-%22"); len(keys) != 2 || keys[0]["state"] != "unclaimed" || keys[0]["labels"].(object)["who"] != "a@example.org" {
		t.Errorf("there are %v", keys)
	}
	for csv, field := range map[string]string{
		"":                                   "csv",
		"name\n":                             "csv",
		"name,email\nx\n":                    "csv",
		"name\n\"x\n":                        "csv",
		"name\nok\n\n\nok\n":                 "csv[5].name", // twice; empty lines count
		"name\n" + fmt.Sprintf("%300s", "x"): "",            // trimmed
		"name\n" + fmt.Sprintf("%0300d", 1):  "csv[2].name",
		"name\na\x00b\n":                     "csv",
	} {
		status, answer := root.do("POST", "/admin/v1/apiKeys:batchCreate", object{"template": object{"project": "default", "name": "t-{name}"}, "csv": csv})
		if field == "" {
			if status != 200 {
				t.Errorf("the file %.40q answers %d %v", csv, status, answer)
			}
			continue
		}
		if status < 400 || status > 409 {
			t.Errorf("the file %.40q answers %d %v", csv, status, answer)
		}
		if _, ok := fieldsIn(answer)[field]; !ok {
			t.Errorf("the file %.40q is refused for %v, want %s", csv, fieldsIn(answer), field)
		}
	}
}
