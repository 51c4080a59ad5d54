package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// Limits of a policy.
const (
	maxRules       = 16
	maxItems       = 1000 // of each list
	maxExploration = 0.1
	maxWeight      = 1000
)

// A Problem is something wrong in a policy, for the person who wrote it.
type Problem struct {
	Field        string // e.g. "rules[2].require"
	Line, Column int    // in an expression, from 1; 0: the field as a whole
	Message      string
}

// String returns the problem in one line.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Field + ": " + p.Message
	}
	return fmt.Sprintf("%s, line %d, column %d: %s", p.Field, p.Line, p.Column, p.Message)
}

// Check returns what is wrong in a policy; nothing, if it can be used.
func Check(p *logos.Policy) ([]Problem, error) {
	env, err := newEnvironment()
	if err != nil {
		return nil, err
	}
	_, found := env.program(p)
	return found, nil
}

// problems puts CEL's issues into words.
func problems(source string, issues *cel.Issues) []Problem {
	var out []Problem
	for _, e := range issues.Errors() {
		line, column := e.Location.Line(), e.Location.Column()+1
		message := strings.ReplaceAll(e.Message, " (in container '')", "")
		if strings.HasPrefix(message, "undeclared reference to ") {
			if name, _ := nameAt(source, line, column); name != "" {
				message = fmt.Sprintf("there is no %s: there are %s", name, strings.Join(namesLike(name), ", "))
			}
		}
		out = append(out, Problem{Line: max(line, 1), Column: max(column, 1), Message: message})
		if len(out) == 10 {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	return out
}

// nameAt returns the name with its dots around a place in an expression, and the column where it begins.
func nameAt(source string, line, column int) (string, int) {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return "", column
	}
	runes := []rune(lines[line-1])
	isName := func(i int) bool {
		return i >= 0 && i < len(runes) && (runes[i] == '_' || runes[i] == '.' || runes[i] >= 'a' && runes[i] <= 'z' || runes[i] >= 'A' && runes[i] <= 'Z' || runes[i] >= '0' && runes[i] <= '9')
	}
	start := min(column-1, len(runes))
	end := start
	for isName(start - 1) {
		start--
	}
	for isName(end) {
		end++
	}
	return strings.Trim(string(runes[start:end]), "."), start + 1
}

// namesLike returns the variables with the same prefix, or all prefixes.
func namesLike(name string) (out []string) {
	prefix, _, _ := strings.Cut(name, ".")
	for _, v := range table {
		if strings.HasPrefix(v.Name, prefix+".") {
			out = append(out, v.Name)
		}
	}
	if out == nil {
		out = []string{"request.…", "caller.…", "candidate.…"}
	}
	return out
}

// An inspection gathers the problems of one policy.
type inspection struct {
	policy *logos.Policy
	found  []Problem
}

func (c *inspection) errorf(field, format string, args ...any) {
	c.found = append(c.found, Problem{Field: field, Message: fmt.Sprintf(format, args...)})
}

var (
	ruleName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// check finds what is wrong beside the expressions.
func (c *inspection) check() {
	c.level()
	c.constraints()
	c.rules()
	c.relax()
	if c.policy.Objective != nil {
		c.objective(c.policy.Objective)
	}
	c.attempts()
}

func (c *inspection) level() {
	p := c.policy
	if p.Level > logos.LevelAPIKey {
		c.errorf("level", "there is no such level")
	}
	if (p.Level == logos.LevelInstallation) != (p.Owner == 0) {
		c.errorf("owner", "a policy of the installation has no owner, and any other has one")
	}
	if p.OnRequest && p.Name == "" {
		c.errorf("name", "a policy that applies to calls that name it needs a name")
	}
}

func (c *inspection) constraints() {
	k := &c.policy.Constraints
	if k.MaxPrivacyZone > logos.ZoneAnywhere {
		c.errorf("constraints.max_privacy_zone", "there is no such zone")
	}
	c.fraction("constraints.min_quality", k.MinQuality)
	c.fraction("constraints.min_accuracy", k.MinAccuracy)
	for task, v := range k.MinTaskQuality {
		c.fraction(fmt.Sprintf("constraints.min_task_quality[%q]", task), v)
	}
	for task, v := range k.MinTaskAccuracy {
		c.fraction(fmt.Sprintf("constraints.min_task_accuracy[%q]", task), v)
	}
	c.duration("constraints.max_time_to_first_token", k.MaxFirstToken)
	for i, m := range k.MaxCost {
		field := fmt.Sprintf("constraints.max_cost[%d]", i)
		c.money(field, m)
		if slices.ContainsFunc(k.MaxCost[:i], func(x logos.Money) bool { return x.Currency == m.Currency }) {
			c.errorf(field, "there is a limit in %s already", m.Currency)
		}
	}
	c.targets("constraints.allow", k.Allow)
	c.targets("constraints.deny", k.Deny)
	c.length("constraints.capabilities", len(k.Capabilities))
	c.length("constraints.labels", len(k.Labels))
	for i, l := range k.Labels {
		c.label(fmt.Sprintf("constraints.labels[%d]", i), l)
	}
}

func (c *inspection) label(field string, l logos.LabelRequirement) {
	if l.Label == "" {
		c.errorf(field, "it names no label")
	}
	switch l.Operator {
	case logos.LabelIn, logos.LabelNotIn:
		if len(l.Values) == 0 {
			c.errorf(field, "the operator %s needs values", l.Operator)
		}
	case logos.LabelExists, logos.LabelNotExists:
		if len(l.Values) != 0 {
			c.errorf(field, "the operator %s has no values", l.Operator)
		}
	default:
		c.errorf(field, "%.40q is no operator: use in, not_in, exists or not_exists", l.Operator)
	}
}

func (c *inspection) rules() {
	if len(c.policy.Rules) > maxRules {
		c.errorf("rules", "there are %d: use at most %d", len(c.policy.Rules), maxRules)
	}
	seen := make(map[string]bool)
	for i, r := range c.policy.Rules {
		field := fmt.Sprintf("rules[%d]", i)
		if !ruleName.MatchString(r.Name) {
			c.errorf(field+".name", "%.80q is no name of a rule: use lower-case letters, digits, _ and -", r.Name)
		}
		if seen[r.Name] {
			c.errorf(field+".name", "another rule is called %q too", r.Name)
		}
		seen[r.Name] = true
		if r.Kind != logos.RuleAccess && r.Kind != logos.RulePrivacy && r.Kind != logos.RulePreference {
			c.errorf(field+".kind", "%.40q is no kind of rule: use privacy, preference or, for access, none", r.Kind)
		}
		if r.Require == "" {
			c.errorf(field+".require", "it requires nothing")
		}
	}
}

func (c *inspection) relax() {
	for i, name := range c.policy.Relax {
		field := fmt.Sprintf("relax[%d]", i)
		switch {
		case name == logos.ConstraintPrivacyZone || name == logos.ConstraintAccess:
			c.errorf(field, "%s is never relaxed", name)
		case !c.policy.Demands(name):
			c.errorf(field, "this policy has no constraint %.80q", name)
		case slices.Contains(c.policy.Relax[:i], name):
			c.errorf(field, "%s is there twice", name)
		}
		if rule, ok := strings.CutPrefix(string(name), "rule:"); ok {
			for _, r := range c.policy.Rules {
				if r.Name == rule && r.Kind != logos.RulePreference {
					c.errorf(field, "the rule %s protects privacy or access, and is never relaxed", rule)
				}
			}
		}
	}
}

func (c *inspection) objective(o *logos.Objective) {
	for _, w := range []struct {
		field string
		value float64
	}{
		{"cost", o.Cost}, {"latency", o.Latency}, {"quality", o.Quality}, {"load", o.Load}, {"session_bonus", o.SessionBonus},
		{"prefix_bonus", o.PrefixBonus}, {"hysteresis", o.Hysteresis}, {"tolerance", o.Tolerance},
	} {
		if !(w.value >= 0 && w.value <= maxWeight) {
			c.errorf("objective."+w.field, "use a number from 0 to %d", maxWeight)
		}
	}
	if !(o.Exploration >= 0 && o.Exploration <= maxExploration) {
		c.errorf("objective.exploration", "use a share from 0 to %g", maxExploration)
	}
	c.duration("objective.latency_scale", o.LatencyScale)
	if o.CostScale.Currency != "" || !o.CostScale.Amount.IsZero() {
		c.money("objective.cost_scale", o.CostScale)
	}
	sum := 0.0
	for i, canary := range o.Canaries {
		field := fmt.Sprintf("objective.canaries[%d]", i)
		c.targets(field, canary.Targets)
		if !(canary.Percent >= 0 && canary.Percent <= 100) {
			c.errorf(field+".percent", "use a number from 0 to 100")
		}
		sum += canary.Percent
	}
	if sum > 100 {
		c.errorf("objective.canaries", "together they have %g percent of the calls: use at most 100", sum)
	}
}

func (c *inspection) attempts() {
	a, s := &c.policy.Attempts, &c.policy.Scheduling
	if a.Max < 0 {
		c.errorf("attempts.max", "use a number from 1, or 0 for no limit")
	}
	c.duration("attempts.total_time", a.TotalTime)
	c.duration("attempts.first_token", a.FirstToken)
	c.duration("scheduling.max_queue_time", s.MaxQueueTime)
	c.duration("scheduling.deadline", s.Deadline)
	for _, on := range a.On {
		switch on {
		case logos.RetryConnectFailure, logos.RetryReset, logos.RetryServerError, logos.RetryRateLimited, logos.RetrySilent, logos.RetryContextLength:
		default:
			c.errorf("attempts.on", "%.40q is no condition: use connect_failure, reset, server_error, rate_limited, silent or context_length", on)
		}
	}
}

func (c *inspection) fraction(field string, v float64) {
	if !(v >= 0 && v <= 1) {
		c.errorf(field, "use a number from 0 to 1")
	}
}

func (c *inspection) duration(field string, d time.Duration) {
	if d < 0 {
		c.errorf(field, "a time can't be negative")
	}
}

func (c *inspection) money(field string, m logos.Money) {
	if !currency.MatchString(m.Currency) {
		c.errorf(field, "%.10q is no currency: use a code like EUR", m.Currency)
	}
	if picos, ok := picosOf(m.Amount, decimal.Decimal.Floor); !ok || picos < 0 {
		c.errorf(field, "use an amount from 0 to 1000000")
	}
}

func (c *inspection) targets(field string, t logos.Targets) {
	c.length(field+".models", len(t.Models))
	c.length(field+".providers", len(t.Providers))
	c.length(field+".deployments", len(t.Deployments))
}

func (c *inspection) length(field string, n int) {
	if n > maxItems {
		c.errorf(field, "there are %d: use at most %d", n, maxItems)
	}
}
