package dialect_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

func TestEncodeWritesEveryPartWithItsLength(t *testing.T) {
	for _, c := range []struct {
		rewrite dialect.Rewrite
		want    string
	}{
		{dialect.Rewrite{}, "0:0:"},
		{dialect.Rewrite{Path: "/v1/x", Host: "a.example:81"}, "5:/v1/x12:a.example:81"},
		{dialect.Rewrite{Path: "/", Host: "h", Splices: []dialect.Splice{{At: 10, Cut: 5, With: `"gpt"`}}}, `1:/1:h2:101:55:"gpt"`},
		{dialect.Rewrite{Path: "/", Host: "h", Splices: []dialect.Splice{{At: 0, Cut: 100}, {At: 120, With: "x"}}}, "1:/1:h1:03:1000:3:1201:01:x"},
	} {
		if got := c.rewrite.Encode(); got != c.want {
			t.Errorf("%+v is %q, want %q", c.rewrite, got, c.want)
		}
	}
}

func TestEncodedPartsHoldAnyText(t *testing.T) {
	for _, text := range []string{"", ":", "3:abc", "größe", "\x00\n", "\xff", strings.Repeat("7:", 50)} {
		want := dialect.Rewrite{Path: text, Host: text, Splices: []dialect.Splice{{At: 3, Cut: 1 << 40, With: text}, {At: 1 << 41, With: text + text}}}
		if diff := cmp.Diff(want, readRewrite(t, want.Encode())); diff != "" {
			t.Errorf("with %q it reads otherwise (-want +got):\n%s", text, diff)
		}
	}
}

// readRewrite reads as rewrite.lua does, whose strings are bytes too.
func readRewrite(t *testing.T, text string) (r dialect.Rewrite) {
	t.Helper()
	part := func() string {
		length, rest, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(length)
		if err != nil || n > len(rest) {
			t.Fatalf("no part begins with %q", text)
		}
		text = rest[n:]
		return rest[:n]
	}
	number := func() int {
		n, err := strconv.Atoi(part())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	r.Path, r.Host = part(), part()
	for text != "" {
		s := dialect.Splice{At: number(), Cut: number()}
		s.With = part()
		r.Splices = append(r.Splices, s)
	}
	return r
}

func TestLuaTakesOffTheHeaderThatNamesTheTarget(t *testing.T) {
	for _, want := range []string{`headers:get("` + dialect.TargetHeader + `")`, `headers:remove("` + dialect.TargetHeader + `")`} {
		if !strings.Contains(dialect.Lua("m"), want) {
			t.Errorf("the filter has no %s:\n%s", want, dialect.Lua("m"))
		}
	}
}
