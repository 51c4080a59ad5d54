package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ls1intum/edutelligence/logos"
)

// events returns the audit events that a function causes, the oldest first.
func (g *gateway) events(do func()) (out []object) {
	g.t.Helper()
	root := g.as(g.root)
	last := "0"
	if all := root.list("auditEvents", "?page_size=1"); len(all) > 0 {
		last = all[0]["id"].(string)
	}
	do()
	out = root.list("auditEvents", "?page_size=1000&filter=id%20>%20"+last)
	slices.Reverse(out)
	return out
}

// about says in short of what an event is: "create project 3".
func about(e object) string {
	did := "update"
	switch {
	case e["before"] == nil && e["after"] == nil:
		did = "nothing"
	case e["before"] == nil:
		did = "create"
	case e["after"] == nil:
		did = "delete"
	}
	return fmt.Sprintf("%s %s %s", did, e["kind"], e["resource_id"])
}

// plain writes numbers as the texts that they are in answers of the admin API.
func plain(v any) any {
	switch v := v.(type) {
	case object:
		out := make(object)
		for name, x := range v {
			out[name] = plain(x)
		}
		return out
	case float64:
		return fmt.Sprintf("%.0f", v)
	}
	return v
}

func TestEveryChangeOfOneResourceIsOneEvent(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	root.make("teams", object{"name": "base"})
	root.make("projects", object{"name": "base", "team": "base"})
	root.make("models", object{"name": "base"})
	root.make("providers", object{"name": "base", "base_url": "https://base.example"})
	admin := root.make("apiKeys", object{"project": "base", "role": "admin"})
	caller := g.as(admin["secret"].(string))
	for kind, c := range map[string]struct {
		collection, method string
		resource, change   object
	}{
		"team":           {"teams", "Team", object{"name": "x"}, object{"name": "y"}},
		"project":        {"projects", "Project", object{"name": "x", "team": "base"}, object{"labels": object{"a": "b"}}},
		"member":         {"members", "Member", object{"email": "x@example.org", "role": "viewer"}, object{"role": "admin"}},
		"access_profile": {"accessProfiles", "AccessProfile", object{"name": "x", "project": "base", "models": []string{"base"}}, object{"models": []string{}, "grants": []object{{"provider": "base"}}}},
		"api_key":        {"apiKeys", "ApiKey", object{"name": "x", "project": "base"}, object{"expire_time": "2099-01-01T00:00:00Z"}},
		"provider":       {"providers", "Provider", object{"name": "x", "base_url": "https://x.example"}, object{"base_url": "https://y.example"}},
		"credential":     {"credentials", "Credential", object{"name": "x", "provider": "base", "secret": "sk-1"}, object{"secret": "sk-2"}},
		"model":          {"models", "Model", object{"name": "x"}, object{"quality": 0.5}},
		"price":          {"prices", "Price", object{"name": "x", "provider": "base", "model": "base", "meter": "input", "amount": "2.50", "currency": "EUR"}, object{"amount": "2.4"}},
		"deployment":     {"deployments", "Deployment", object{"model": "base", "provider": "base"}, object{"max_parallel": 7}},
	} {
		var made, changed, gone object
		all := g.events(func() { made = caller.make(c.collection, c.resource) })
		all = append(all, g.events(func() { changed = caller.patch(c.collection, made, c.change) })...)
		all = append(all, g.events(func() { gone = caller.remove(c.collection, made) })...)
		var got []string
		for _, e := range all {
			got = append(got, e["method"].(string)+": "+about(e))
			if e["api_key_id"] != admin["id"] || e["role"] != "admin" || e["source"] != "127.0.0.1" || len(e["request_id"].(string)) < 20 || e["member_id"] != "0" || e["revision"] == "0" || e["time"] == nil {
				t.Errorf("the event of %s is %v", kind, e)
			}
		}
		id := made["id"].(string)
		want := []string{"Create" + c.method + ": create " + kind + " " + id, "Update" + c.method + ": update " + kind + " " + id, "Delete" + c.method + ": delete " + kind + " " + id}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the events of %s (-want +got):\n%s", kind, diff)
		}
		// They show the resource as it was answered.
		ignore := cmpopts.IgnoreMapEntries(func(name string, _ any) bool {
			return strings.Contains(name, "secret") || strings.HasSuffix(name, "_time") || strings.HasSuffix(name, "_age") || slices.Contains([]string{"quality", "accuracy", "max_parallel", "member_key_limit"}, name)
		})
		for i, pair := range []struct{ event, shown any }{{all[0]["after"], made}, {all[1]["before"], made}, {all[1]["after"], changed}, {all[2]["before"], changed}} {
			if diff := cmp.Diff(plain(pair.shown), plain(pair.event), ignore); diff != "" {
				t.Errorf("%s, document %d (-answer +event):\n%s", kind, i, diff)
			}
		}
		if gone["delete_time"] == nil {
			t.Errorf("deleted: %v", gone)
		}
	}
}

