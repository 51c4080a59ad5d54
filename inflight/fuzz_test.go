package inflight

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		``, `{}`, `null`, `{"id":"a"}`, `{"id":"a","d":null}`, `{"id":"a","e":"x","d":[]}`, `{"id":"","e":"x","d":{}}`,
		`{"id":"a","e":"x","d":{"s":1,"r":2,"p":3,"k":4,"tg":[{"d":1,"p":1,"n":"d1"}],"c":[{"d":1,"x":"no"}]}}`,
		`{"id":"0","d":{"tg":[]}}`, `{"id":"a","e":"x","d":{"s":1e3}}`, `{"id":"a","e":"x","d":{"m":"ü\ud800"}} `,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		i, ok := parse(line)
		if !ok {
			if i != nil {
				t.Errorf("%q gives an intent, but not ok", line)
			}
			return
		}
		if i.ID == "" || i.Decision == nil || !json.Valid(line) {
			t.Fatalf("%q gives %+v", line, i)
		}
		decision, err := json.Marshal(i.Decision)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(record{ID: i.ID, Epoch: i.Epoch, Decision: decision})
		if err != nil {
			t.Fatal(err)
		}
		again, ok := parse(encoded)
		if !ok || again.ID != i.ID || again.Epoch != i.Epoch || !cmp.Equal(again.Decision, i.Decision, cmpopts.EquateEmpty()) {
			t.Errorf("%q gives %+v, written anew %+v", line, i, again)
		}
		whole := bytes.TrimSpace(line)
		for cut := range len(whole) {
			if _, ok := parse(whole[:cut]); ok {
				t.Fatalf("%q is read, but it is cut", whole[:cut])
			}
		}
	})
}
