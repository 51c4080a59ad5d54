package dialect

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// A Rewrite is what one attempt changes in the request, relative to what the caller sent.
type Rewrite struct {
	Path    string // the new :path
	Host    string // the new :authority
	Splices []Splice
}

// Lua returns the source of the upstream Lua filter of all clusters. It applies the [Rewrite] that the decision
// holds for the target that [TargetHeader] names. An attempt without one is answered 503 in Envoy, so that
// nothing goes to a provider unprepared. After an attempt that failed, it follows the decision's [Plan], and gives
// [AgainHeader] the value mark, of letters and digits, that no provider knows.
func Lua(mark string) string {
	return fmt.Sprintf("local MARK = %q\n", mark) + luaAttempts + luaRewrite
}

//go:embed rewrite.lua
var luaRewrite string

// TargetHeader names the target of an attempt, from one upstream filter to the next.
const TargetHeader = "x-logos-target"

// Encode writes the rewrite as the text that [Lua] reads: every part is a decimal length, a
// colon, and as many bytes; a splice is its offset, its cut and its bytes.
func (r Rewrite) Encode() string {
	var b strings.Builder
	b.Grow(len(r.Path) + len(r.Host) + 16 + 64*len(r.Splices))
	part := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	part(r.Path)
	part(r.Host)
	for _, s := range r.Splices {
		part(strconv.Itoa(s.At))
		part(strconv.Itoa(s.Cut))
		part(s.With)
	}
	return b.String()
}
