package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// addPolicy stores a policy of the installation.
func addPolicy(t *testing.T, s *store.Store, p *logos.Policy) {
	t.Helper()
	spec, err := store.PolicySpec(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		labels := p.Labels
		if labels == nil {
			labels = map[string]string{}
		}
		_, err := tx.Insert(ctx, store.Policies, store.Columns{"name": p.Name, "level": p.Level.String(), "on_request": p.OnRequest, "spec": spec, "labels": labels})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func loadPolicies(t *testing.T, s *store.Store) []*logos.Policy {
	t.Helper()
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return config.Policies()
}

func euro(text string) logos.Money {
	return logos.Money{Amount: decimal.RequireFromString(text), Currency: "EUR"}
}

// everything is a policy with a value in each field.
func everything() *logos.Policy {
	priority := -3
	return &logos.Policy{
		Name: "everything", OnRequest: true, Labels: map[string]string{"a": "b"}, When: `request.api == "chat" && caller.team == "null"`,
		Constraints: logos.Constraints{
			MaxPrivacyZone: logos.ZoneEUByUS,
			Allow:          logos.Targets{Models: []logos.ModelID{1, 2}, Providers: []logos.ProviderID{}, Deployments: []logos.DeploymentID{3}},
			Deny:           logos.Targets{Models: []logos.ModelID{}, Providers: []logos.ProviderID{7}, Deployments: []logos.DeploymentID{8}},
			Labels: []logos.LabelRequirement{
				{Label: "tier", Operator: logos.LabelIn, Values: []string{"gold", "silver"}}, {Label: "old", Operator: logos.LabelNotExists},
			},
			Capabilities: []string{"tools"}, RequireUsed: true, MinQuality: 0.5, MinAccuracy: 0.25,
			MinTaskQuality: map[string]float64{"code": 0.75}, MinTaskAccuracy: map[string]float64{"law": 0.875},
			MaxCost: []logos.Money{euro("0.000000000001"), {Amount: decimal.RequireFromString("12345.678"), Currency: "USD"}}, DenyUnpriced: true,
			MaxFirstToken: 1500 * time.Millisecond,
		},
		Rules: []logos.Rule{{Name: "one", Kind: logos.RulePreference, When: "request.stream", Require: "candidate.priced"}, {Name: "two", Require: "true"}},
		Relax: []logos.Constraint{logos.ConstraintMaxCost, logos.RuleConstraint("one")},
		Objective: &logos.Objective{
			Cost: 1, Latency: 2, Quality: 3, Load: 4, CostScale: euro("0.01"), LatencyScale: time.Nanosecond, SessionBonus: 0.1, PrefixBonus: 0.2,
			Hysteresis: 0.3, Tolerance: 0.4, Exploration: 0.05,
			Canaries: []logos.Canary{{Targets: logos.Targets{Models: []logos.ModelID{1}}, Percent: 2.5}},
		},
		Attempts: logos.AttemptLimits{
			Max: 2, On: []logos.RetryCondition{logos.RetryReset, logos.RetrySilent}, TotalTime: time.Minute, FirstToken: 10 * time.Second,
		},
		Scheduling: logos.Scheduling{Priority: &priority, MaxQueueTime: 2 * time.Second, Deadline: time.Hour},
	}
}

// TestAPolicyIsLoadedAsItWasMade also holds that each field of the domain is stored.
func TestAPolicyIsLoadedAsItWasMade(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	for _, p := range []*logos.Policy{everything(), {Name: "nothing"}, {Name: "an objective", Objective: &logos.Objective{}}} {
		addPolicy(t, s, p)
		loaded := loadPolicies(t, s)
		got := loaded[len(loaded)-1]
		if got.ID == 0 || got.Revision == 0 {
			t.Errorf("it has the id %d and the revision %d", got.ID, got.Revision)
		}
		got.ID, got.Revision = 0, 0
		// Lists that are absent and empty are told apart.
		if diff := cmp.Diff(p, got, cmp.Comparer(decimal.Decimal.Equal)); diff != "" {
			t.Errorf("%s differs (-made +loaded):\n%s", p.Name, diff)
		}
	}
}

// listening makes a database, and returns what its store logs.
func listening(t *testing.T) (*store.Store, string, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	url := pgtest.URL(t)
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&log)), zapcore.ErrorLevel)
	s, err := store.Open(t.Context(), url, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), pgtest.Key(t, store.NewMasterKeyText())); err != nil {
		t.Fatal(err)
	}
	return s, url, &log
}

