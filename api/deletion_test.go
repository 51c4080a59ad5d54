package api_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsDeletedIsShownAsDeleted(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	for _, collection := range []string{"budgets", "apiKeys", "accessProfiles", "prices", "deployments", "models", "credentials", "providers", "members", "projects", "teams"} {
		x := all[collection]
		gone := root.remove(collection, x)
		if gone["delete_time"] == nil || gone["id"] != x["id"] {
			t.Errorf("deleting from %s answers %v", collection, gone)
		}
		if diff := cmp.Diff(gone, root.get(collection, x)); diff != "" {
			t.Errorf("what is deleted from %s (-answered +got):\n%s", collection, diff)
		}
		shown := func(query string) (found bool) {
			for _, y := range root.list(collection, "?page_size=1000"+query) {
				found = found || y["id"] == x["id"]
			}
			return found
		}
		if shown("") || !shown("&show_deleted=true") {
			t.Errorf("the list of %s holds it: %t, with deleted ones: %t", collection, shown(""), shown("&show_deleted=true"))
		}
		for _, c := range []struct {
			method string
			body   any
		}{{"DELETE", nil}, {"PATCH", object{"labels": object{"a": "b"}}}} {
			status, answer := root.do(c.method, at(collection, x), c.body)
			refused(t, c.method+" of what is deleted from "+collection, status, answer, 404, "NOT_FOUND", "")
		}
	}
	// Its names are free again.
	again := example(g)
	for collection, x := range again {
		if x["id"] == all[collection]["id"] {
			t.Errorf("%s: the new one has the id of the old one", collection)
		}
	}
	for collection, x := range again { // and taken now
		body := object{"name": "x"}
		switch collection {
		case "members":
			body = object{"email": "X@example.org", "role": "viewer"}
		case "providers":
			body["base_url"] = "https://another.example"
		case "credentials":
			body["provider"], body["secret"] = "x", "sk-another"
		case "prices":
			body["provider"], body["meter"], body["amount"], body["currency"] = "x", "output", "1", "EUR"
		case "deployments":
			body["provider"], body["model"] = "x", "x"
		case "accessProfiles", "apiKeys":
			body["project"] = "x"
		case "budgets":
			body["unit"], body["amount"] = "tokens", "1"
		case "policies":
			body["level"], body["project"] = "project", "x"
		}
		status, answer := root.do("POST", "/admin/v1/"+collection, body)
		refused(t, "another "+collection, status, answer, 409, "EXISTS", "")
		if message := fmt.Sprint(answer["message"]); !strings.Contains(message, "already") || strings.Contains(message, "_") && !strings.Contains(message, "api_key.name") {
			t.Errorf("another %s is refused with %q", collection, message)
		}
		_ = x
	}
	status, answer := root.do("POST", "/admin/v1/credentials", object{"name": "another", "provider": "x", "secret": "sk-x"})
	if refused(t, "a secret twice", status, answer, 409, "EXISTS", ""); !strings.Contains(fmt.Sprint(answer["message"]), "this secret") {
		t.Errorf("a secret twice is refused with %v", answer["message"])
	}
}

func TestBlockersMustGoFirst(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	blocked := func(what, url, names string) {
		t.Helper()
		status, answer := root.do("DELETE", url, nil)
		refused(t, what, status, answer, 409, "IN_USE", "")
		if !strings.Contains(fmt.Sprint(answer["message"]), names) {
			t.Errorf("%s is refused with %v, want it to name %s", what, answer["message"], names)
		}
	}
	blocked("a team with projects", at("teams", all["teams"]), fmt.Sprint("project ", all["projects"]["id"]))
	root.patch("projects", all["projects"], object{"team": ""})
	blocked("a team with members", at("teams", all["teams"]), fmt.Sprint("member ", all["members"]["id"]))
	root.remove("members", all["members"])
	root.remove("teams", all["teams"])

	// A list that becomes empty would allow everything.
	other := root.make("models", object{"name": "other"})
	key := root.patch("apiKeys", all["apiKeys"], object{"scopes": object{"models": []string{"x"}}})
	blocked("the only model of a key", at("models", all["models"]), fmt.Sprint("API key ", key["id"]))
	root.patch("apiKeys", key, object{"scopes": object{"models": []string{"x", "other"}}})
	root.patch("accessProfiles", all["accessProfiles"], object{"passthrough": true})
	blocked("the only model of a profile that passes through", at("models", all["models"]), fmt.Sprint("access profile ", all["accessProfiles"]["id"]))
	root.patch("accessProfiles", all["accessProfiles"], object{"models": []string{"x", "other"}})
	root.remove("models", all["models"])
	if got := root.get("apiKeys", key)["scopes"].(object)["models"]; cmp.Diff([]any{"other"}, got) != "" {
		t.Errorf("the key may use %v", got)
	}
	if got := root.get("accessProfiles", all["accessProfiles"])["models"]; cmp.Diff([]any{"other"}, got) != "" {
		t.Errorf("the profile may use %v", got)
	}
	root.must("POST", at("apiKeys", root.patch("apiKeys", key, object{"scopes": object{"models": []string{"other"}}}))+":revoke", object{})
	root.patch("accessProfiles", all["accessProfiles"], object{"passthrough": false})
	root.remove("models", other) // nobody gets more by it now
}

