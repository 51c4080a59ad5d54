package signals_test

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

func extractor(t testing.TB, list ...logos.TaskMatcher) *signals.Extractor {
	t.Helper()
	e, err := signals.New(list)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRecognisesLanguages(t *testing.T) {
	t.Parallel()
	e := extractor(t)
	for want, texts := range map[string][]string{
		"en": {"What is the capital of France?", "Please summarise this text for me.", "How do I sort a list in this program that you wrote?"},
		"de": {"Was ist die Hauptstadt von Frankreich?", "Bitte fasse mir diesen Text zusammen, und zwar auf eine kurze Art.", "Wie kann ich das für die Übung lösen?"},
		"fr": {"Quelle est la capitale de la France ?", "Peux-tu me dire comment je dois faire pour résumer ce texte ?"},
		"es": {"¿Cuál es la capital de Francia y qué idioma se habla?", "Por favor, resume el texto con pocas palabras para mi clase."},
		"it": {"Qual è la capitale della Francia? Non lo so, ma sono curioso di questo.", "Puoi dirmi come si fa con gli esercizi?"},
		"pt": {"Qual é a capital da França? Não sei como dizer isso em português.", "Você pode me explicar por que isso não está certo?"},
		"nl": {"Wat is de hoofdstad van Frankrijk en hoe kan ik dit vinden?", "Het is niet duidelijk wat ik met deze tekst moet doen."},
		"pl": {"Jak to jest możliwe, że nie ma tego w tekście?", "Czy proszę o podsumowanie jest dla ciebie jasne?"},
		"sv": {"Vad är det som gör att jag inte kan lösa den här uppgiften?", "Hur ska jag skriva det på svenska och med vilka ord?"},
		"ru": {"Какая столица Франции?"}, "zh": {"法国的首都是哪里？"}, "ja": {"フランスの首都はどこですか？"}, "ko": {"프랑스의 수도는 어디입니까?"},
		"ar": {"ما هي عاصمة فرنسا؟"}, "el": {"Ποια είναι η πρωτεύουσα;"}, "he": {"מהי בירת צרפת?"}, "th": {"เมืองหลวงของฝรั่งเศสคือที่ไหน"}, "hi": {"फ्रांस की राजधानी क्या है?"},
		"": {"", "xyzzy 12345", "!!!", "{\"a\": 1}"},
	} {
		for _, text := range texts {
			if got := e.Extract(signals.Text{User: []byte(text)}).Language; got != want {
				t.Errorf("the language of %q is %q, want %q", text, got, want)
			}
		}
	}
}

func TestRecognisesCode(t *testing.T) {
	t.Parallel()
	e := extractor(t)
	for text, want := range map[string]bool{
		"Why does this fail?\n```python\nprint(1)\n```":                                                          true,
		"func main() {\n\tx := 1\n\treturn x\n}":                                                                 true,
		"public class Main {\n  public static void main(String[] a) { System.out.println(a); }\n};":              true,
		"def f(x):\n    return x + 1\nimport os":                                                                 true,
		"Please import the goods (three boxes) and return them to the public library; the class is over, thanks": false,
		"What is the difference between a list and a tuple?":                                                     false,
		"": false,
	} {
		if got := e.Extract(signals.Text{User: []byte(text)}).Code; got != want {
			t.Errorf("that %q holds code is %t, want %t", text, got, want)
		}
	}
}

func TestFindsKeywordsPatternsAndTags(t *testing.T) {
	t.Parallel()
	e := extractor(t,
		logos.TaskMatcher{Name: "math", Keywords: []string{"Integral", "ABLEITUNG", "linear algebra", "größe"}},
		logos.TaskMatcher{Name: "ticket", Patterns: []string{`\b[A-Z]{2,5}-\d+\b`}},
		logos.TaskMatcher{Name: "tutor", System: true, Keywords: []string{"teaching assistant"}, Patterns: []string{`(?i)role:\s*tutor`}},
	)
	for _, c := range []struct {
		system, user   string
		keywords, tags []string
	}{
		{"", "Compute the integral.", []string{"math"}, nil},
		{"", "Die Ableitung der GRÖSSE oder Größe", []string{"math"}, nil},
		{"", "integrals are plural, and so no keyword; nonlinear algebras neither", nil, nil},
		{"", "I like Linear Algebra, see ABC-123", []string{"math", "ticket"}, nil},
		{"You are a teaching assistant.", "hello", nil, []string{"tutor"}},
		{"ROLE: tutor", "teaching assistant", nil, []string{"tutor"}},
		{"integral", "", nil, nil},
		{"", strings.Repeat("filler ", 2000) + "integral", []string{"math"}, nil},
		{"", strings.Repeat("é", 5000) + " integral", []string{"math"}, nil},
		{"", strings.Repeat("filler ", 1000) + "integral " + strings.Repeat("filler ", 1000), nil, nil}, // beyond the window
	} {
		got := e.Extract(signals.Text{System: []byte(c.system), User: []byte(c.user)})
		if diff := cmp.Diff([][]string{c.keywords, c.tags}, [][]string{got.Keywords, got.Tags}); diff != "" {
			t.Errorf("what is found in %.40q and %.40q differs (-want +got):\n%s", c.system, c.user, diff)
		}
	}
	s := signals.Signals{Code: true, Keywords: []string{"math"}, Tags: []string{"tutor"}}
	if got := s.Tasks(nil); !slices.Equal(got, []string{"math", "tutor", "code"}) {
		t.Errorf("the tasks are %q", got)
	}
}

func TestRefusesMatchers(t *testing.T) {
	t.Parallel()
	many := make([]logos.TaskMatcher, 65)
	for i := range many {
		many[i] = logos.TaskMatcher{Name: "x", Keywords: []string{"x"}}
	}
	for _, list := range [][]logos.TaskMatcher{
		{{Keywords: []string{"x"}}}, {{Name: "x"}}, {{Name: "x", Keywords: []string{" "}}}, {{Name: "x", Patterns: []string{"("}}},
		{{Name: "x", Patterns: []string{strings.Repeat("a", 300)}}}, {{Name: "x", Patterns: strings.Split("aaaaaaaaa", "")}}, many,
	} {
		if _, err := signals.New(list); logos.KindOf(err) != logos.Invalid {
			t.Errorf("%.100v gives %v, want an invalid matcher", list, err)
		}
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("The integral"), []byte("role: tutor"))
	f.Add(bytes.Repeat([]byte("ä"), 3000), []byte{0xff, 0xc3})
	e := extractor(f, logos.TaskMatcher{Name: "math", Keywords: []string{"integral", "a b"}, Patterns: []string{`\d+`}}, logos.TaskMatcher{Name: "t", System: true, Keywords: []string{"ß"}})
	f.Fuzz(func(t *testing.T, user, system []byte) {
		before := [2][]byte{bytes.Clone(user), bytes.Clone(system)}
		first, second := e.Extract(signals.Text{User: user, System: system}), e.Extract(signals.Text{User: user, System: system})
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("the second time differs:\n%s", diff)
		}
		if !bytes.Equal(user, before[0]) || !bytes.Equal(system, before[1]) {
			t.Error("the text was changed")
		}
	})
}

// cpuTime reports the processor time of an iteration: on a busy machine the clock says little.
func cpuTime(b *testing.B) func() {
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func() {
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		b.ReportMetric(float64(after.Utime.Nano()-before.Utime.Nano()+after.Stime.Nano()-before.Stime.Nano())/float64(b.N), "cpu-ns/op")
	}
}

func BenchmarkExtract(b *testing.B) {
	user := []byte(strings.Repeat("Please tell me how I can sort a list of numbers in this program, and why that is faster than what we had before. ", 40))
	for name, matchers := range map[string][]logos.TaskMatcher{
		"none":     nil,
		"keywords": {{Name: "math", Keywords: []string{"integral", "derivative", "matrix", "linear algebra"}}, {Name: "law", Keywords: []string{"contract", "tort", "court of appeal"}}},
		"patterns": {{Name: "ticket", Patterns: []string{`\b[A-Z]{2,5}-\d+\b`}}, {Name: "sum", Patterns: []string{`(?i)summari[sz]e`}}},
	} {
		e := extractor(b, matchers...)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer cpuTime(b)()
			for b.Loop() {
				e.Extract(signals.Text{User: user, System: user[:500]})
			}
		})
	}
}