func TestAPolicyThatCantBeReadAllowsNothing(t *testing.T) {
	t.Parallel()
	s, url, log := listening(t)
	c := fill(t, s)
	conn := pgtest.Conn(t, url)
	specs := map[string]string{
		"an unknown demand":           `{"constraints": {"max_watts": 5}}`,
		"an unknown part":             `{"curfew": {"from": "22:00"}}`,
		"an unknown zone":             `{"constraints": {"max_privacy_zone": "moon"}}`,
		"an unknown operator":         `{"constraints": {"labels": [{"label": "a", "operator": "matches", "values": ["x"]}]}}`,
		"an unknown kind of rule":     `{"rules": [{"name": "a", "kind": "budget", "require": "true"}]}`,
		"an unknown field of a rule":  `{"rules": [{"name": "a", "require": "true", "unless": "false"}]}`,
		"a list that is none":         `{"constraints": {"allow": {"models": 5}}}`,
		"a name where an id must be":  `{"constraints": {"deny": {"models": ["gpt"]}}}`,
		"a time without a unit":       `{"constraints": {"max_time_to_first_token": "5"}}`,
		"a negative time":             `{"scheduling": {"deadline": "-5s"}}`,
		"an amount that is no number": `{"constraints": {"max_cost": [{"amount": "free", "currency": "EUR"}]}}`,
	}
	for name, spec := range specs {
		exec(t, conn, "insert into policies (name, level, project_id, on_request, labels, spec, revision) values ($1, 'project', $2, true, '{\"a\": \"b\"}', $3, 5)", name, c.project, spec)
	}
	addPolicy(t, s, &logos.Policy{Name: "a good one", When: "request.stream"})
	loaded := loadPolicies(t, s)
	for _, p := range loaded {
		if p.Name == "a good one" {
			if p.When != "request.stream" {
				t.Errorf("the good one is %+v", p)
			}
			continue
		}
		want := &logos.Policy{
			ID: p.ID, Name: p.Name, Revision: 5, Level: logos.LevelProject, Owner: int64(c.project), OnRequest: true, Labels: map[string]string{"a": "b"},
			Constraints: logos.Constraints{Allow: logos.Targets{Models: []logos.ModelID{}}},
		}
		if diff := cmp.Diff(want, p); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
	}
	if len(loaded) != len(specs)+1 {
		t.Errorf("%d policies are loaded", len(loaded))
	}
	if n := strings.Count(log.String(), "a policy can't be read; it allows nothing"); n != len(specs) {
		t.Errorf("%d of them are logged, want %d", n, len(specs))
	}
}

func TestASpecHoldsNoNull(t *testing.T) {
	t.Parallel()
	_, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	for _, spec := range []string{`null`, `[]`, `"x"`, `{"when": null}`, `{"constraints": {"allow": {"models": null}}}`, `{"rules": [null]}`} {
		if _, err := conn.Exec(t.Context(), "insert into policies (name, level, spec, revision) values ('x', 'installation', $1, 1)", spec); err == nil {
			t.Errorf("the spec %s is stored", spec)
		}
	}
}

func TestAPolicyHasTheOwnerOfItsLevel(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c := fill(t, s)
	conn := pgtest.Conn(t, url)
	exec(t, conn, "insert into teams (name, revision) values ('a', 1)")
	owners := map[string]int64{"team_id": 1, "project_id": int64(c.project), "profile_id": int64(c.profile), "api_key_id": 1}
	levels := map[string]string{"installation": "", "team": "team_id", "project": "project_id", "access_profile": "profile_id", "api_key": "api_key_id", "planet": ""}
	for level, right := range levels {
		for column, id := range owners {
			_, err := conn.Exec(t.Context(), "insert into policies (name, level, revision, "+column+") values ('x', $1, 1, $2)", level, id)
			if (err == nil) != (column == right) {
				t.Errorf("level %s with %s: %v", level, column, err)
			}
		}
		_, err := conn.Exec(t.Context(), "insert into policies (name, level, revision) values ('x', $1, 1)", level)
		if (err == nil) != (level == "installation") {
			t.Errorf("level %s without an owner: %v", level, err)
		}
	}
	for _, p := range loadPolicies(t, s) {
		if want := owners[levels[p.Level.String()]]; p.Owner != want {
			t.Errorf("the policy of level %s has the owner %d, want %d", p.Level, p.Owner, want)
		}
	}
}