func TestDeletionsLeaveNoDanglingReferences(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	deployment := root.patch("deployments", all["deployments"], object{"credential": "x"})
	root.patch("accessProfiles", all["accessProfiles"], object{"grants": []object{{"provider": "x", "credential": "x"}, {"provider": "x"}}})
	key := root.patch("apiKeys", all["apiKeys"], object{"access_profile": "x"})
	root.remove("credentials", all["credentials"])
	if got := root.get("deployments", deployment); got["credential"] != "" || got["credential_id"] != "0" || got["etag"] == deployment["etag"] {
		t.Errorf("without its credential the deployment is %v", got)
	}
	if got := root.get("accessProfiles", all["accessProfiles"])["grants"]; cmp.Diff([]any{object{"provider": "x", "credential": ""}}, got) != "" {
		t.Errorf("without the credential the profile grants %v", got)
	}
	root.remove("providers", all["providers"])
	if got := root.get("accessProfiles", all["accessProfiles"])["grants"]; cmp.Diff([]any{}, got) != "" {
		t.Errorf("without the provider the profile grants %v", got)
	}
	if got := root.get("deployments", deployment); got["delete_time"] == nil {
		t.Errorf("without its provider the deployment is %v", got)
	}
	root.remove("accessProfiles", all["accessProfiles"])
	if got := root.get("apiKeys", key); got["access_profile"] != "" || got["access_profile_id"] != all["accessProfiles"]["id"] {
		t.Errorf("without its profile the key is %v: it must not count as bound to none", got)
	}
	status, answer := root.do("PATCH", at("apiKeys", key), object{"name": "renamed"})
	refused(t, "a key without its profile", status, answer, 400, "", "api_key.access_profile_id")
	config, err := g.store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k := config.APIKey(config.Hasher.APIKey(all["apiKeys"]["secret"].(string))); k == nil || k.ProfileID == 0 {
		t.Errorf("the gateway sees the key as %+v", k)
	}
}

func TestASecretIsOneKeysAtATime(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	const own = "a-secret-of-another-gateway"
	first := root.make("apiKeys", object{"project": "default", "name": "first", "secret": own})
	again := func(what string, want int) {
		t.Helper()
		status, answer := root.do("POST", "/admin/v1/apiKeys", object{"project": "default", "secret": own})
		if status != want || want == 409 && !strings.Contains(fmt.Sprint(answer["message"]), "secret") {
			t.Errorf("%s, its secret answers %d %v, want %d", what, status, answer, want)
		}
	}
	again("while the key is there", 409)
	root.must("POST", at("apiKeys", first)+":rotate", object{"overlap": "600s"})
	again("while the key was rotated and the secret still works", 409)
	root.must("POST", at("apiKeys", first)+":revoke", object{})
	again("while the key is revoked", 409)
	root.remove("apiKeys", first)
	again("after the key was deleted", 200)
	if status, _ := g.as(own).do("GET", "/admin/v1/whoami", nil); status != 200 {
		t.Errorf("the imported key answers %d", status)
	}
}

