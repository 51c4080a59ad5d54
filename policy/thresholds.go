package policy

import (
	"fmt"
	"strconv"

	"github.com/ls1intum/edutelligence/logos"
)

// Thresholds are a policy as the original system had it. Its numbers compared with the weights of models,
// which were ranks around 0 without a unit: greater was better, also for cost and latency.
type Thresholds struct {
	Name     string
	Privacy  string // e.g. "CLOUD_IN_EU_BY_US_PROVIDER"; empty: LOCAL, as it was by default
	Latency  *int   // nil: there is none
	Accuracy *int
	Cost     *int
	Quality  *int
	Priority int    // greater was first
	Topic    string // may be empty
}

// The labels of models that hold their weights of the original system. Rules of imported policies compare
// them: ranks can't be turned into seconds or money.
const (
	LabelWeightLatency  = "weight_latency"
	LabelWeightAccuracy = "weight_accuracy"
	LabelWeightCost     = "weight_cost"
	LabelWeightQuality  = "weight_quality"
)

// LabelTopic is the label of imported policies with their topic.
const LabelTopic = "topic"

var originalZones = map[string]logos.PrivacyZone{
	"":                               logos.ZoneLocal,
	"LOCAL":                          logos.ZoneLocal,
	"CLOUD_IN_EU_BY_EU_PROVIDER":     logos.ZoneEUByEU,
	"CLOUD_IN_EU_BY_US_PROVIDER":     logos.ZoneEUByUS,
	"CLOUD_NOT_IN_EU_BY_US_PROVIDER": logos.ZoneAnywhere,
}

// Import turns a policy of the original system, which belonged to a project, into one that calls may name.
// It demands what the original did: models without the weights as labels are excluded by a threshold.
func (t Thresholds) Import(project logos.ProjectID) (*logos.Policy, error) {
	zone, ok := originalZones[t.Privacy]
	if !ok {
		return nil, logos.Errorf(logos.Invalid, "invalid_threshold", "the policy %.80q has the unknown threshold_privacy %.80q", t.Name, t.Privacy)
	}
	p := &logos.Policy{Name: t.Name, Level: logos.LevelProject, Owner: int64(project), OnRequest: true}
	p.Constraints.MaxPrivacyZone = zone
	p.Scheduling.Priority = &t.Priority
	if t.Topic != "" {
		p.Labels = map[string]string{LabelTopic: t.Topic}
	}
	for _, x := range []struct {
		name, label string
		least       *int
	}{
		{"latency", LabelWeightLatency, t.Latency}, {"accuracy", LabelWeightAccuracy, t.Accuracy},
		{"cost", LabelWeightCost, t.Cost}, {"quality", LabelWeightQuality, t.Quality},
	} {
		if x.least != nil {
			require := fmt.Sprintf("int(candidate.labels[%q]) >= %s", x.label, strconv.Itoa(*x.least))
			p.Rules = append(p.Rules, logos.Rule{Name: x.name, Kind: logos.RulePreference, Require: require})
		}
	}
	return p, nil
}