func TestEveryRevisionOfAPolicyIsKept(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	addPolicy(t, s, &logos.Policy{Name: "first"})
	change := func(names ...string) {
		t.Helper()
		if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
			for _, name := range names {
				if err := tx.Update(ctx, store.Policies, 1, store.Columns{"name": name}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	change("second")
	change("never seen", "third") // one revision, one version
	if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.Update(ctx, store.Policies, 1, store.Columns{"name": "not kept"}); err != nil {
			return err
		}
		return logos.Errorf(logos.Invalid, "x", "no")
	}); err == nil {
		t.Fatal("the change is made")
	}
	if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, store.Policies, 1) }); err != nil {
		t.Fatal(err)
	}
	got := column[string](t, conn, "select revision || ' ' || (document ->> 'name') || ' ' || (document -> 'deleted_at' <> 'null') from policy_versions order by revision")
	if want := []string{"1 first false", "2 second false", "3 third false", "4 third true"}; !slices.Equal(got, want) {
		t.Errorf("the versions are %q, want %q", got, want)
	}
	for _, statement := range []string{"update policy_versions set revision = 9", "delete from policy_versions", "truncate policy_versions"} {
		if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s gives %v", statement, err)
		}
	}
	page, err := s.List(t.Context(), store.PolicyVersions, store.Scope{}, store.Query{Filter: "id = 1", Size: 10, Deleted: true})
	if err != nil || len(page.Documents) != 4 {
		t.Fatalf("the versions are %s, %v", page.Documents, err)
	}
	var last struct{ Name, Etag string }
	if err := json.Unmarshal(page.Documents[1], &last); err != nil || last.Name != "third" || last.Etag != "3" {
		t.Errorf("the last but one is %s", page.Documents[1])
	}
}

func TestDeletionsLeaveListsOfPoliciesAsStrict(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c := fill(t, s)
	exec(t, pgtest.Conn(t, url), "update profiles set passthrough = false")
	remove := func(k *store.Kind, id int64) error {
		_, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, k, id) })
		return err
	}
	targets := logos.Targets{Models: []logos.ModelID{c.model}, Providers: []logos.ProviderID{c.provider}, Deployments: []logos.DeploymentID{c.deployment}}
	addPolicy(t, s, &logos.Policy{Name: "denies", Constraints: logos.Constraints{Deny: targets}})
	addPolicy(t, s, &logos.Policy{Name: "allows", Constraints: logos.Constraints{Allow: targets}})
	for _, x := range []struct {
		kind *store.Kind
		id   int64
	}{{store.Models, int64(c.model)}, {store.Providers, int64(c.provider)}, {store.Deployments, int64(c.deployment)}} {
		if err := remove(x.kind, x.id); logos.KindOf(err) != logos.Conflict || !strings.Contains(err.Error(), "policy 1") {
			t.Errorf("a %s that is denied is deleted: %v", x.kind.Name, err)
		}
	}
	if err := remove(store.Policies, 1); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		kind *store.Kind
		id   int64
	}{{store.Deployments, int64(c.deployment)}, {store.Models, int64(c.model)}, {store.Providers, int64(c.provider)}} {
		if err := remove(x.kind, x.id); err != nil {
			t.Errorf("a %s that is allowed is not deleted: %v", x.kind.Name, err)
		}
	}
	loaded := loadPolicies(t, s)
	if diff := cmp.Diff(targets, loaded[0].Constraints.Allow); diff != "" || len(loaded) != 1 {
		t.Errorf("the allow lists differ (-before +after):\n%s", diff)
	}
	doc, err := s.Get(t.Context(), store.Policies, store.Scope{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Constraints struct{ Allow map[string]any }
	}
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"models": map[string]any{"names": []any{}}, "providers": map[string]any{"names": []any{}}, "deployments": map[string]any{"deployments": []any{}}}
	if diff := cmp.Diff(want, got.Constraints.Allow); diff != "" {
		t.Errorf("the lists are shown otherwise than empty (-want +got):\n%s", diff)
	}
}

func TestPoliciesGoWithTheirOwners(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c := fill(t, s)
	conn := pgtest.Conn(t, url)
	key, err := addKey(t, s, c.project)
	if err != nil || key == "" {
		t.Fatal(err)
	}
	exec(t, conn, "insert into teams (name, revision) values ('a', 1)")
	exec(t, conn, `insert into policies (name, level, team_id, project_id, profile_id, api_key_id, revision) values
		('t', 'team', 1, null, null, null, 1), ('p', 'project', null, $1, null, null, 1), ('f', 'access_profile', null, null, $2, null, 1), ('k', 'api_key', null, null, null, 2, 1), ('i', 'installation', null, null, null, null, 1)`, c.project, c.profile)
	for _, x := range []struct {
		kind *store.Kind
		id   int64
		left []string
	}{
		{store.Teams, 1, []string{"p", "f", "k", "i"}}, {store.APIKeys, 2, []string{"p", "f", "i"}}, {store.AccessProfiles, int64(c.profile), []string{"p", "i"}},
	} {
		if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, x.kind, x.id) }); err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, p := range loadPolicies(t, s) {
			names = append(names, p.Name)
		}
		if !slices.Equal(names, x.left) {
			t.Errorf("without the %s there are the policies %q, want %q", x.kind.Name, names, x.left)
		}
	}
}