// TestNoSequenceOfCallsBreaksTheConfiguration makes changes at random; whatever is accepted compiles.
func TestNoSequenceOfCallsBreaksTheConfiguration(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			g.setup()
			r := &randomly{Rand: rand.New(rand.NewPCG(seed, 7)), root: g.as(g.root)}
			accepted := 0
			for step := range 120 {
				method, url, body := r.call(step)
				status, answer := r.root.do(method, url, body)
				if status >= 500 || status == 401 {
					t.Fatalf("step %d: %s %s %v answers %d %v", step, method, url, body, status, answer)
				}
				if status == 200 {
					accepted++
				}
				if _, err := g.store.Load(t.Context()); err != nil {
					t.Fatalf("step %d: after %s %s %v: %v", step, method, url, body, err)
				}
			}
			if accepted < 40 {
				t.Errorf("%d of 120 calls were accepted", accepted)
			}
		})
	}
}

// randomly makes up calls.
type randomly struct {
	*rand.Rand
	root client
}

func (r *randomly) one(of ...any) any { return of[r.IntN(len(of))] }

// name is that of something that is there, as a rule.
func (r *randomly) name(collection string) any {
	list := r.root.list(collection, "?page_size=1000")
	if len(list) == 0 || r.IntN(20) == 0 {
		return r.one("none", "")
	}
	x := list[r.IntN(len(list))]
	if collection == "members" {
		return x["email"]
	}
	return x["name"]
}

func (r *randomly) names(collection string) (out []any) {
	for range r.IntN(4) {
		out = append(out, r.name(collection))
	}
	return out
}

func (r *randomly) call(step int) (method, url string, body any) {
	collection := r.one("teams", "projects", "projects", "members", "providers", "providers", "credentials", "credentials", "models", "models", "deployments", "deployments", "deployments", "accessProfiles", "accessProfiles", "apiKeys", "apiKeys").(string)
	fields := r.fields(collection, step)
	list := r.root.list(collection, "?page_size=1000")
	if len(list) < 3 || r.IntN(3) == 0 {
		return "POST", "/admin/v1/" + collection, fields
	}
	x := list[r.IntN(len(list))]
	switch r.IntN(6) {
	case 0:
		return "DELETE", at(collection, x), nil
	case 1:
		if collection == "apiKeys" {
			return "POST", at(collection, x) + r.one(":rotate", ":revoke").(string), object{}
		}
	}
	for name := range fields { // a part of it
		if r.IntN(2) == 0 && len(fields) > 1 {
			delete(fields, name)
		}
	}
	return "PATCH", at(collection, x), fields
}

func (r *randomly) fields(collection string, step int) object {
	name := r.one(fmt.Sprint("n", step), fmt.Sprint("n", r.IntN(step+1)))
	switch collection {
	case "projects":
		return object{"name": name, "team": r.one(r.name("teams"), "")}
	case "members":
		return object{"email": fmt.Sprint(name, "@example.org"), "role": r.one("member", "viewer", "admin", "team_owner"), "team": r.one(r.name("teams"), "")}
	case "providers":
		return object{"name": name, "base_url": fmt.Sprint(r.one("https://", "http://"), name, ".example", r.one("", ":8443", "/v1", "/v1?api-version=1")), "dialect": r.one("", "openai", "azure", "anthropic"), "auth_header": r.one("", "none", "api-key", "Authorization")}
	case "credentials":
		return object{"name": name, "provider": r.name("providers"), "secret": r.one("", fmt.Sprint("sk-", step))}
	case "models":
		return object{"name": name, "endpoint": r.one("", "chat/completions"), "quality": r.one(0.5, nil)}
	case "deployments":
		return object{"name": r.one("", name), "model": r.name("models"), "provider": r.name("providers"), "credential": r.one("", r.name("credentials")), "apis": r.one([]string{}, []string{"chat"}), "max_parallel": r.one(0, 5)}
	case "accessProfiles":
		grants := []object{}
		for range r.IntN(3) {
			grants = append(grants, object{"provider": r.name("providers"), "credential": r.one("", r.name("credentials"))})
		}
		return object{"name": name, "project": r.name("projects"), "models": r.names("models"), "grants": grants, "passthrough": r.one(true, false)}
	case "apiKeys":
		return object{"name": name, "project": r.name("projects"), "access_profile": r.one("", r.name("accessProfiles")), "member": r.one("", "", r.name("members")), "role": r.one("", "", "admin", "viewer"),
			"scopes": object{"models": r.names("models"), "source_cidrs": r.one([]string{}, []string{"10.0.0.0/8", "::ffff:10.1.0.0/112", "fe80::1"})}, "expire_time": r.one(nil, "2099-01-01T00:00:00Z")}
	}
	return object{"name": name}
}
