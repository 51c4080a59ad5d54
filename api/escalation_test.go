package api_test

import (
	"strings"
	"testing"
)

// Whoever tries to get more than its role gives, or to give others more, is refused.
func TestNobodyRaisesRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	find := func(name string) (client, person) {
		for _, p := range w.people {
			if p.name == name {
				return w.as(p.key), p
			}
		}
		t.Fatalf("there is no %s", name)
		return client{}, person{}
	}
	rootKey := w.root.list("apiKeys", "?filter="+`role%20=%20"root"`)[0]
	owner := w.root.make("apiKeys", object{"name": "an owner's", "project": "a1", "role": "team_owner"})
	plain := w.root.make("apiKeys", object{"name": "plain", "project": "a1"})
	admins := w.root.make("apiKeys", object{"name": "an admin's", "project": "a1", "role": "admin"})
	profileA, profileB := w.ids["a-profile"], w.ids["b-profile"]
	for _, c := range []struct {
		who, method, path string
		body              object
		status            int
		field             string
	}{
		// Keys above one's own role.
		{"admin", "POST", "apiKeys", object{"project": "f1", "role": "root"}, 403, "api_key.role"},
		{"admin program of f1", "POST", "apiKeys", object{"project": "f1", "role": "root"}, 403, "api_key.role"},
		{"a-owner", "POST", "apiKeys", object{"project": "a1", "role": "admin"}, 403, "api_key.role"},
		{"a-owner", "POST", "apiKeys", object{"project": "a1", "role": "root"}, 403, "api_key.role"},
		{"member program of a1", "POST", "apiKeys", object{"project": "a1", "role": "team_owner"}, 403, "api_key.role"},
		{"member program of a1", "POST", "apiKeys", object{"project": "a1", "role": "viewer"}, 403, "api_key.role"},
		{"member program of f1", "POST", "apiKeys", object{"project": "f1", "role": "viewer"}, 403, "api_key.role"}, // it would see the whole installation
		{"a-member", "POST", "apiKeys", object{"project": "a1", "role": "viewer"}, 400, "api_key.role"},
		{"a-member", "POST", "apiKeys", object{"project": "a1", "role": "team_owner"}, 400, "api_key.role"},
		{"a-owner", "POST", "apiKeys:batchCreate", object{"template": object{"project": "a1", "role": "admin"}, "csv": "n\n1\n"}, 403, "csv[2].role"},
		// Keys that are there.
		{"a-owner", "PATCH", at("apiKeys", plain), object{"role": "admin"}, 403, "api_key.role"},
		{"a-owner", "PATCH", at("apiKeys", admins), object{"labels": object{"a": "b"}}, 403, ""},
		{"a-owner", "POST", at("apiKeys", admins) + ":rotate", object{}, 403, ""},
		{"a-owner", "POST", at("apiKeys", admins) + ":revoke", object{}, 403, ""},
		{"a-owner", "DELETE", at("apiKeys", admins), nil, 403, ""},
		{"admin", "PATCH", at("apiKeys", rootKey), object{"role": "service"}, 403, ""},
		{"admin", "POST", at("apiKeys", rootKey) + ":rotate", object{}, 403, ""},
		{"admin", "POST", at("apiKeys", rootKey) + ":revoke", object{}, 403, ""},
		{"admin", "DELETE", at("apiKeys", rootKey), nil, 403, ""},
		{"member program of a1", "POST", at("apiKeys", owner) + ":rotate", object{}, 403, ""},
		{"member program of a1", "PATCH", at("apiKeys", plain), object{"role": "team_owner"}, 403, "api_key.role"},
		// By what it belongs to.
		{"admin", "DELETE", at("projects", rootKey["project_id"]), nil, 403, ""},
		{"a-owner", "DELETE", at("projects", w.ids["a1"]), nil, 403, ""}, // it has an admin's key
		// Members.
		{"a-owner", "POST", "members", object{"email": "x@example.org", "role": "admin"}, 403, "member.role"},
		{"a-owner", "PATCH", at("members", w.ids["a-member"]), object{"role": "admin"}, 403, "member.role"},
		{"a-owner", "POST", "members", object{"email": "x@example.org", "role": "viewer", "team": "B"}, 400, "member.team"},
		{"a-owner", "POST", "members", object{"email": "x@example.org", "role": "viewer", "team_id": w.ids["B"]}, 400, "member.team_id"},
		{"a-owner", "PATCH", at("members", w.ids["a-member"]), object{"team": "B"}, 400, "member.team"},
		{"admin", "POST", "members", object{"email": "x@example.org", "role": "root"}, 400, "member.role"},
		{"admin", "POST", "members", object{"email": "x@example.org", "role": "admin", "team": "A"}, 400, "member.team"},
		{"admin", "POST", "members", object{"email": "x@example.org", "role": "team_owner"}, 400, "member.team"},
		// Other teams' things.
		{"a-owner", "PATCH", at("projects", w.ids["a1"]), object{"team": "B"}, 400, "project.team"},
		{"a-owner", "PATCH", at("projects", w.ids["a1"]), object{"team_id": w.ids["B"]}, 400, "project.team_id"},
		{"a-owner", "POST", "projects", object{"name": "x", "team": "B"}, 400, "project.team"},
		{"a-owner", "POST", "apiKeys", object{"project": "b1"}, 400, "api_key.project"},
		{"a-owner", "POST", "apiKeys", object{"project_id": w.ids["b1"]}, 400, "api_key.project_id"},
		{"a-owner", "POST", "apiKeys", object{"project": "a1", "member": "b-member@example.org"}, 400, "api_key.member"},
		{"a-owner", "POST", "apiKeys", object{"project": "a1", "member_id": w.ids["b-member"]}, 400, "api_key.member_id"},
		{"a-owner", "POST", "apiKeys", object{"project": "a1", "access_profile_id": profileB}, 400, "api_key.access_profile_id"},
		{"admin", "POST", "apiKeys", object{"project": "a1", "access_profile_id": profileB}, 400, "api_key.access_profile_id"},
		{"a-owner", "POST", "apiKeys", object{"project": "a1", "scopes": object{"models": []string{"b-model"}}}, 400, "api_key.scopes.models[0]"},
		{"a-owner", "PATCH", at("apiKeys", plain), object{"project": "a2"}, 400, "api_key.project"},
		{"a-owner", "PATCH", at("apiKeys", plain), object{"member": "a-member@example.org"}, 400, "api_key.member"},
		{"a-owner", "PATCH", at("apiKeys", w.ids["a-member-key"]), object{"member": "a-member2@example.org"}, 400, "api_key.member"},
		{"a-owner", "POST", "apiKeys:batchCreate", object{"template": object{"project": "b1"}, "csv": "n\n1\n"}, 400, "csv[2].project"},
		// Members make keys for themselves alone.
		{"a-member", "POST", "apiKeys", object{"project": "a1", "member": "a-member2@example.org"}, 400, "api_key.member"},
		{"a-member", "POST", "apiKeys", object{"project": "a1", "member_id": w.ids["a-owner"]}, 400, "api_key.member_id"},
		{"a-member", "POST", "apiKeys", object{"project": "b1"}, 400, "api_key.project"},
		{"a-member", "POST", "apiKeys", object{"project": "a1", "secret": "a-secret-of-another-gateway"}, 403, "api_key.secret"},
		{"a-member", "PATCH", at("apiKeys", w.ids["a-member2-key"]), object{"name": "mine"}, 404, ""},
		{"a-member", "PATCH", at("apiKeys", plain), object{"name": "mine"}, 404, ""},
		// All at once.
		{"admin", "POST", "configuration:apply", object{"configuration": object{"api_keys": []object{{"name": "x", "project": "f1", "role": "root", "secret": "a-secret-of-another-gateway"}}}}, 403, "configuration.api_keys[0].role"},
		{"admin", "POST", "configuration:apply", object{"configuration": object{"api_keys": []object{{"name": "root", "project": "default", "role": "service"}}}}, 403, "configuration.api_keys[0]"},
		{"admin", "POST", "configuration:apply", object{"configuration": object{"settings": object{"audit_retention_days": 1, "claim_lifetime": "60s"}}}, 403, "configuration.settings"},
		{"admin", "POST", "configuration:apply", object{"prune": true, "configuration": object{"projects": []object{{"name": "a1"}}}}, 409, "configuration.projects"},
	} {
		caller, _ := find(c.who)
		url := c.path
		if !strings.HasPrefix(url, "/") {
			url = "/admin/v1/" + url
		}
		var body any
		if c.body != nil {
			body = c.body
		}
		status, answer := caller.do(c.method, url, body)
		refused(t, c.who+": "+c.method+" "+url+" "+encode(t, c.body), status, answer, c.status, "", c.field)
	}
	// What is refused is a matter of the role: the same, of one's own, works.
	owners, _ := find("a-owner")
	owners.make("apiKeys", object{"project": "a1", "role": "team_owner", "access_profile_id": profileA})
	owners.make("apiKeys", object{"project": "a2", "role": "viewer"})
	owners.make("apiKeys", object{"project": "a1", "member": "A-MEMBER@example.org", "scopes": object{"models": []string{"a-model"}}})
	owners.patch("projects", w.ids["a2"], object{"labels": object{"a": "b"}})
	member, self := find("a-member")
	mine := member.make("apiKeys", object{"project": "a2"})
	if mine["member_id"] != self.member || mine["role"] != "member" || mine["expire_time"] == nil {
		t.Errorf("a member makes %v", mine)
	}
}

