package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

// example has one resource of every kind, by collection.
func example(g *gateway) map[string]object {
	g.t.Helper()
	root := g.as(g.root)
	out := make(map[string]object)
	for _, x := range []struct {
		collection string
		resource   object
	}{
		{"teams", object{"name": "x"}},
		{"projects", object{"name": "x", "team": "x"}},
		{"members", object{"email": "x@example.org", "role": "member", "team": "x"}},
		{"providers", object{"name": "x", "base_url": "https://x.example"}},
		{"credentials", object{"name": "x", "provider": "x", "secret": "sk-x"}},
		{"models", object{"name": "x"}},
		{"deployments", object{"name": "x", "model": "x", "provider": "x"}},
		{"prices", object{"name": "x", "provider": "x", "meter": "input", "amount": "1", "currency": "EUR"}},
		{"accessProfiles", object{"name": "x", "project": "x", "models": []string{"x"}}},
		{"apiKeys", object{"name": "x", "project": "x"}},
		{"budgets", object{"name": "x", "unit": "requests", "amount": "1"}},
		{"policies", object{"name": "x", "level": "project", "project": "x"}},
	} {
		out[x.collection] = root.make(x.collection, x.resource)
	}
	return out
}

func TestAChangeOfAnOlderStateIsRefused(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	for collection, x := range example(g) {
		now := root.patch(collection, x, object{"labels": object{"a": "1"}, "etag": x["etag"]})
		if now["etag"] == x["etag"] {
			t.Errorf("a change of %s keeps the etag %v", collection, x["etag"])
		}
		stale := func(method, path string, body any) {
			t.Helper()
			status, answer := root.do(method, path, body)
			refused(t, method+" "+path, status, answer, 409, "ETAG_MISMATCH", "etag")
		}
		stale("PATCH", at(collection, x), object{"labels": object{"a": "2"}, "etag": x["etag"]})
		stale("DELETE", at(collection, x)+"?etag="+x["etag"].(string), nil)
		if collection == "apiKeys" {
			stale("POST", at(collection, x)+":rotate", object{"etag": x["etag"]})
			stale("POST", at(collection, x)+":revoke", object{"etag": x["etag"]})
		}
		if got := root.get(collection, x); cmp.Diff(now, got) != "" {
			t.Errorf("refused changes of %s leave %v of %v", collection, got, now)
		}
		root.patch(collection, x, object{"labels": object{"a": "3"}}) // whoever sends none takes what comes
	}
	settings := root.must("GET", "/admin/v1/settings", nil)
	root.must("PATCH", "/admin/v1/settings", object{"audit_retention_days": 90, "etag": settings["etag"]})
	code, answer := root.do("PATCH", "/admin/v1/settings", object{"audit_retention_days": 91, "etag": settings["etag"]})
	refused(t, "settings", code, answer, 409, "ETAG_MISMATCH", "etag")
}

