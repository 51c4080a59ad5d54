package logos_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
)

// TestEncodesADecisionWithAndWithoutItsExplanation holds that the parts are what encoding the whole would give.
func TestEncodesADecisionWithAndWithoutItsExplanation(t *testing.T) {
	t.Parallel()
	plain := logos.Decision{Start: 1, Revision: 2, Project: 3, APIKey: 4, Model: "a\"}", Targets: []logos.DecisionTarget{{Deployment: 5, Cluster: "d5"}},
		Reservations: []logos.Reservation{{Budget: 6, Unit: logos.UnitRequests, Amount: 1}}}
	explained := plain
	explained.Explanation = logos.Explanation{
		Candidates: []logos.DecisionCandidate{{Deployment: 5, Rank: 1, Score: &logos.DecisionScore{Total: 7}}, {Deployment: 8, Excluded: "drained"}},
		Facts:      &logos.DecisionFacts{Seed: 9},
	}
	for name, d := range map[string]logos.Decision{"plain": plain, "explained": explained} {
		whole, settling, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			encoded []byte
			want    logos.Decision
		}{{whole, d}, {settling, plain}} {
			var got logos.Decision
			if err := json.Unmarshal(x.encoded, &got); err != nil {
				t.Fatalf("%s: %v in %s", name, err, x.encoded)
			}
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("%s: %s decodes to something else (-want +got):\n%s", name, x.encoded, diff)
			}
		}
	}
}
