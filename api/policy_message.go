package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// policy makes a policy of its message, without its owner.
func (c *change) policy(ctx context.Context, m, before *adminv1.Policy) (*logos.Policy, error) {
	f := &finder{change: c, known: make(map[string]bool)}
	f.note(before)
	p := &logos.Policy{Name: m.GetName(), OnRequest: m.GetOnRequest(), Labels: m.GetLabels(), When: m.GetWhen()}
	var err error
	if p.Constraints, err = f.constraints(ctx, m.GetConstraints()); err != nil {
		return nil, inside("constraints", err)
	}
	for _, r := range m.GetRules() {
		p.Rules = append(p.Rules, logos.Rule{Name: r.GetName(), Kind: logos.RuleKind(r.GetKind()), When: r.GetWhen(), Require: r.GetRequire()})
	}
	for _, name := range m.GetRelax() {
		p.Relax = append(p.Relax, logos.Constraint(name))
	}
	if m.GetObjective() != nil {
		if p.Objective, err = f.objective(ctx, m.GetObjective()); err != nil {
			return nil, inside("objective", err)
		}
	}
	a, s := m.GetAttempts(), m.GetScheduling()
	p.Attempts = logos.AttemptLimits{Max: int(a.GetMax()), TotalTime: a.GetTotalTime().AsDuration(), FirstToken: a.GetFirstToken().AsDuration()}
	for _, on := range a.GetOn() {
		p.Attempts.On = append(p.Attempts.On, logos.RetryCondition(on))
	}
	p.Scheduling = logos.Scheduling{MaxQueueTime: s.GetMaxQueueTime().AsDuration(), Deadline: s.GetDeadline().AsDuration()}
	if s != nil {
		p.Scheduling.Priority = whole(s.Priority)
	}
	return p, nil
}

// A finder finds what the lists of a policy name.
type finder struct {
	*change
	known map[string]bool // what the policy named before: that may lie outside of what the caller may reach
}

// note collects the names in a policy.
func (f *finder) note(m *adminv1.Policy) {
	c := m.GetConstraints()
	f.noteTargets(c.GetAllow().GetModels().GetNames(), c.GetAllow().GetProviders().GetNames(), c.GetAllow().GetDeployments().GetDeployments())
	f.noteTargets(c.GetDeny().GetModels(), c.GetDeny().GetProviders(), c.GetDeny().GetDeployments())
	for _, x := range m.GetObjective().GetCanaries() {
		f.noteTargets(x.GetTargets().GetModels(), x.GetTargets().GetProviders(), x.GetTargets().GetDeployments())
	}
}

func (f *finder) noteTargets(models, providers []string, deployments []*adminv1.DeploymentName) {
	for _, name := range models {
		f.known["model "+name] = true
	}
	for _, name := range providers {
		f.known["provider "+name] = true
	}
	for _, d := range deployments {
		f.known["deployment "+deploymentKey(d)] = true
	}
}

func deploymentKey(d *adminv1.DeploymentName) string {
	return d.GetProvider() + "\x00" + d.GetModel() + "\x00" + d.GetName()
}

// scopeOf is how far the caller may look for something.
func (f *finder) scopeOf(key string) store.Scope {
	if f.known[key] {
		return store.Scope{}
	}
	return f.scope
}

func (f *finder) constraints(ctx context.Context, m *adminv1.PolicyConstraints) (out logos.Constraints, err error) {
	out = logos.Constraints{
		Capabilities: m.GetCapabilities(), RequireUsed: m.GetRequireUsed(), MinQuality: m.GetMinQuality(), MinAccuracy: m.GetMinAccuracy(),
		MinTaskQuality: m.GetMinTaskQuality(), MinTaskAccuracy: m.GetMinTaskAccuracy(), DenyUnpriced: m.GetDenyUnpriced(),
		MaxFirstToken: m.GetMaxTimeToFirstToken().AsDuration(),
	}
	if out.MaxPrivacyZone, err = logos.ParsePrivacyZone(m.GetMaxPrivacyZone()); err != nil {
		return out, at("max_privacy_zone", err)
	}
	if out.Allow, err = f.allow(ctx, m.GetAllow()); err != nil {
		return out, inside("allow", err)
	}
	if out.Deny, err = f.targets(ctx, m.GetDeny()); err != nil {
		return out, inside("deny", err)
	}
	for _, l := range m.GetLabels() {
		out.Labels = append(out.Labels, logos.LabelRequirement{Label: l.GetLabel(), Operator: logos.LabelOperator(l.GetOperator()), Values: l.GetValues()})
	}
	for i, x := range m.GetMaxCost() {
		money, err := moneyOf(item("max_cost", i), x)
		if err != nil {
			return out, err
		}
		out.MaxCost = append(out.MaxCost, money)
	}
	return out, nil
}

func (f *finder) objective(ctx context.Context, m *adminv1.PolicyObjective) (*logos.Objective, error) {
	out := &logos.Objective{
		Cost: m.GetCost(), Latency: m.GetLatency(), Quality: m.GetQuality(), Load: m.GetLoad(), LatencyScale: m.GetLatencyScale().AsDuration(),
		SessionBonus: m.GetSessionBonus(), PrefixBonus: m.GetPrefixBonus(), Hysteresis: m.GetHysteresis(), Tolerance: m.GetTolerance(),
		Exploration: m.GetExploration(),
	}
	var err error
	if m.GetCostScale() != nil {
		if out.CostScale, err = moneyOf("cost_scale", m.GetCostScale()); err != nil {
			return nil, err
		}
	}
	for i, x := range m.GetCanaries() {
		targets, err := f.targets(ctx, x.GetTargets())
		if err != nil {
			return nil, inside(item("canaries", i)+".targets", err)
		}
		out.Canaries = append(out.Canaries, logos.Canary{Targets: targets, Percent: x.GetPercent()})
	}
	return out, nil
}

