package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// A policySpec is what a policy demands, as it is stored: named like the fields of its message in the admin
// API, with ids for names. It is read strictly, since a part that is not understood might be a restriction.
// A list that is not there and an empty one are different things.
type policySpec struct {
	When        string             `json:"when,omitzero"`
	Constraints constraintsSpec    `json:"constraints,omitzero"`
	Rules       []ruleSpec         `json:"rules,omitzero"`
	Relax       []logos.Constraint `json:"relax,omitzero"`
	Objective   *objectiveSpec     `json:"objective,omitzero"`
	Attempts    attemptsSpec       `json:"attempts,omitzero"`
	Scheduling  schedulingSpec     `json:"scheduling,omitzero"`
}

type constraintsSpec struct {
	MaxPrivacyZone  zone               `json:"max_privacy_zone,omitzero"`
	Allow           targetsSpec        `json:"allow,omitzero"`
	Deny            targetsSpec        `json:"deny,omitzero"`
	Labels          []labelSpec        `json:"labels,omitzero"`
	Capabilities    []string           `json:"capabilities,omitzero"`
	RequireUsed     bool               `json:"require_used,omitzero"`
	MinQuality      float64            `json:"min_quality,omitzero"`
	MinAccuracy     float64            `json:"min_accuracy,omitzero"`
	MinTaskQuality  map[string]float64 `json:"min_task_quality,omitzero"`
	MinTaskAccuracy map[string]float64 `json:"min_task_accuracy,omitzero"`
	MaxCost         []moneySpec        `json:"max_cost,omitzero"`
	DenyUnpriced    bool               `json:"deny_unpriced,omitzero"`
	MaxFirstToken   seconds            `json:"max_time_to_first_token,omitzero"`
}

type targetsSpec struct {
	Models      []logos.ModelID      `json:"models,omitzero"`
	Providers   []logos.ProviderID   `json:"providers,omitzero"`
	Deployments []logos.DeploymentID `json:"deployments,omitzero"`
}

type labelSpec struct {
	Label    string              `json:"label"`
	Operator logos.LabelOperator `json:"operator"`
	Values   []string            `json:"values,omitzero"`
}

type moneySpec struct {
	Amount   decimal.Decimal `json:"amount"`
	Currency string          `json:"currency"`
}

type ruleSpec struct {
	Name    string         `json:"name"`
	Kind    logos.RuleKind `json:"kind,omitzero"`
	When    string         `json:"when,omitzero"`
	Require string         `json:"require"`
}

type objectiveSpec struct {
	Cost         float64      `json:"cost,omitzero"`
	Latency      float64      `json:"latency,omitzero"`
	Quality      float64      `json:"quality,omitzero"`
	Load         float64      `json:"load,omitzero"`
	CostScale    *moneySpec   `json:"cost_scale,omitzero"`
	LatencyScale seconds      `json:"latency_scale,omitzero"`
	SessionBonus float64      `json:"session_bonus,omitzero"`
	PrefixBonus  float64      `json:"prefix_bonus,omitzero"`
	Hysteresis   float64      `json:"hysteresis,omitzero"`
	Tolerance    float64      `json:"tolerance,omitzero"`
	Exploration  float64      `json:"exploration,omitzero"`
	Canaries     []canarySpec `json:"canaries,omitzero"`
}

type canarySpec struct {
	Targets targetsSpec `json:"targets,omitzero"`
	Percent float64     `json:"percent,omitzero"`
}

type attemptsSpec struct {
	Max        int                    `json:"max,omitzero"`
	On         []logos.RetryCondition `json:"on,omitzero"`
	TotalTime  seconds                `json:"total_time,omitzero"`
	FirstToken seconds                `json:"first_token,omitzero"`
}

type schedulingSpec struct {
	Priority     *int    `json:"priority,omitzero"`
	MaxQueueTime seconds `json:"max_queue_time,omitzero"`
	Deadline     seconds `json:"deadline,omitzero"`
}

// zone is stored by name.
type zone logos.PrivacyZone

func (z zone) MarshalText() ([]byte, error) { return []byte(logos.PrivacyZone(z).String()), nil }

func (z *zone) UnmarshalText(text []byte) error {
	known, err := logos.ParsePrivacyZone(string(text))
	*z = zone(known)
	return err
}

// seconds are stored as proto's JSON has durations, e.g. "1.5s".
type seconds time.Duration

func (s seconds) MarshalText() ([]byte, error) {
	text := fmt.Sprintf("%d.%09d", time.Duration(s)/time.Second, time.Duration(s)%time.Second)
	return []byte(strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "s"), nil
}

func (s *seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err == nil && d < 0 {
		err = errors.New("a time is negative")
	}
	*s = seconds(d)
	return err
}

// PolicySpec returns what a policy demands, as it is stored.
func PolicySpec(p *logos.Policy) (json.RawMessage, error) {
	spec := policySpec{
		When: p.When, Constraints: constraintsOf(&p.Constraints), Relax: p.Relax,
		Attempts:   attemptsSpec{p.Attempts.Max, p.Attempts.On, seconds(p.Attempts.TotalTime), seconds(p.Attempts.FirstToken)},
		Scheduling: schedulingSpec{p.Scheduling.Priority, seconds(p.Scheduling.MaxQueueTime), seconds(p.Scheduling.Deadline)},
	}
	for _, r := range p.Rules {
		spec.Rules = append(spec.Rules, ruleSpec(r))
	}
	if p.Objective != nil {
		spec.Objective = objectiveOf(p.Objective)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode a policy: %w", err)
	}
	return text, nil
}

