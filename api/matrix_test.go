package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos/api"
)

func TestEveryMethodHasARowInTheTableOfRoles(t *testing.T) {
	t.Parallel()
	methods := methodsOf(t)
	for name := range methods {
		if _, ok := api.Reach(name); ok == api.Public(name) {
			t.Errorf("%s is in the table: %t, is public: %t", name, ok, api.Public(name))
		}
	}
	for _, name := range api.Methods() {
		if _, ok := methods[name]; !ok {
			t.Errorf("the table has a row for %s, and there is no such method", name)
		}
	}
}

// TestEachRoleReachesWhatItsCellSays goes through the table cell by cell.
func TestEachRoleReachesWhatItsCellSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, p := range w.people {
		switch p.name {
		case "a-member2", "b-owner", "b-member", "service program of b1":
			continue // they are the others, and reach what their like in team A does
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for name := range w.methods {
				w.try(t, p, name)
			}
		})
	}
}

// try makes calls of one method, for everything that it may be about.
func (w *world) try(t *testing.T, p person, name string) {
	t.Helper()
	reach := p.may(name)
	switch {
	case reach != "" && name == "ListUnpricedDeployments":
		if _, err := w.call(p.key, name, object{}); err != nil {
			t.Errorf("%s gives %v", name, err)
		}
		return
	case api.Public(name):
		if _, err := w.call("", name, object{"token": strings.Repeat("x", 32)}); codeOf(err) != codes.NotFound {
			t.Errorf("%s without a key gives %v", name, err)
		}
		return
	case name == "WhoAmI":
		w.whoAmI(t, p)
		return
	case reach == "":
		w.denied(t, p, name)
		return
	}
	if usageMethods[name] {
		w.tryUsage(t, p, name, reach)
		return
	}
	verb, kind := split(name)
	switch verb {
	case "Get":
		if kind != "Settings" {
			w.tryGet(t, p, name, kind, reach)
		} else if _, err := w.call(p.key, name, object{}); (codeOf(err) == codes.OK) != (reach == "all" || p.team == "") {
			t.Errorf("%s gives %v", name, err)
		}
	case "List":
		switch name {
		case "ListPolicyVersions":
			w.tryGet(t, p, name, "Policy", reach)
		case "ListBudgetCounters":
			w.tryGet(t, p, name, "Budget", reach)
		case "ListPolicyVariables":
			if _, err := w.call(p.key, name, object{}); err != nil {
				t.Errorf("%s gives %v", name, err)
			}
		default:
			w.tryList(t, p, name, kind, reach)
		}
	case "Explain":
		w.tryExplain(t, p, reach)
	case "Create", "BatchCreate":
		w.tryCreate(t, p, name, kind, reach)
	case "Update", "Delete", "Rotate", "Revoke":
		w.tryChange(t, p, name, kind, reach)
	case "Import":
		if kind == "Thresholds" {
			w.tryImport(t, p, reach)
			return
		}
		fallthrough
	case "Export", "Apply", "Test", "Discover", "Erase":
		if _, err := w.call(p.key, name, requests[name]); codeOf(err) == codes.PermissionDenied || codeOf(err) == codes.Unauthenticated {
			t.Errorf("%s gives %v", name, err)
		}
	default:
		t.Errorf("no test covers %s", name)
	}
}

// requests are those of methods that are about nothing in particular.
var requests = map[string]object{
	"ExportConfiguration": {}, "ImportPrices": {"source": "list"}, "ListUnpricedDeployments": {}, "ApplyConfiguration": {"configuration": object{}}, "TestProvider": {"id": "999"}, "DiscoverModels": {"id": "999"},
	"EraseEndUser": {"project_id": "999", "user": "u"}, "EraseSourceAddress": {"address": "192.0.2.77"}, "UpdateSettings": {"settings": object{"audit_retention_days": 900}, "update_mask": "auditRetentionDays"},
	"CreateAdjustment": {"adjustment": object{"call_id": callID, "kind": "refund", "amount": "-1", "currency": "EUR", "reason": "r"}},
	"ExplainDecision":  {"api_key_id": "999"}, "ImportThresholds": {"project_id": "999", "policies": []object{{"name": "x"}}},
	"GetSettings": {}, "GetCall": {"id": callID}, "BatchCreateApiKeys": {"template": object{"project": "a1"}, "csv": "name\nx\n"},
}