func TestOfTwoChangesOfOneStateOneWins(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	conn := g.dial()
	w := &world{gateway: g, conn: conn, methods: methodsOf(t)}
	x := example(g)["projects"]
	for round := range 5 {
		etag := root.get("projects", x)["etag"]
		outcomes := make([]error, 4)
		var all errgroup.Group
		for i := range outcomes {
			all.Go(func() error {
				_, outcomes[i] = w.call(g.root, "UpdateProject", object{"project": object{"id": x["id"], "etag": etag, "labels": object{"winner": fmt.Sprint(round, "-", i)}}, "update_mask": "labels"})
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		winner := slices.IndexFunc(outcomes, func(err error) bool { return err == nil })
		for i, err := range outcomes {
			if i != winner && codeOf(err) != codes.Aborted {
				t.Errorf("round %d: change %d gives %v beside %d", round, i, err, winner)
			}
		}
		if got := root.get("projects", x)["labels"].(object)["winner"]; winner < 0 || got != fmt.Sprint(round, "-", winner) {
			t.Errorf("round %d: %d won, and there is %v", round, winner, got)
		}
	}
}

func TestAMaskSaysWhatIsChanged(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	models := adminv1.NewModelServiceClient(g.dial())
	n := 0
	fresh := func() string {
		t.Helper()
		n++
		return root.make("models", object{"name": fmt.Sprint("m", n), "endpoint": "chat/completions", "capabilities": []string{"tools"}, "context_window": 100, "max_output_tokens": 50, "quality": 0.5, "labels": object{"a": "b"}})["id"].(string)
	}
	whole := object{"endpoint": "chat/completions", "capabilities": []any{"tools"}, "context_window": "100", "max_output_tokens": "50", "quality": 0.5, "accuracy": nil, "labels": object{"a": "b"}}
	but := func(changes object) object {
		out := make(object)
		for k, v := range whole {
			out[k] = v
		}
		for k, v := range changes {
			out[k] = v
		}
		return out
	}
	for name, c := range map[string]struct {
		mask    string
		fields  object
		want    object
		refusal string
	}{
		"one field":                          {"endpoint", object{"endpoint": "x", "quality": 0.9}, but(object{"endpoint": "x"}), ""},
		"one field cleared":                  {"endpoint", object{}, but(object{"endpoint": ""}), ""},
		"an optional number cleared":         {"quality", object{}, but(object{"quality": nil}), ""},
		"a list cleared":                     {"capabilities", object{}, but(object{"capabilities": []any{}}), ""},
		"labels replaced":                    {"labels", object{"labels": object{"c": "d"}}, but(object{"labels": object{"c": "d"}}), ""},
		"labels cleared":                     {"labels", object{}, but(object{"labels": object{}}), ""},
		"a number made 0":                    {"context_window", object{"context_window": 0}, but(object{"context_window": "0"}), ""},
		"several":                            {"endpoint,quality", object{"endpoint": "y"}, but(object{"endpoint": "y", "quality": nil}), ""},
		"one twice":                          {"endpoint,endpoint", object{"endpoint": "y"}, but(object{"endpoint": "y"}), ""},
		"no mask: what is given":             {"", object{"endpoint": "z", "quality": 0.0}, but(object{"endpoint": "z", "quality": 0.0}), ""},
		"read-only ones beside":              {"endpoint,uid,create_time,etag", object{"endpoint": "x", "uid": "mine", "create_time": "2001-01-01T00:00:00Z"}, but(object{"endpoint": "x"}), ""},
		"everything, the name given":         {"*", object{"name": "new"}, object{"endpoint": "", "capabilities": []any{}, "context_window": "0", "max_output_tokens": "0", "quality": nil, "accuracy": nil, "labels": object{}}, ""},
		"everything, the name not given":     {"*", object{}, whole, "model.name"},
		"a required field cleared":           {"name", object{}, whole, "model.name"},
		"an unknown field":                   {"endpint", object{"endpoint": "x"}, whole, "update_mask"},
		"an unknown field beside a good one": {"endpoint,nothing", object{"endpoint": "x"}, whole, "update_mask"},
		"a part of a map":                    {"labels.a", object{"labels": object{"a": "x"}}, whole, "update_mask"},
		"a part of a text":                   {"endpoint.x", object{"endpoint": "x"}, whole, "update_mask"},
		"everything beside something":        {"*,endpoint", object{"endpoint": "x"}, whole, "update_mask"},
		"only read-only ones":                {"id,uid", object{}, whole, "update_mask"},
		"no mask and nothing given":          {"", object{}, whole, "update_mask"},
	} {
		id := fresh()
		fields := object{"id": id}
		for k, v := range c.fields {
			fields[k] = v
		}
		request := &adminv1.UpdateModelRequest{Model: &adminv1.Model{}}
		if err := protojson.Unmarshal([]byte(encode(t, fields)), request.Model); err != nil {
			t.Fatal(err)
		}
		if c.mask != "" {
			request.UpdateMask = &fieldmaskpb.FieldMask{Paths: strings.Split(c.mask, ",")}
		}
		_, err := models.UpdateModel(with(t.Context(), g.root), request)
		if named := fieldOf(err); named != c.refusal {
			t.Errorf("%s gives %v about %q, want one about %q", name, err, named, c.refusal)
		}
		got := root.get("models", id)
		if diff := cmp.Diff(c.want, pick(got, c.want)); diff != "" {
			t.Errorf("%s leaves (-want +got):\n%s", name, diff)
		}
	}
}

// fieldOf returns the first field that an error of gRPC names.
func fieldOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			return bad.GetFieldViolations()[0].GetField()
		}
	}
	return ""
}

// pick leaves of a resource the fields that another has.
func pick(resource, like object) object {
	out := make(object)
	for name := range like {
		out[name] = resource[name]
	}
	return out
}

// Over REST the fields of a body are the mask, and null clears.
func TestAPatchChangesWhatItsBodyHolds(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	key := root.patch("apiKeys", all["apiKeys"], object{"scopes": object{"apis": []string{"chat"}, "models": []string{"x"}}, "expire_time": "2099-01-01T00:00:00Z"})
	for _, c := range []struct {
		body string
		want object
	}{
		{`{"scopes":{"apis":[]}}`, object{"scopes": object{"apis": []any{}, "models": []any{"x"}, "source_cidrs": []any{}}, "expire_time": "2099-01-01T00:00:00Z"}},
		{`{"scopes":{"sourceCidrs":["10.1.2.3"]}}`, object{"scopes": object{"apis": []any{}, "models": []any{"x"}, "source_cidrs": []any{"10.1.2.3/32"}}}},
		{`{"expire_time":null}`, object{"expire_time": nil}},
		{`{"scopes":null}`, object{"scopes": object{"apis": []any{}, "models": []any{}, "source_cidrs": []any{}}}},
		{`{"labels":{"a":"b"}}`, object{"labels": object{"a": "b"}, "name": "x"}},
		{`{"labels":{}}`, object{"labels": object{}}},
		{`{"name":"y","etag":""}`, object{"name": "y"}},
	} {
		got := root.must("PATCH", at("apiKeys", key), c.body)
		if diff := cmp.Diff(c.want, pick(got, c.want)); diff != "" {
			t.Errorf("%s leaves (-want +got):\n%s", c.body, diff)
		}
	}
	// Whoever sends a whole resource back, with a change, changes that.
	for collection, x := range all {
		whole := root.get(collection, x)
		whole["labels"] = object{"sent": "back"}
		got := root.must("PATCH", at(collection, x), whole)
		whole["etag"], whole["update_time"] = got["etag"], got["update_time"]
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Errorf("%s sent back (-sent +got):\n%s", collection, diff)
		}
	}
}