func constraintsOf(c *logos.Constraints) constraintsSpec {
	out := constraintsSpec{
		MaxPrivacyZone: zone(c.MaxPrivacyZone), Allow: targetsSpec(c.Allow), Deny: targetsSpec(c.Deny), Capabilities: c.Capabilities,
		RequireUsed: c.RequireUsed, MinQuality: c.MinQuality, MinAccuracy: c.MinAccuracy, MinTaskQuality: c.MinTaskQuality,
		MinTaskAccuracy: c.MinTaskAccuracy, DenyUnpriced: c.DenyUnpriced, MaxFirstToken: seconds(c.MaxFirstToken),
	}
	for _, l := range c.Labels {
		out.Labels = append(out.Labels, labelSpec(l))
	}
	for _, m := range c.MaxCost {
		out.MaxCost = append(out.MaxCost, moneySpec(m))
	}
	return out
}

func objectiveOf(o *logos.Objective) *objectiveSpec {
	out := &objectiveSpec{
		Cost: o.Cost, Latency: o.Latency, Quality: o.Quality, Load: o.Load, LatencyScale: seconds(o.LatencyScale),
		SessionBonus: o.SessionBonus, PrefixBonus: o.PrefixBonus, Hysteresis: o.Hysteresis, Tolerance: o.Tolerance, Exploration: o.Exploration,
	}
	if o.CostScale.Currency != "" {
		out.CostScale = &moneySpec{o.CostScale.Amount, o.CostScale.Currency}
	}
	for _, c := range o.Canaries {
		out.Canaries = append(out.Canaries, canarySpec{targetsSpec(c.Targets), c.Percent})
	}
	return out
}

// readSpec adds what is stored of a policy's demands. It refuses what it does not know.
func readSpec(text []byte, p *logos.Policy) error {
	var spec policySpec
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more behind it")
	}
	if err := spec.known(); err != nil {
		return err
	}
	spec.into(p)
	return nil
}

// known refuses words that this program does not know.
func (s *policySpec) known() error {
	for _, l := range s.Constraints.Labels {
		if !slices.Contains([]logos.LabelOperator{logos.LabelIn, logos.LabelNotIn, logos.LabelExists, logos.LabelNotExists}, l.Operator) {
			return errors.New("an operator on labels is not known")
		}
	}
	for _, r := range s.Rules {
		if !slices.Contains([]logos.RuleKind{logos.RuleAccess, logos.RulePrivacy, logos.RulePreference}, r.Kind) {
			return errors.New("a kind of rules is not known")
		}
	}
	return nil
}

func (s *policySpec) into(p *logos.Policy) {
	c := &s.Constraints
	p.When, p.Relax = s.When, s.Relax
	p.Constraints = logos.Constraints{
		MaxPrivacyZone: logos.PrivacyZone(c.MaxPrivacyZone), Allow: logos.Targets(c.Allow), Deny: logos.Targets(c.Deny), Capabilities: c.Capabilities,
		RequireUsed: c.RequireUsed, MinQuality: c.MinQuality, MinAccuracy: c.MinAccuracy, MinTaskQuality: c.MinTaskQuality,
		MinTaskAccuracy: c.MinTaskAccuracy, DenyUnpriced: c.DenyUnpriced, MaxFirstToken: time.Duration(c.MaxFirstToken),
	}
	for _, l := range c.Labels {
		p.Constraints.Labels = append(p.Constraints.Labels, logos.LabelRequirement(l))
	}
	for _, m := range c.MaxCost {
		p.Constraints.MaxCost = append(p.Constraints.MaxCost, logos.Money(m))
	}
	for _, r := range s.Rules {
		p.Rules = append(p.Rules, logos.Rule(r))
	}
	if s.Objective != nil {
		p.Objective = s.Objective.objective()
	}
	a, w := &s.Attempts, &s.Scheduling
	p.Attempts = logos.AttemptLimits{Max: a.Max, On: a.On, TotalTime: time.Duration(a.TotalTime), FirstToken: time.Duration(a.FirstToken)}
	p.Scheduling = logos.Scheduling{Priority: w.Priority, MaxQueueTime: time.Duration(w.MaxQueueTime), Deadline: time.Duration(w.Deadline)}
}

func (s *objectiveSpec) objective() *logos.Objective {
	o := &logos.Objective{
		Cost: s.Cost, Latency: s.Latency, Quality: s.Quality, Load: s.Load, LatencyScale: time.Duration(s.LatencyScale),
		SessionBonus: s.SessionBonus, PrefixBonus: s.PrefixBonus, Hysteresis: s.Hysteresis, Tolerance: s.Tolerance, Exploration: s.Exploration,
	}
	if s.CostScale != nil {
		o.CostScale = logos.Money(*s.CostScale)
	}
	for _, c := range s.Canaries {
		o.Canaries = append(o.Canaries, logos.Canary{Targets: logos.Targets(c.Targets), Percent: c.Percent})
	}
	return o
}