func split(name string) (verb, kind string) {
	for _, verb := range []string{"Get", "List", "BatchCreate", "Create", "Update", "Delete", "Rotate", "Revoke", "Export", "Apply", "Test", "Discover", "Erase", "Explain", "Import"} {
		if rest, ok := strings.CutPrefix(name, verb); ok {
			if verb == "List" || verb == "BatchCreate" {
				rest = strings.TrimSuffix(strings.Replace(rest, "ies", "ys", 1), "s")
			}
			return verb, rest
		}
	}
	return "", name
}

func snake(kind string) string {
	var b strings.Builder
	for i, r := range kind {
		if r >= 'A' && r <= 'Z' && i > 0 {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}

func (w *world) whoAmI(t *testing.T, p person) {
	t.Helper()
	got, err := w.call(p.key, "WhoAmI", object{})
	if err != nil {
		t.Errorf("WhoAmI gives %v", err)
		return
	}
	zero := func(id string) string {
		if id == "" {
			return "0"
		}
		return id
	}
	if got["role"] != p.role || got["team_id"] != zero(p.team) || got["member_id"] != zero(p.member) || p.project != "" && got["project_id"] != p.project {
		t.Errorf("WhoAmI says %v, want %+v", got, p)
	}
	for _, m := range got["methods"].([]any) {
		if p.may(m.(string)) == "" {
			t.Errorf("WhoAmI says that it may use %s", m)
		}
	}
}

// denied checks that an empty cell answers so, whatever the call is about.
func (w *world) denied(t *testing.T, p person, name string) {
	t.Helper()
	request, ok := requests[name]
	if !ok {
		request = w.anyRequest(name)
	}
	if _, err := w.call(p.key, name, request); codeOf(err) != codes.PermissionDenied || !strings.Contains(err.Error(), name) {
		t.Errorf("%s gives %v, want it to be denied", name, err)
	}
}

// anyRequest is one that is well-formed.
func (w *world) anyRequest(name string) object {
	request := object{}
	fields := w.methods[name].input.Descriptor().Fields()
	if fields.ByName("id") != nil {
		request["id"] = "1"
	}
	_, kind := split(name)
	if f := fields.ByName(protoreflect.Name(snake(kind))); f != nil {
		resource := object{"id": "1"}
		for field, value := range map[string]string{"name": "x", "email": "x@example.org", "role": "viewer", "base_url": "https://x.example", "level": "installation", "meter": "input", "amount": "1", "currency": "EUR"} {
			if f.Message().Fields().ByName(protoreflect.Name(field)) != nil {
				resource[field] = value
			}
		}
		if kind == "Budget" {
			resource["unit"] = "money"
		}
		request[snake(kind)] = resource
	}
	return request
}

func (w *world) tryGet(t *testing.T, p person, name, kind, reach string) {
	t.Helper()
	tried := make(map[codes.Code]int)
	for _, x := range w.things[kind] {
		want := codes.NotFound
		if p.reaches(reach, kind, x) {
			want = codes.OK
		}
		if tried[want]++; tried[want] > 5 {
			continue // lists show all of them
		}
		if got, err := w.call(p.key, name, object{"id": x.id}); codeOf(err) != want || err == nil && strings.HasPrefix(name, "Get") && got["id"] != x.id {
			t.Errorf("%s %s (%+v) gives %v, want %s", name, x.id, x, err, want)
		}
	}
}

// tryList compares all that a list shows with all that may be seen of what was there before the test.
func (w *world) tryList(t *testing.T, p person, name, kind, reach string) {
	t.Helper()
	var want, others []string
	known := make(map[string]bool)
	for _, x := range w.things[kind] {
		known[x.id] = true
		if p.reaches(reach, kind, x) {
			want = append(want, x.id)
		} else {
			others = append(others, x.id)
		}
	}
	ids := func(request object) (out []string) {
		answer, err := w.call(p.key, name, request)
		if err != nil {
			t.Errorf("%s %v gives %v", name, request, err)
		}
		for _, x := range items(answer) {
			if id := x.(object)["id"].(string); known[id] {
				out = append(out, id)
			}
		}
		slices.Sort(out)
		return out
	}
	slices.Sort(want)
	request := object{"page_size": 1000}
	if w.methods[name].input.Descriptor().Fields().ByName("show_deleted") != nil {
		request["show_deleted"] = true
	}
	if diff := cmp.Diff(want, ids(request)); diff != "" {
		t.Errorf("%s shows (-want +got):\n%s", name, diff)
	}
	for i, id := range others {
		filter := "id = " + id
		if kind == "Call" {
			filter = fmt.Sprintf("id = %q", id)
		}
		request["filter"] = filter
		if i < 3 && len(ids(request)) > 0 {
			t.Errorf("%s with the filter %s shows it", name, filter)
		}
		request["filter"] = filter + " OR id != " + strings.TrimPrefix(filter, "id = ")
		if i < 1 {
			if diff := cmp.Diff(want, ids(request)); diff != "" {
				t.Errorf("%s with the filter %s shows (-want +got):\n%s", name, request["filter"], diff)
			}
		}
	}
}

// A place is where a resource can be made.
type place struct{ project, team, member string } // names

var places = []place{{"a1", "A", ""}, {"a2", "A", ""}, {"b1", "B", ""}, {"f1", "", ""}, {"a1", "A", "a-member"}, {"a2", "A", "a-member2"}, {"b1", "B", "b-member"}}

// places are those where it is tried whether a person can make and change something.
func (p person) places(reach string) []place {
	if reach == "all" {
		return places[1:3]
	}
	return places
}

// resource is a new one of a kind in a place; nil: the kind has none there.
func (w *world) resource(kind string, in place) object {
	name := fmt.Sprintf("new-%d", w.serial.Add(1))
	if in.member != "" && kind != "ApiKey" {
		return nil
	}
	switch kind {
	case "Team", "Model":
		if in.project == "a2" {
			return object{"name": name}
		}
	case "Provider":
		if in.project == "a2" {
			return object{"name": name, "base_url": "https://x.example"}
		}
	case "Adjustment":
		if in.project == "a2" {
			return object{"call_id": w.things["Call"][0].id, "kind": "correction", "amount": "0.5", "currency": "EUR", "reason": name}
		}
	case "Credential":
		if in.project == "a2" {
			return object{"provider": "a-provider", "secret": name}
		}
	case "Deployment":
		if in.project == "a2" {
			return object{"name": name, "model": "a-model", "provider": "a-provider"}
		}
	case "Price":
		if in.project == "a2" {
			return object{"name": name, "provider": "a-provider", "provider_model": name, "meter": "output", "amount": "0.1", "currency": "EUR"}
		}
	case "Project":
		return object{"name": name, "team": in.team}
	case "Member":
		return object{"email": name + "@example.org", "role": "viewer", "team": in.team}
	case "AccessProfile":
		return object{"name": name, "project": in.project}
	case "Policy":
		return object{"name": name, "level": "project", "project": in.project}
	case "Budget":
		return object{"name": name, "team": in.team, "unit": "tokens", "amount": "5", "window": "day"}
	case "ApiKey":
		out := object{"name": name, "project": in.project}
		if in.member != "" {
			out["member"] = in.member + "@example.org"
		}
		return out
	}
	return nil
}

// tryCreate makes resources in every place: what is out of reach can't be referred to.
func (w *world) tryCreate(t *testing.T, p person, name, kind, reach string) {
	t.Helper()
	for _, in := range p.places(reach) {
		r := w.resource(kind, in)
		if r == nil {
			continue
		}
		request := object{snake(kind): r}
		if name == "BatchCreateApiKeys" {
			request = object{"template": r, "csv": "n\n1\n"}
		}
		want := codes.InvalidArgument
		if p.team == "" && (kind == "Project" || kind == "Member" || kind == "Budget") {
			want = codes.PermissionDenied // a team owner of no team
		}
		if p.mayMakeAt(w, reach, kind, in) {
			want = codes.OK
		}
		if got, err := w.call(p.key, name, request); codeOf(err) != want {
			t.Errorf("%s %v gives %v, want %s", name, r, err, want)
		} else if team, ok := got["team_id"]; ok && reach != "all" && kind != "Policy" && team != p.team {
			t.Errorf("%s %v makes %v", name, r, got)
		}
	}
}

// tryExplain asks for decisions of everybody's keys: as far as one may administer them, one may.
func (w *world) tryExplain(t *testing.T, p person, reach string) {
	t.Helper()
	for _, x := range w.things["ApiKey"] {
		want := codes.NotFound
		if p.reaches(reach, "ApiKey", x) {
			want = codes.OK
		}
		if got, err := w.call(p.key, "ExplainDecision", object{"api_key_id": x.id, "session": "s"}); codeOf(err) != want || err == nil && got["api_key_id"] != x.id {
			t.Errorf("ExplainDecision of key %s (%+v) gives %v, want %s", x.id, x, err, want)
		}
	}
}

func (w *world) tryImport(t *testing.T, p person, reach string) {
	t.Helper()
	for _, in := range p.places(reach) {
		want := codes.InvalidArgument
		if p.mayMakeAt(w, reach, "Policy", in) {
			want = codes.OK
		}
		name := fmt.Sprintf("new-%d", w.serial.Add(1))
		if _, err := w.call(p.key, "ImportThresholds", object{"project": in.project, "policies": []object{{"name": name}}}); codeOf(err) != want {
			t.Errorf("ImportThresholds for %s gives %v, want %s", in.project, err, want)
		}
	}
}

// TestATeamOwnerTightensItsOwnAlone goes through all levels.
func TestATeamOwnerTightensItsOwnAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := slices.IndexFunc(w.people, func(p person) bool { return p.name == "a-owner" })
	owner := w.as(w.people[i].key)
	for _, c := range []struct {
		policy object
		status int
		field  string
	}{
		{object{"level": "installation"}, 403, "policy.level"},
		{object{"level": "team", "team": "B"}, 403, "policy.level"},
		{object{"level": "team", "team": "A"}, 403, "policy.level"},
		{object{"level": "access_profile", "project": "a1", "access_profile": "a-profile"}, 403, "policy.level"},
		{object{"level": "project", "project": "b1"}, 400, "policy.project"},
		{object{"level": "api_key", "api_key_id": w.ids["b-member-key"]}, 400, "policy.api_key_id"},
		{object{"level": "project", "project": "a2"}, 200, ""},
		{object{"level": "api_key", "api_key_id": w.ids["a-member-key"]}, 200, ""},
		// What it may not see it can't name.
		{object{"level": "project", "project": "a1", "constraints": object{"deny": object{"models": []any{"b-model"}}}}, 400, "policy.constraints.deny.models[0]"},
		{object{"level": "project", "project": "a1", "constraints": object{"deny": object{"providers": []any{"b-provider"}}}}, 400, "policy.constraints.deny.providers[0]"},
		{object{"level": "project", "project": "a1", "constraints": object{"deny": object{"deployments": []any{object{"provider": "b-provider", "model": "b-model"}}}}}, 400, "policy.constraints.deny.deployments[0]"},
		{object{"level": "project", "project": "a1", "constraints": object{"deny": object{"models": []any{"a-model"}, "providers": []any{"a-provider"}, "deployments": []any{object{"provider": "a-provider", "model": "a-model"}}}}}, 200, ""},
	} {
		c.policy["name"] = fmt.Sprintf("new-%d", w.serial.Add(1))
		status, answer := owner.do("POST", "/admin/v1/policies", c.policy)
		if c.status == 200 && status == 200 {
			continue
		}
		refused(t, encode(t, c.policy), status, answer, c.status, "", c.field)
	}
	// What is above concerns it, and is not its to change.
	onProfile := w.root.make("policies", object{"name": "a-profile-policy", "level": "access_profile", "project": "a1", "access_profile": "a-profile"})
	w.ids["a-profile-policy"] = onProfile["id"].(string)
	binding := []string{"installation-policy", "A-policy", "a-profile-policy"}
	for _, name := range append(binding, "B-policy", "b-project-policy", "b-member-policy") {
		status, _ := owner.do("GET", at("policies", w.ids[name]), nil)
		if seen := status == 200; seen != slices.Contains(binding, name) {
			t.Errorf("reading %s answers %d", name, status)
		}
		for _, method := range []string{"PATCH", "DELETE"} {
			var body any
			if method == "PATCH" {
				body = object{"labels": object{"a": "b"}}
			}
			status, answer := owner.do(method, at("policies", w.ids[name]), body)
			refused(t, method+" "+name, status, answer, 404, "NOT_FOUND", "")
		}
	}
	// A policy of its own in which an admin has named what it may not see: it may change the rest.
	made := w.root.make("policies", object{"name": "by an admin", "level": "project", "project": "a1", "constraints": object{
		"deny": object{"models": []any{"b-model"}, "providers": []any{"b-provider"}}}})
	changed := owner.patch("policies", made, object{"when": "request.stream"})
	if diff := cmp.Diff(made["constraints"], changed["constraints"]); diff != "" {
		t.Errorf("its owner's change of another field changes (-before +after):\n%s", diff)
	}
}

func (p person) mayMakeAt(w *world, reach, kind string, in place) bool {
	switch {
	case reach == "all":
		return true
	case kind == "Project" || kind == "Member" || kind == "Budget":
		return p.team != "" && (in.team == "" || w.ids[in.team] == p.team) // none given is one's own
	case reach == "team":
		return p.team != "" && w.ids[in.team] == p.team
	case p.member != "":
		return w.ids[in.team] == p.team && (in.member == "" || w.ids[in.member] == p.member)
	}
	return w.ids[in.project] == p.project && in.member == ""
}

// tryChange changes a new resource in every place.
func (w *world) tryChange(t *testing.T, p person, name, kind, reach string) {
	t.Helper()
	if kind == "Settings" {
		if _, err := w.call(p.key, name, requests[name]); err != nil {
			t.Errorf("%s gives %v", name, err)
		}
		return
	}
	for _, in := range p.places(reach) {
		r := w.resource(kind, in)
		if r == nil {
			continue
		}
		victim := w.root.make(collections[kind], r)
		x := thing{id: victim["id"].(string), team: w.ids[in.team], project: w.ids[in.project], member: w.ids[in.member]}
		switch kind {
		case "Team":
			x.team = x.id
		case "Member":
			x.member = x.id
		case "Project":
			x.project = x.id
		}
		request := object{"id": victim["id"], "etag": victim["etag"]}
		if strings.HasPrefix(name, "Update") {
			request["labels"] = object{"changed": "yes"}
			request = object{snake(kind): request, "update_mask": "labels"}
		}
		want := codes.NotFound
		if p.reaches(reach, kind, x) {
			want = codes.OK
		}
		if _, err := w.call(p.key, name, request); codeOf(err) != want {
			t.Errorf("%s at %v gives %v, want %s", name, in, err, want)
		}
		if after := w.root.get(collections[kind], x.id); (after["etag"] == victim["etag"]) != (want == codes.NotFound) {
			t.Errorf("%s at %v leaves %v of %v", name, in, after, victim)
		}
	}
}
