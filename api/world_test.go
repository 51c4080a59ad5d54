package api_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api"
)

// A person is who makes calls in the tests of roles: a member, or a program.
type person struct {
	name, key, role       string
	team, project, member string // ids; a program has no member, a member no project
}

// A thing is a resource with what decides who may reach it.
type thing struct {
	id, etag                      string
	team, project, member         string // ids
	level                         string // of a policy
	grantedTeams, grantedProjects []string
}

// A world has two teams, and something of every kind in each and in none.
type world struct {
	*gateway
	conn    *grpc.ClientConn
	root    client
	people  []person
	ids     map[string]string // by name
	things  map[string][]thing
	methods map[string]method
	serial  atomic.Int64 // of names
}

// A method is one of the admin API's.
type method struct {
	full          string
	input, output protoreflect.MessageType
}

func newWorld(t *testing.T) *world {
	t.Helper()
	g := newGateway(t)
	g.setup()
	w := &world{gateway: g, conn: g.dial(), root: g.as(g.root), ids: make(map[string]string), things: make(map[string][]thing), methods: methodsOf(t)}
	w.build()
	w.populate()
	w.record()
	w.observe()
	return w
}

// methodsOf enumerates every method of every service of the admin API.
func methodsOf(t *testing.T) map[string]method {
	t.Helper()
	out := make(map[string]method)
	find := func(d protoreflect.MessageDescriptor) protoreflect.MessageType {
		m, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("logos.admin.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				out[string(m.Name())] = method{"/" + string(s.FullName()) + "/" + string(m.Name()), find(m.Input()), find(m.Output())}
			}
		}
		return true
	})
	if len(out) < 50 {
		t.Fatalf("there are %d methods", len(out))
	}
	return out
}

// call makes a call by gRPC.
func (w *world) call(key, name string, request object) (object, error) {
	w.t.Helper()
	m := w.methods[name]
	in, out := m.input.New().Interface(), m.output.New().Interface()
	if err := protojson.Unmarshal([]byte(encode(w.t, request)), in); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	if err := w.conn.Invoke(with(context.WithoutCancel(w.t.Context()), key), m.full, in, out); err != nil {
		return nil, err
	}
	return shown(w.t, out), nil
}

func shown(t *testing.T, m proto.Message) object {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return decode[object](t, string(text))
}

func (w *world) add(name, collection string, resource object) string {
	w.t.Helper()
	answer := w.root.make(collection, resource)
	w.ids[name], _ = answer["id"].(string)
	if collection == "apiKeys" {
		return answer["secret"].(string)
	}
	return w.ids[name]
}

// build adds resources. What begins with a is team A's, with b team B's, with f nobody's.
func (w *world) build() {
	w.t.Helper()
	w.add("A", "teams", object{"name": "A", "member_key_limit": 1000})
	w.add("B", "teams", object{"name": "B", "member_key_limit": 1000})
	w.add("C", "teams", object{"name": "C"})
	for name, team := range map[string]string{"a1": "A", "a2": "A", "b1": "B", "f1": ""} {
		w.add(name, "projects", object{"name": name, "team": team})
	}
	for _, n := range []string{"a", "b", "f"} {
		w.add(n+"-provider", "providers", object{"name": n + "-provider", "base_url": "https://" + n + ".example"})
		w.add(n+"-credential", "credentials", object{"name": n + "-credential", "provider": n + "-provider", "secret": "sk-" + n})
		w.add(n+"-model", "models", object{"name": n + "-model"})
		w.add(n+"-deployment", "deployments", object{"model": n + "-model", "provider": n + "-provider"})
		w.add(n+"-price", "prices", object{"name": n + "-price", "provider": n + "-provider", "meter": "input", "amount": "1", "currency": "EUR"})
		w.add(n+"-profile", "accessProfiles", object{"name": n + "-profile", "project": n + "1", "models": []string{n + "-model"}})
		for level, owner := range map[string]object{"project": {"project": n + "1"}, "access_profile": {"project": n + "1", "access_profile": n + "-profile"}} {
			owner["name"], owner["level"] = n+"-"+level+"-policy", level
			w.add(owner["name"].(string), "policies", owner)
		}
	}
	w.add("installation-budget", "budgets", object{"name": "installation-budget", "unit": "requests", "amount": "1000000", "window": "minute"})
	w.add("installation-policy", "policies", object{"name": "installation-policy", "level": "installation"})
	for _, team := range []string{"A", "B", "C"} {
		w.add(team+"-budget", "budgets", object{"name": team + "-budget", "team": team, "unit": "money", "currency": "EUR", "amount": "12.50", "window": "month"})
		w.add(team+"-policy", "policies", object{"name": team + "-policy", "level": "team", "team": team})
	}
}