func TestWhatGoesAlongHasEventsOfItsOwn(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	id := func(o object) string { return o["id"].(string) }
	root.make("teams", object{"name": "A"})
	project := root.make("projects", object{"name": "p", "team": "A"})
	member := root.make("members", object{"email": "m@example.org", "role": "member", "team": "A"})
	provider := root.make("providers", object{"name": "v", "base_url": "https://v.example"})
	spare := root.make("credentials", object{"name": "spare", "provider": "v", "secret": "sk-0"})
	credential := root.make("credentials", object{"name": "c", "provider": "v", "secret": "sk-1"})
	model, other := root.make("models", object{"name": "m1"}), root.make("models", object{"name": "m2"})
	deployment := root.make("deployments", object{"model": "m1", "provider": "v", "credential": "spare"})
	second := root.make("deployments", object{"model": "m2", "provider": "v"})
	profile := root.make("accessProfiles", object{"name": "f", "project": "p", "models": []string{"m1", "m2"}, "grants": []object{{"provider": "v", "credential": "c"}, {"provider": "v", "credential": "spare"}}})
	key := root.make("apiKeys", object{"project": "p", "scopes": object{"models": []string{"m1", "m2"}}})
	members := root.make("apiKeys", object{"project": "p", "member": "m@example.org"})
	for _, c := range []struct {
		what string
		do   func()
		want []string
	}{
		{"deleting a credential", func() { root.remove("credentials", spare) }, []string{"delete credential " + id(spare), "update access_profile " + id(profile), "update deployment " + id(deployment)}},
		{"deleting a model", func() { root.remove("models", model) }, []string{"delete model " + id(model), "delete deployment " + id(deployment), "update access_profile " + id(profile), "update api_key " + id(key)}},
		{"deleting a provider", func() { root.remove("providers", provider) }, []string{"delete provider " + id(provider), "delete deployment " + id(second), "delete credential " + id(credential), "update access_profile " + id(profile)}},
		{"deleting a member", func() { root.remove("members", member) }, []string{"delete member " + id(member), "delete api_key " + id(members)}},
		{"deleting a project", func() { root.remove("projects", project) }, []string{"delete project " + id(project), "delete api_key " + id(key), "delete access_profile " + id(profile)}},
	} {
		var got []string
		for _, e := range g.events(c.do) {
			got = append(got, about(e))
		}
		slices.Sort(got[1:])
		slices.Sort(c.want[1:])
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s has the events (-want +got):\n%s", c.what, diff)
		}
	}
	_ = other
}

func TestEventsOfKeys(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	key := root.make("apiKeys", object{"project": "default"})
	var claims []any
	for _, c := range []struct {
		do           func()
		method, want string
		role         string
	}{
		{func() { root.must("POST", at("apiKeys", key)+":rotate", object{}) }, "RotateApiKey", "update api_key 2", "root"},
		{func() { root.must("POST", at("apiKeys", key)+":revoke", object{}) }, "RevokeApiKey", "update api_key 2", "root"},
		{func() { root.remove("apiKeys", key) }, "DeleteApiKey", "delete api_key 2", "root"},
		{func() {
			claims = items(root.must("POST", "/admin/v1/apiKeys:batchCreate", object{"template": object{"project": "default", "name": "k-{n}"}, "csv": "n\n1\n2\n"}))
		}, "BatchCreateApiKeys", "create api_key 3, create api_key 4", "root"},
		{func() {
			token := strings.TrimPrefix(claims[1].(object)["path"].(string), "/claim/")
			g.as("").must("POST", "/admin/v1/apiKeys:claim", object{"token": token})
		}, "ClaimApiKey", "update api_key 4", ""},
		{func() {
			root.must("PATCH", "/admin/v1/settings", object{"audit_retention_days": 400})
		}, "UpdateSettings", "update settings 0", "root"},
		{func() {
			root.must("POST", "/admin/v1/configuration:apply", object{"configuration": object{"settings": object{"audit_retention_days": 500, "claim_lifetime": "60s"}, "teams": []object{{"name": "new"}}}})
		}, "ApplyConfiguration", "update settings 0, create team 1", "root"},
		{func() {
			root.must("POST", "/admin/v1/configuration:apply", object{"dry_run": true, "configuration": object{"teams": []object{{"name": "newer"}}}})
		}, "", "", ""},
		{func() {
			root.must("POST", "/admin/v1/configuration:apply", object{"configuration": object{"teams": []object{{"name": "new"}}}})
		}, "", "", ""},
	} {
		var got []string
		for _, e := range g.events(c.do) {
			got = append(got, about(e))
			if e["method"] != c.method || e["role"] != c.role || e["source"] != "127.0.0.1" {
				t.Errorf("%s: the event is %v", c.method, e)
			}
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s has the events %q, want %q", c.method, got, c.want)
		}
	}
}

