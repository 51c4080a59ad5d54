package extproc

import (
	"fmt"
	"testing"
)

// Policies may be renamed for ever, and sessions have any names: what is remembered of them has an end.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	var i incumbents
	held := incumbentKey{project: 1, policy: "held"}
	i.chosen(held, 0, 7)
	for n := range 5 * maxRecalled {
		i.chosen(incumbentKey{project: 1, policy: fmt.Sprint(n)}, 0, 1)
		if n%1000 == 0 && i.get(held) != 7 {
			t.Fatalf("what is used is forgotten after %d others", n)
		}
	}
	if n := len(i.recent) + len(i.older); n > 2*maxRecalled {
		t.Errorf("%d are remembered", n)
	}
}
