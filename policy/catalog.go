package policy

import (
	"maps"
	"math"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/ls1intum/edutelligence/logos"
)

// The capabilities that a request shows to need.
const (
	CapabilityTools      = "tools"
	CapabilityVision     = "vision"
	CapabilityJSONSchema = "json_schema"
)

// A capabilities set has the three of those that requests show.
type capabilities uint8

const (
	hasTools capabilities = 1 << iota
	hasVision
	hasJSONSchema
)

func (c capabilities) first() string {
	switch {
	case c&hasTools != 0:
		return CapabilityTools
	case c&hasVision != 0:
		return CapabilityVision
	}
	return CapabilityJSONSchema
}

// facts are what is configured of a deployment.
type facts struct {
	deployment *logos.Deployment
	provider   *logos.Provider
	model      *logos.Model

	labels            map[string]string
	capabilities      capabilities
	quality, accuracy float64 // NaN: not declared
	values            [numConfigured - numCall]ref.Val
	numbers           [numConfigured - numCall]number // the same, where they are numbers
}

// A catalog holds the facts of all deployments.
type catalog struct {
	index map[logos.DeploymentID]int
	facts []*facts
}

// newCatalog takes over the facts that did not change.
func newCatalog(targets []*logos.Target, previous *catalog) *catalog {
	c := &catalog{index: make(map[logos.DeploymentID]int, len(targets))}
	for _, t := range targets {
		if t.Deployment == nil || t.Model == nil {
			continue
		}
		if _, seen := c.index[t.Deployment.ID]; seen {
			continue
		}
		c.index[t.Deployment.ID] = len(c.facts)
		if f := previous.find(t.Deployment.ID); f != nil && f.deployment == t.Deployment && f.provider == t.Provider && f.model == t.Model {
			c.facts = append(c.facts, f)
			continue
		}
		c.facts = append(c.facts, newFacts(t))
	}
	return c
}

// same says whether another catalog has the same facts in the same order.
func (c *catalog) same(other *catalog) bool {
	return other != nil && slices.Equal(c.facts, other.facts)
}

func (c *catalog) find(id logos.DeploymentID) *facts {
	if c == nil {
		return nil
	}
	if i, ok := c.index[id]; ok {
		return c.facts[i]
	}
	return nil
}

func newFacts(t *logos.Target) *facts {
	f := &facts{deployment: t.Deployment, provider: t.Provider, model: t.Model, quality: declared(t.Model.Quality), accuracy: declared(t.Model.Accuracy)}
	f.labels = make(map[string]string)
	for _, labels := range []map[string]string{t.Provider.Labels, t.Model.Labels, t.Deployment.Labels} {
		for k, v := range labels {
			f.labels[k] = v
		}
	}
	for _, name := range t.Model.Capabilities {
		switch name {
		case CapabilityTools:
			f.capabilities |= hasTools
		case CapabilityVision:
			f.capabilities |= hasVision
		case CapabilityJSONSchema:
			f.capabilities |= hasJSONSchema
		}
	}
	for i := range f.values {
		f.values[i] = f.value(numCall + i)
		f.numbers[i] = numberOf(f.values[i])
	}
	return f
}

func declared(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}

// value makes a CEL value of a fact.
func (f *facts) value(i int) ref.Val {
	switch i {
	case varDeploymentID:
		return types.Int(f.deployment.ID)
	case varProviderID:
		return types.Int(f.provider.ID)
	case varProvider:
		return text(f.provider.Name)
	case varDialect:
		return text(string(f.provider.Dialect))
	case varZone:
		return text(f.provider.PrivacyZone.Effective().String())
	case varModelID:
		return types.Int(f.model.ID)
	case varCandidateModel:
		return text(f.model.Name)
	case varProviderModel:
		return text(f.deployment.ProviderModel)
	case varLabels:
		return textMap(f.labels)
	case varCapabilities:
		return texts(f.model.Capabilities)
	case varContextWindow:
		if f.model.ContextWindow == 0 {
			return unknown(i)
		}
		return types.Int(f.model.ContextWindow)
	case varQuality:
		return double(f.quality, i)
	case varAccuracy:
		return double(f.accuracy, i)
	case varTaskQuality:
		return doubles(f.model.TaskQuality)
	default:
		return doubles(f.model.TaskAccuracy)
	}
}

func double(v float64, i int) ref.Val {
	if math.IsNaN(v) {
		return unknown(i)
	}
	return types.Double(v)
}

func doubles(m map[string]float64) ref.Val {
	return valueMap(m, func(v float64) ref.Val { return types.Double(v) })
}

func textMap(m map[string]string) ref.Val {
	return valueMap(m, func(v string) ref.Val { return text(v) })
}

// valueMap makes a CEL map, of no more pairs than expressions are allowed to see.
func valueMap[V any](m map[string]V, value func(V) ref.Val) ref.Val {
	values := make(map[ref.Val]ref.Val, len(m))
	for _, k := range slices.Sorted(maps.Keys(m))[:min(len(m), maxMapLength)] {
		values[types.String(clip(k, maxNameLength))] = value(m[k])
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, values)
}

// qualityFor returns the declared quality that counts for tasks: the least of theirs, else the overall one.
// NaN: none is declared.
func (f *facts) qualityFor(tasks []string) float64 {
	return declaredFor(f.quality, f.model.TaskQuality, tasks)
}

func declaredFor(overall float64, byTask map[string]float64, tasks []string) float64 {
	out := math.NaN()
	for _, task := range tasks {
		if v, ok := byTask[task]; ok && !(out <= v) {
			out = v
		}
	}
	if math.IsNaN(out) {
		return overall
	}
	return out
}