func TestSetUpCallsAreAudited(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := root.list("auditEvents", "")
	slices.Reverse(all)
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprint(about(e), " ", e["method"], " ", e["source"], " ", e["role"]))
	}
	if diff := cmp.Diff([]string{"update settings 0 setup 127.0.0.1 ", "create project 1 setup 127.0.0.1 ", "create access_profile 1 setup 127.0.0.1 ", "create provider 1 setup 127.0.0.1 ", "create api_key 1 setup 127.0.0.1 "}, got); diff != "" {
		t.Errorf("setup has the events (-want +got):\n%s", diff)
	}
	added := object{"provider_name": "p", "base_url": "https://p.example", "api_key": secret, "auth_name": "authorization", "auth_format": "Bearer {}"}
	for _, c := range []struct {
		call string
		body object
		want string
	}{
		{"add_provider", added, "update settings 0, create provider 2, create credential 1"},
		{"add_provider", added, ""},
		{"add_model", object{"name": "m", "endpoint": ""}, "create model 1"},
		{"add_profile", object{"profile_name": "f", "process_id": 1}, "create access_profile 2"},
		{"get_process_id", object{}, ""},
		{"get_api_id", object{"api_key": secret}, ""},
		{"connect_process_provider", object{"profile_id": 2, "api_id": 1}, "update access_profile 2"},
		{"connect_process_provider", object{"profile_id": 2, "api_id": 1}, ""},
		{"connect_process_model", object{"profile_id": 2, "model_id": 1}, "update access_profile 2"},
		{"connect_process_model", object{"profile_id": 2, "model_id": 1}, ""},
		{"connect_model_provider", object{"model_id": 1, "provider_id": 2}, "create deployment 1"},
		{"connect_model_provider", object{"model_id": 1, "provider_id": 2}, ""},
		{"connect_model_api", object{"model_id": 1, "api_id": 1}, "update deployment 1"},
		{"connect_model_api", object{"model_id": 1, "api_id": 1}, ""},
	} {
		var got []string
		for _, e := range g.events(func() { g.set(c.call, c.body) }) {
			got = append(got, about(e))
			if e["method"] != c.call || e["role"] != "root" || e["api_key_id"] != "1" || e["source"] != "127.0.0.1" {
				t.Errorf("%s: the event is %v", c.call, e)
			}
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s has the events %q, want %q", c.call, got, c.want)
		}
	}
	for call, fields := range calls { // refused ones leave none
		body := make(object)
		for name, f := range fields {
			body[name] = f.good
		}
		if events := g.events(func() {
			body["logos_key"] = "lg-another"
			g.try(call, body)
			g.try(call, object{})
		}); len(events) > 0 {
			t.Errorf("a refused %s has the events %v", call, events)
		}
	}
}