// populate adds members with a key each, and keys of programs, of every role.
func (w *world) populate() {
	w.t.Helper()
	w.people = append(w.people, person{name: "root program", key: w.gateway.root, role: "root", project: "1"})
	for _, m := range []struct{ name, role, team, project string }{
		{"admin", "admin", "", "f1"}, {"viewer", "viewer", "", "f1"}, {"a-owner", "team_owner", "A", "a1"}, {"a-member", "member", "A", "a1"},
		{"a-member2", "member", "A", "a2"}, {"a-viewer", "viewer", "A", "a1"}, {"b-owner", "team_owner", "B", "b1"}, {"b-member", "member", "B", "b1"},
	} {
		w.add(m.name, "members", object{"email": m.name + "@example.org", "role": m.role, "team": m.team})
		key := w.add(m.name+"-key", "apiKeys", object{"name": m.name + "-key", "project": m.project, "member": m.name + "@example.org"})
		w.people = append(w.people, person{name: m.name, key: key, role: m.role, team: w.ids[m.team], member: w.ids[m.name]})
		w.add(m.name+"-policy", "policies", object{"name": m.name + "-policy", "level": "api_key", "api_key_id": w.ids[m.name+"-key"]})
	}
	for _, p := range []struct{ role, project, team string }{
		{"admin", "f1", ""}, {"team_owner", "a1", "A"}, {"team_owner", "f1", ""}, {"member", "a1", "A"}, {"member", "f1", ""}, {"viewer", "a1", "A"},
		{"viewer", "f1", ""}, {"service", "a1", "A"}, {"service", "f1", ""}, {"service", "b1", "B"},
	} {
		name := p.role + " program of " + p.project
		key := w.add(name, "apiKeys", object{"name": name, "project": p.project, "role": p.role})
		w.people = append(w.people, person{name: name, key: key, role: p.role, team: w.ids[p.team], project: w.ids[p.project]})
	}
}

// record stores a call of some keys.
func (w *world) record() {
	w.t.Helper()
	var batch logos.LogBatch
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		return n
	}
	for i, k := range w.root.list("apiKeys", "?page_size=1000") {
		id := logos.CallID(fmt.Sprintf("%08d-45cf-4a39-9983-4ec0041b40d3", i+1))
		team := w.root.get("projects", k["project_id"])["team_id"].(string)
		batch.Calls = append(batch.Calls, &logos.Call{ID: id, End: logos.EndOK, Decision: logos.Decision{
			Start: time.Date(2026, 11, 24, 12, 0, i, 0, time.UTC).UnixMicro(), Team: logos.TeamID(number(team)),
			Project: logos.ProjectID(number(k["project_id"].(string))), APIKey: logos.APIKeyID(number(k["id"].(string))),
		}})
		w.things["Call"] = append(w.things["Call"], thing{id: string(id), team: team, project: k["project_id"].(string), member: k["member_id"].(string)})
	}
	if err := w.store.RecordCalls(w.t.Context(), "gateway-1", batch); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range w.things["Call"] {
		made := w.root.make("adjustments", object{"call_id": c.id, "kind": "correction", "amount": "1", "currency": "EUR", "reason": "one each"})
		c.id = made["id"].(string)
		w.things["Adjustment"] = append(w.things["Adjustment"], c)
	}
}

