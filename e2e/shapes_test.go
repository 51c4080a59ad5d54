package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A shape is an answer as a provider documents it, see dialect/testdata/README.md.
type shape struct {
	What, Tier string
	Meters     map[string]int64
	Events     []json.RawMessage
}

func (s *shape) streams() bool { return strings.Contains(s.What, "streamed") }

// path is that of the API whose answer it is.
func (s *shape) path() string {
	for prefix, path := range map[string]string{
		"responses": "/v1/responses", "messages": "/v1/messages", "embeddings": "/v1/embeddings", "completions": "/v1/completions",
	} {
		if strings.HasPrefix(s.What, prefix) {
			return path
		}
	}
	return "/v1/chat/completions"
}

func readShapes(t *testing.T) []*shape {
	t.Helper()
	var all []*shape
	files, err := filepath.Glob("../dialect/testdata/usage/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no shapes: %v", err)
	}
	for _, file := range files {
		var shapes []*shape
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &shapes)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, s := range shapes {
			s.What = strings.TrimPrefix(s.What, "compatible ")
			all = append(all, s)
		}
	}
	return all
}

// What each provider's documentation shows is metered, by way of what Envoy reads of it, as it is billed.
func TestWhatProvidersDocumentIsMeteredAsBilled(t *testing.T) {
	t.Parallel()
	shapes := readShapes(t)
	p := newProvider(t, func(_ *provider, w http.ResponseWriter, a asked) {
		s := shapes[int(a.json()["shape"].(float64))]
		if !s.streams() {
			answerJSON(w, http.StatusOK, s.Events[0])
			return
		}
		e := openEvents(w)
		for _, event := range s.Events {
			e.send(event)
		}
		e.text("data: [DONE]\n\n")
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("all"))
	ids := make([]string, len(shapes))
	for i, s := range shapes {
		r := g.call("POST", s.path(), fmt.Sprintf(`{"model":"m","stream":%t,"shape":%d}`, s.streams(), i))
		if r.status != http.StatusOK || r.err != nil {
			t.Fatalf("%s: %v %v", s.What, r, r.err)
		}
		ids[i] = r.id()
	}
	for i, s := range shapes {
		var want []string
		for meter, n := range s.Meters {
			want = append(want, fmt.Sprintf("%s=%d", meter, n))
		}
		rec := g.record(ids[i])
		got := strings.Fields(rec.meters())
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || rec.EndReason != "ok" || rec.ServiceTier != s.Tier {
			t.Errorf("%s: %s, tier %q: %v, want %v, tier %q", s.What, rec.EndReason, rec.ServiceTier, got, want, s.Tier)
		}
	}
}