func moneyOf(field string, m *adminv1.Money) (logos.Money, error) {
	amount, err := decimal.NewFromString(m.GetAmount())
	if err != nil {
		return logos.Money{}, invalid(field+".amount", "must be a decimal number, like 0.0025")
	}
	return logos.Money{Amount: amount, Currency: m.GetCurrency()}, nil
}

// lists are what a policy names; nil: there is no such list.
type lists struct {
	models, providers []string
	deployments       []*adminv1.DeploymentName
	inner             bool // the lists stand in messages of their own, and are not nil but where those are
}

// allow keeps lists that are not there apart from empty ones.
func (f *finder) allow(ctx context.Context, m *adminv1.PolicyAllow) (logos.Targets, error) {
	of := lists{inner: true}
	if m.GetModels() != nil {
		of.models = textArray(m.GetModels().GetNames())
	}
	if m.GetProviders() != nil {
		of.providers = textArray(m.GetProviders().GetNames())
	}
	if m.GetDeployments() != nil {
		of.deployments = append([]*adminv1.DeploymentName{}, m.GetDeployments().GetDeployments()...)
	}
	return f.resolve(ctx, of)
}

// targets reads lists of which an empty one has nothing in it, like one that is not there.
func (f *finder) targets(ctx context.Context, m *adminv1.PolicyTargets) (logos.Targets, error) {
	return f.resolve(ctx, lists{models: m.GetModels(), providers: m.GetProviders(), deployments: m.GetDeployments()})
}

func (f *finder) resolve(ctx context.Context, of lists) (out logos.Targets, err error) {
	names, items := "", ""
	if of.inner {
		names, items = ".names", ".deployments"
	}
	if out.Models, err = each(of.models, "models"+names, func(field, name string) (logos.ModelID, error) { return f.model(ctx, field, name) }); err != nil {
		return out, err
	}
	if out.Providers, err = each(of.providers, "providers"+names, func(field, name string) (logos.ProviderID, error) { return f.provider(ctx, field, name) }); err != nil {
		return out, err
	}
	out.Deployments, err = each(of.deployments, "deployments"+items, func(field string, d *adminv1.DeploymentName) (logos.DeploymentID, error) {
		return f.deployment(ctx, field, d)
	})
	return out, err
}

// each finds the ids of names; of no list, it is none.
func each[N any, ID ~int64](names []N, field string, find func(field string, name N) (ID, error)) ([]ID, error) {
	if names == nil {
		return nil, nil
	}
	out := make([]ID, len(names))
	for i, name := range names {
		var err error
		if out[i], err = find(item(field, i), name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (f *finder) model(ctx context.Context, field, name string) (logos.ModelID, error) {
	id, err := f.lookUp(ctx, field, store.Models, f.scopeOf("model "+name), store.Columns{"name": name})
	return logos.ModelID(id), err
}

// provider finds a provider. Who may not see providers knows those of the deployments that they may use.
func (f *finder) provider(ctx context.Context, field, name string) (logos.ProviderID, error) {
	if scope := f.scopeOf("provider " + name); scope != (store.Scope{}) {
		if _, err := f.lookUp(ctx, field, store.Deployments, scope, store.Columns{"provider": name}); err != nil {
			return 0, err
		}
	}
	id, err := f.lookUp(ctx, field, store.Providers, store.Scope{}, store.Columns{"name": name})
	return logos.ProviderID(id), err
}

func (f *finder) deployment(ctx context.Context, field string, d *adminv1.DeploymentName) (logos.DeploymentID, error) {
	id, err := f.lookUp(ctx, field, store.Deployments, f.scopeOf("deployment "+deploymentKey(d)),
		store.Columns{"provider": d.GetProvider(), "model": d.GetModel(), "name": d.GetName()})
	return logos.DeploymentID(id), err
}

func (f *finder) lookUp(ctx context.Context, field string, k *store.Kind, in store.Scope, by store.Columns) (int64, error) {
	doc, err := f.Find(ctx, k, in, by)
	if logos.KindOf(err) == logos.NotFound {
		return 0, invalid(field, "there is no such thing, or you may not use it")
	}
	if err != nil {
		return 0, err
	}
	var found struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(doc, &found); err != nil {
		return 0, errors.Join(errInternal, err)
	}
	return found.ID, nil
}

// settlePolicy writes a policy as it is shown: what demands nothing is not there.
func settlePolicy(m *adminv1.Policy) {
	dropEmpty(m.ProtoReflect())
	for _, x := range append(m.GetConstraints().GetMaxCost(), m.GetObjective().GetCostScale()) {
		if amount, err := decimal.NewFromString(x.GetAmount()); err == nil {
			x.Amount = amount.String()
		}
	}
}

// dropEmpty clears messages that say nothing. An objective without weights orders by id, and an empty list of what
// is allowed allows nothing: these say something.
func dropEmpty(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsMap() {
			return true
		}
		if f.IsList() {
			for i := range v.List().Len() {
				dropEmpty(v.List().Get(i).Message())
			}
			return true
		}
		dropEmpty(v.Message())
		empty := true
		v.Message().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool { empty = false; return false })
		switch f.Message().Name() {
		case "PolicyObjective", "NameList", "DeploymentList":
		default:
			if empty {
				m.Clear(f)
			}
		}
		return true
	})
}