func TestTheDemoIsAudited(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	key, err := g.service.Demo(t.Context(), "http://127.0.0.1:1234/v1", "demo", "")
	if err != nil || key == "" {
		t.Fatalf("the demo gives %v", err)
	}
	conn := g.conn()
	const count = "select coalesce(string_agg(method || ' ' || kind || case when before is null then ' new' when after is null then ' gone' else '' end, ', ' order by id), '') from audit_events where id > %d"
	if got := scalar[string](t, conn, fmt.Sprintf(count, 0)); got != "demo settings, demo project new, demo access_profile new, demo provider new, demo credential new, demo model new, demo deployment new, demo api_key new" {
		t.Errorf("the demo has the events %s", got)
	}
	g.setup()
	root := g.as(g.root)
	for _, c := range []struct {
		url  string
		key  logos.Secret
		want string
	}{
		{"http://127.0.0.1:1234/v1", key, ""},
		{"http://127.0.0.1:1235/v1", key, "demo provider"},
		{"http://127.0.0.1:1235/v1", "", "demo api_key new"},
	} {
		last := scalar[int64](t, conn, "select max(id) from audit_events")
		if made, err := g.service.Demo(t.Context(), c.url, "demo", c.key); err != nil || made == "" {
			t.Errorf("the demo at %s gives %v", c.url, err)
		}
		if got := scalar[string](t, conn, fmt.Sprintf(count, last)); got != c.want {
			t.Errorf("the demo at %s has the events %q, want %q", c.url, got, c.want)
		}
	}
	names := make(map[any]bool)
	for _, k := range root.list("apiKeys", "") {
		if name := fmt.Sprint(k["project"], "/", k["name"]); names[name] {
			t.Errorf("two keys that work are called %s", name)
		} else {
			names[name] = true
		}
	}
	// Whoever removes it is rid of it.
	for _, p := range root.list("providers", "?filter=name%20=%20%22demo%22") {
		root.remove("providers", p)
	}
	if made, err := g.service.Demo(t.Context(), "http://127.0.0.1:1236/v1", "demo", key); err != nil || made != "" {
		t.Errorf("after its provider was deleted, the demo gives %q, %v", made, err)
	}
}

func TestRefusedChangesLeaveNoEvents(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	team := root.make("teams", object{"name": "A"})
	root.make("projects", object{"name": "p", "team": "A"})
	before := scalar[int64](t, g.conn(), "select revision from config_revision")
	if events := g.events(func() {
		for _, c := range []struct {
			method, path string
			body         any
			want         int
		}{
			{"POST", "/admin/v1/teams", object{"name": "A"}, 409},
			{"POST", "/admin/v1/teams", object{"name": ""}, 400},
			{"POST", "/admin/v1/projects", object{"name": "q", "team": "none"}, 400},
			{"PATCH", at("teams", team), object{"name": "B", "etag": "0"}, 409},
			{"DELETE", at("teams", team), nil, 409},
			{"DELETE", at("teams", team) + "?etag=0", nil, 409},
			{"DELETE", "/admin/v1/teams/999", nil, 404},
			{"POST", "/admin/v1/accessProfiles", object{"name": "f", "project": "p", "models": []string{"none"}}, 400},
			{"POST", "/admin/v1/configuration:apply", object{"configuration": object{"teams": []object{{"name": "B"}}, "projects": []object{{"name": "q", "team": "none"}}}}, 400},
			{"POST", "/admin/v1/apiKeys:batchCreate", object{"template": object{"project": "p", "name": "{n}"}, "csv": "n\na\nb\na\n"}, 409},
		} {
			if status, answer := root.do(c.method, c.path, c.body); status != c.want {
				t.Errorf("%s %s %v answers %d %v, want %d", c.method, c.path, c.body, status, answer, c.want)
			}
		}
	}); len(events) > 0 {
		t.Errorf("refused changes have the events %v", events)
	}
	if after := scalar[int64](t, g.conn(), "select revision from config_revision"); after != before {
		t.Errorf("refused changes lead from revision %d to %d", before, after)
	}
}

func TestAuditEventsCanNotBeChanged(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	conn := g.conn()
	for _, statement := range []string{
		"update audit_events set method = 'x'", "update audit_events set at = now() where id = 1", "delete from audit_events", "delete from audit_events where id = 1", "truncate audit_events",
	} {
		if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s gives %v", statement, err)
		}
	}
	for _, method := range []string{"POST", "PATCH", "PUT", "DELETE"} {
		for _, path := range []string{"/admin/v1/auditEvents", "/admin/v1/auditEvents/1"} {
			if status, _ := g.as(g.root).do(method, path, object{}); status != 405 {
				t.Errorf("%s %s answers %d", method, path, status)
			}
		}
	}
	for name := range methodsOf(t) {
		if verb, kind := split(name); kind == "AuditEvent" && verb != "Get" && verb != "List" {
			t.Errorf("there is %s", name)
		}
	}
}