// A page token is a place in a list, not a right to it.
func TestAPageTokenOfAnotherCallerShowsNothingMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, order := range []string{"", "name", "name desc", "create_time desc,name"} {
		query := "?page_size=1&order_by=" + strings.ReplaceAll(order, " ", "%20")
		page := w.root.must("GET", "/admin/v1/projects"+query, nil)
		for _, p := range w.people {
			if p.role != "team_owner" || p.team == "" {
				continue
			}
			answer := w.as(p.key).must("GET", "/admin/v1/projects"+query+"&page_token="+page["next_page_token"].(string), nil)
			for _, x := range items(answer) {
				if x.(object)["team_id"] != p.team {
					t.Errorf("%s sees %v by a token of root", p.name, x)
				}
			}
		}
	}
}

func TestTheLastRootKeyStays(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	first := root.list("apiKeys", "")[0]
	soon := "2099-01-01T00:00:00Z"
	last := func(what, method, url string, body any) {
		t.Helper()
		status, answer := root.do(method, url, body)
		refused(t, what, status, answer, 409, "LAST_ROOT_KEY", "")
	}
	tryAll := func() {
		t.Helper()
		last("revoking it", "POST", at("apiKeys", first)+":revoke", object{})
		last("deleting it", "DELETE", at("apiKeys", first), nil)
		last("another role", "PATCH", at("apiKeys", first), object{"role": "admin"})
		last("an end", "PATCH", at("apiKeys", first), object{"expire_time": soon})
		last("deleting its project", "DELETE", at("projects", first["project_id"]), nil)
	}
	tryAll()
	root.patch("apiKeys", first, object{"labels": object{"a": "b"}})
	// Others that don't work, or not for ever, are no replacement.
	root.make("apiKeys", object{"project": "default", "role": "root", "expire_time": soon})
	gone := root.make("apiKeys", object{"project": "default", "role": "root"})
	root.must("POST", at("apiKeys", gone)+":revoke", object{})
	root.must("POST", "/admin/v1/apiKeys:batchCreate", object{"template": object{"project": "default", "role": "root"}, "csv": "n\n1\n"})
	tryAll()
	root.make("projects", object{"name": "another"})
	second := root.make("apiKeys", object{"project": "another", "role": "root"})
	g.as(second["secret"].(string)).must("POST", at("apiKeys", first)+":revoke", object{})
	if status, _ := root.do("GET", "/admin/v1/whoami", nil); status != 401 {
		t.Errorf("a revoked root key answers %d", status)
	}
}

func TestKeysThatEndedOpenNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	root.make("teams", object{"name": "A"})
	makeKey := func(name string, more object) (id string, c client) {
		root.make("projects", object{"name": name, "team": "A"})
		root.make("members", object{"email": name + "@example.org", "role": "team_owner", "team": "A"})
		key := object{"project": name, "role": "team_owner"}
		for k, v := range more {
			key[k] = v
		}
		made := root.make("apiKeys", key)
		return made["id"].(string), g.as(made["secret"].(string))
	}
	conn := g.conn()
	for name, end := range map[string]func(id string, k object){
		"revoked":              func(id string, _ object) { root.must("POST", at("apiKeys", id)+":revoke", object{}) },
		"deleted":              func(id string, _ object) { root.remove("apiKeys", id) },
		"rotated":              func(id string, _ object) { root.must("POST", at("apiKeys", id)+":rotate", object{}) },
		"of a deleted project": func(_ string, k object) { root.remove("projects", k["project_id"]) },
		"of a deleted member":  func(_ string, k object) { root.remove("members", k["member_id"]) },
		"expired": func(id string, _ object) {
			if _, err := conn.Exec(t.Context(), "update api_keys set expires_at = now() - interval '1 second' where id = "+id); err != nil {
				t.Fatal(err)
			}
		},
		"after its overlap": func(id string, _ object) {
			root.must("POST", at("apiKeys", id)+":rotate", object{"overlap": "3600s"})
			if _, err := conn.Exec(t.Context(), "update api_keys set previous_expires_at = now() - interval '1 second' where id = "+id); err != nil {
				t.Fatal(err)
			}
		},
	} {
		project := strings.ReplaceAll(name, " ", "-")
		more := object{}
		if name == "of a deleted member" {
			more = object{"member": project + "@example.org", "role": ""}
		}
		id, c := makeKey(project, more)
		if status, answer := c.do("GET", "/admin/v1/whoami", nil); status != 200 {
			t.Fatalf("before it is %s, the key answers %d %v", name, status, answer)
		}
		end(id, root.get("apiKeys", id))
		for _, url := range []string{"/admin/v1/whoami", "/admin/v1/projects", at("apiKeys", id)} {
			if status, answer := c.do("GET", url, nil); status != 401 || reason(answer) != "INVALID_API_KEY" {
				t.Errorf("a key that is %s: %s answers %d %v", name, url, status, answer)
			}
		}
	}
}
