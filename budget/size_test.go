package budget

import (
	"testing"

	"github.com/ls1intum/edutelligence/logos"
)

func TestTheLowestOutputLimitBoundsAnAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		caller        int64
		model         *logos.Model // nil: the call passes through
		answers, want int64
	}{
		"nobody says":                       {0, &logos.Model{}, 0, DefaultOutput},
		"nobody says, and there is none":    {0, nil, 0, DefaultOutput},
		"the caller alone":                  {20_000, &logos.Model{}, 0, 20_000},
		"the context window alone":          {0, &logos.Model{ContextWindow: 128_000}, 0, 128_000},
		"the model's own limit":             {0, &logos.Model{ContextWindow: 128_000, MaxOutputTokens: 4096}, 0, 4096},
		"the model's own limit alone":       {0, &logos.Model{MaxOutputTokens: 4096}, 0, 4096},
		"a caller below the model's":        {100, &logos.Model{ContextWindow: 128_000, MaxOutputTokens: 4096}, 0, 100},
		"a caller above the model's":        {9000, &logos.Model{ContextWindow: 128_000, MaxOutputTokens: 4096}, 0, 4096},
		"a caller above the window":         {9000, &logos.Model{ContextWindow: 8192}, 0, 8192},
		"a limit that the window is below":  {0, &logos.Model{ContextWindow: 8192, MaxOutputTokens: 16_384}, 0, 8192},
		"each of several answers has it":    {0, &logos.Model{MaxOutputTokens: 4096}, 3, 3 * 4096},
		"each of several has the caller's":  {10, &logos.Model{MaxOutputTokens: 4096}, 3, 30},
		"each of several has what is taken": {0, nil, 2, 2 * DefaultOutput},
	} {
		s := Size{Output: c.caller, Answers: c.answers}
		if got := s.output(&logos.Target{Model: c.model}, c.caller); got != c.want {
			t.Errorf("%s: %d tokens at most, want %d", name, got, c.want)
		}
	}
}