func TestReferencesAreByNameOrById(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	other := root.make("teams", object{"name": "other"})
	second := root.make("providers", object{"name": "second", "base_url": "https://second.example"})
	same := root.make("credentials", object{"name": "x", "provider": "second", "secret": "sk-y"})
	id := func(collection string) any { return all[collection]["id"] }
	for _, c := range []struct {
		collection string
		body       object
		want       object
		field      string // of the refusal
	}{
		{"projects", object{"team": "other"}, object{"team_id": other["id"], "team": "other"}, ""},
		{"projects", object{"team_id": id("teams")}, object{"team_id": id("teams"), "team": "x"}, ""},
		{"projects", object{"team_id": id("teams"), "team": "x"}, object{"team": "x"}, ""},
		{"projects", object{"team_id": id("teams"), "team": "other"}, nil, "project.team_id"},
		{"projects", object{"team": ""}, object{"team_id": "0", "team": ""}, ""},
		{"projects", object{"team": "none"}, nil, "project.team"},
		{"projects", object{"team_id": 999}, nil, "project.team_id"},
		{"projects", object{"team_id": -1}, nil, "project.team_id"},
		{"projects", object{"team": "OTHER"}, nil, "project.team"},
		{"deployments", object{"credential": "x"}, object{"credential_id": id("credentials"), "credential": "x"}, ""},
		{"deployments", object{"credential_id": same["id"]}, nil, "deployment.credential_id"}, // of another provider
		{"deployments", object{"provider": "second"}, nil, "deployment.credential_id"},        // the credential would be another provider's
		{"deployments", object{"provider": "second", "credential": "x"}, object{"provider_id": second["id"], "credential_id": same["id"]}, ""},
		{"deployments", object{"provider": "x", "credential": ""}, object{"provider_id": id("providers"), "credential_id": "0"}, ""},
		{"deployments", object{"model": ""}, nil, "deployment.model"},
		{"accessProfiles", object{"grants": []object{{"provider": "second", "credential": "x"}, {"provider": "x"}}}, object{"grants": []any{object{"provider": "second", "credential": "x"}, object{"provider": "x", "credential": ""}}}, ""},
		{"accessProfiles", object{"grants": []object{{"provider": "x"}, {"provider": "second", "credential": "none"}}}, nil, "access_profile.grants[1].credential"},
		{"accessProfiles", object{"grants": []object{{"provider": "x"}, {"provider": "x"}}}, nil, "access_profile.grants[1]"},
		{"accessProfiles", object{"grants": []object{{"credential": "x"}}}, nil, "access_profile.grants[0].provider"},
		{"accessProfiles", object{"models": []string{"none"}}, nil, "access_profile.models[0]"},
		{"accessProfiles", object{"models": []string{"x", "x"}}, nil, "access_profile.models"},
		{"accessProfiles", object{"project": "default"}, nil, "access_profile.project"},
		{"credentials", object{"provider": "second"}, nil, "credential.provider"},
		{"apiKeys", object{"access_profile": "x"}, object{"access_profile_id": id("accessProfiles")}, ""},
		{"apiKeys", object{"access_profile": "none"}, nil, "api_key.access_profile"},
		{"apiKeys", object{"access_profile_id": nil}, object{"access_profile_id": "0", "access_profile": ""}, ""},
		{"apiKeys", object{"project_id": "1"}, nil, "api_key.project"},
		{"apiKeys", object{"member": "x@example.org"}, nil, "api_key.member"}, // it is a program's
		{"members", object{"team": ""}, nil, "member.team"},
	} {
		what := fmt.Sprint("PATCH ", c.collection, " ", c.body)
		before := root.get(c.collection, all[c.collection])
		status, answer := root.do("PATCH", at(c.collection, all[c.collection]), c.body)
		if c.want == nil {
			refused(t, what, status, answer, 400, "", c.field)
			if diff := cmp.Diff(before, root.get(c.collection, all[c.collection])); diff != "" {
				t.Errorf("%s is refused and changes (-before +after):\n%s", what, diff)
			}
			continue
		}
		if diff := cmp.Diff(c.want, pick(answer, c.want)); diff != "" || status != 200 {
			t.Errorf("%s answers %d %v (-want +got):\n%s", what, status, answer["message"], diff)
		}
	}
	if got := root.make("apiKeys", object{"project": "x", "member": "X@EXAMPLE.org"}); got["member"] != "x@example.org" {
		t.Errorf("a member in capitals is %v", got["member"])
	}
}