// TestWhatPoliciesNeedIsLoaded holds what conditions and scores are over.
func TestWhatPoliciesNeedIsLoaded(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c := fill(t, s)
	conn := pgtest.Conn(t, url)
	for _, statement := range []string{
		`insert into teams (name, labels, revision) values ('red', '{"t": "1"}', 2)`,
		`update projects set labels = '{"p": "1"}', team_id = 1, revision = 2`,
		`update providers set labels = '{"v": "1"}', privacy_zone = 'eu_eu', revision = 2`,
		`update models set labels = '{"m": "1"}', capabilities = '{tools,vision}', context_window = 8192, max_output_tokens = 1024, quality = 0, task_quality = '{"code": 0.5}', task_accuracy = '{"law": 1}', revision = 2`,
		`update deployments set labels = '{"d": "1"}', drained = true, revision = 2`,
		`update settings set task_matchers = '[{"name": "law", "keywords": ["court"]}, {"name": "tutor", "system": true, "patterns": ["(?i)tutor"]}]'`,
		`update config_revision set revision = 2`,
	} {
		exec(t, conn, statement)
	}
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	zero := 0.0
	for what, c := range map[string]struct{ want, got any }{
		"team":    {&logos.Team{ID: 1, Name: "red", Labels: map[string]string{"t": "1"}}, config.Team(1)},
		"project": {&logos.Project{ID: c.project, TeamID: 1, Name: "a project", Labels: map[string]string{"p": "1"}}, config.Project(c.project)},
		"model": {&logos.Model{ID: c.model, Name: "a-model", Capabilities: []string{"tools", "vision"}, ContextWindow: 8192, MaxOutputTokens: 1024, Quality: &zero,
			TaskQuality: map[string]float64{"code": 0.5}, TaskAccuracy: map[string]float64{"law": 1}, Labels: map[string]string{"m": "1"}}, config.ModelByID(c.model)},
		"zone":               {logos.ZoneEUByEU, config.Provider(c.provider).PrivacyZone},
		"provider's labels":  {map[string]string{"v": "1"}, config.Provider(c.provider).Labels},
		"deployment drained": {true, config.Deployments(c.provider)[0].Drained},
		"deployment labels":  {map[string]string{"d": "1"}, config.Deployments(c.provider)[0].Labels},
		"tasks":              {[]logos.TaskMatcher{{Name: "law", Keywords: []string{"court"}}, {Name: "tutor", System: true, Patterns: []string{"(?i)tutor"}}}, *config.Tasks()},
	} {
		if diff := cmp.Diff(c.want, c.got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	exec(t, conn, `update settings set task_matchers = '[{"name": 5}]'`)
	if config, err = s.Load(t.Context()); err != nil || len(*config.Tasks()) != 1 || (*config.Tasks())[0].Name != "" {
		t.Errorf("matchers that can't be read become %+v, %v; want one that can't be used", *config.Tasks(), err)
	}
	k, _ := config.FindKey(string(c.key))
	if k.Labels != nil {
		t.Error("a key without labels has a map")
	}
}

func TestGoingBackSaysWhichPoliciesAreLost(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	fill(t, s)
	conn := pgtest.Conn(t, url)
	if err := s.MigrateTo(t.Context(), 2, false); err != nil {
		t.Fatalf("an installation without policies does not go back: %v", err)
	}
	if err := s.MigrateTo(t.Context(), 3, false); err != nil {
		t.Fatal(err)
	}
	addPolicy(t, s, everything())
	exec(t, conn, `update models set task_quality = '{"code": 0.5}'`)
	exec(t, conn, "update deployments set drained = true")
	exec(t, conn, `update settings set task_matchers = '[{"name": "law", "keywords": ["court"]}]'`)
	err := s.MigrateTo(t.Context(), 2, false)
	for _, want := range []string{"allowed again (1)", "versions of policies (1)", "by task (1)", "take calls again (1)", "task matchers (1)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if err := s.MigrateTo(t.Context(), 2, true); err != nil {
		t.Error(err)
	}
}