// collections are the kinds that have many resources, by the names of their methods.
var collections = map[string]string{
	"Team": "teams", "Project": "projects", "Member": "members", "AccessProfile": "accessProfiles", "ApiKey": "apiKeys", "Provider": "providers",
	"Credential": "credentials", "Model": "models", "Deployment": "deployments", "Price": "prices", "AuditEvent": "auditEvents", "Policy": "policies", "Budget": "budgets",
}

// observe notes everything that is there.
func (w *world) observe() {
	w.t.Helper()
	for kind, collection := range collections {
		w.things[kind] = nil
		for _, x := range w.root.list(collection, "?page_size=1000") {
			w.things[kind] = append(w.things[kind], w.thing(kind, x))
		}
		if len(w.things[kind]) < 3 || len(w.things[kind]) == 1000 {
			w.t.Fatalf("there are %d of %s", len(w.things[kind]), kind)
		}
	}
	w.things["PriceVersion"] = w.things["Price"] // each has one
}

// thing reads off a resource, and off the names of what build adds, who may reach it.
func (w *world) thing(kind string, x object) thing {
	text := func(name string) string {
		s, _ := x[name].(string)
		if s == "0" {
			return ""
		}
		return s
	}
	out := thing{id: text("id"), etag: text("etag"), team: text("team_id"), project: text("project_id"), member: text("member_id")}
	switch kind {
	case "Team":
		out.team = out.id
	case "Project":
		out.project = out.id
	case "Member":
		out.member = out.id
	case "AccessProfile", "ApiKey":
		out.team = w.teamOf(out.project)
	case "Policy":
		if out.level = text("level"); out.team == "" {
			out.team = w.teamOf(out.project)
		}
		if out.level == "api_key" {
			out.member = w.ids[strings.TrimSuffix(text("name"), "-policy")]
		}
	case "Model", "Deployment":
		name := text("name") + text("model")
		if project, ok := w.ids[name[:1]+"1"]; ok && strings.HasSuffix(name, "-model") {
			out.grantedProjects = []string{project}
			out.grantedTeams = []string{w.teamOf(project)}
		}
	}
	return out
}

func (w *world) teamOf(project string) string {
	for name, id := range w.ids {
		if len(name) == 2 && id == project {
			return w.ids[strings.ToUpper(name[:1])]
		}
	}
	return ""
}

// reaches says whether a person reaches a thing with a method that the table gives its role so far.
func (p person) reaches(reach, kind string, x thing) bool {
	switch reach {
	case "all":
		return true
	case "team":
		switch {
		case p.team == "":
			return p.role == "viewer" // of the whole installation
		case kind == "Model" || kind == "Deployment":
			return slices.Contains(x.grantedTeams, p.team)
		case kind == "Policy" && x.level == "installation":
			return true // it concerns everybody; that nobody changes it is tried apart
		}
		return !slices.Contains([]string{"Provider", "Credential", "Price", "PriceVersion"}, kind) && x.team == p.team
	case "own":
		return p.owns(kind, x)
	}
	return false
}

func (p person) owns(kind string, x thing) bool {
	switch kind {
	case "Team":
		return x.id == p.team
	case "Budget":
		return x.team != "" && x.team == p.team
	case "Model", "Deployment":
		if p.member != "" {
			return slices.Contains(x.grantedTeams, p.team)
		}
		return slices.Contains(x.grantedProjects, p.project)
	case "Project", "AccessProfile":
		if p.member != "" {
			return x.team == p.team
		}
		return x.project == p.project
	case "Policy":
		if x.level == "installation" || x.level == "team" {
			return x.level == "installation" || x.team == p.team
		}
		if p.member != "" {
			return x.team == p.team && (x.level != "api_key" || x.member == p.member)
		}
		return x.project == p.project
	case "Member", "ApiKey", "Call", "Adjustment":
		if p.member != "" {
			return x.member == p.member
		}
		return kind != "Member" && x.project == p.project
	}
	return false
}

// may is how far a person may use a method.
func (p person) may(method string) string {
	reach, _ := api.Reach(method)
	return reach[p.role]
}

func codeOf(err error) codes.Code { return status.Code(err) }
