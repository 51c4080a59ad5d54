package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

type rules = validate.FieldRules

func rulesOf(f *protogen.Field) *rules {
	r, _ := proto.GetExtension(f.Desc.Options(), validate.E_Field).(*rules)
	return r
}

// Patterns of what is sent.
const (
	anyText = `^[^\x00]*$` // Postgres holds no U+0000
	uuid    = `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
)

// fractions is a pattern of numbers from 0 to a limit. It leaves out some.
func fractions(hi float64) string {
	switch {
	case hi < 1:
		return `^0(\.0[0-9]{0,8})?$`
	case hi == 1:
		return `^(0(\.[0-9]{1,9})?|1)$`
	}
	return fmt.Sprintf(`^(0|[1-9][0-9]{0,%d})(\.[0-9]{1,9})?$`, len(strconv.Itoa(int(hi)))-2)
}

// constrain makes s the schema of a scalar under the rules for its field.
func (g *generator) constrain(s *openapi.Schema, k protoreflect.Kind, r *rules, at side) {
	switch k {
	case protoreflect.BoolKind:
		s.Type = openapi.Types{"boolean"}
	case protoreflect.StringKind:
		s.Type = openapi.Types{"string"}
		if at != answered {
			g.text(s, r)
		}
	case protoreflect.Int32Kind:
		lo, hi := int64(math.MinInt32), int64(math.MaxInt32)
		if i := r.GetInt32(); i != nil {
			lo, hi = bounds(i.HasGte(), i.HasGt(), i.HasLte(), int64(i.GetGte()), int64(i.GetGt()), int64(i.GetLte()), lo, hi)
		}
		integer(s, "int32", lo, hi, at)
	case protoreflect.Int64Kind:
		lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
		if i := r.GetInt64(); i != nil {
			lo, hi = bounds(i.HasGte(), i.HasGt(), i.HasLte(), i.GetGte(), i.GetGt(), i.GetLte(), lo, hi)
		}
		integer(s, "int64", lo, hi, at)
	case protoreflect.Uint64Kind:
		s.Type, s.Format = openapi.Types{"integer"}, "uint64"
		if at == answered {
			s.Type, s.Pattern = openapi.Types{"string"}, `^[0-9]+$`
			return
		}
		s.Minimum, s.Maximum = "0", json.Number(strconv.FormatUint(math.MaxUint64, 10))
		s.Type, s.Pattern = append(s.Type, "string"), digits(0, math.MaxInt64)
	case protoreflect.DoubleKind:
		s.Type, s.Format = openapi.Types{"number"}, "double"
		if at == answered && r.GetDouble() == nil {
			return
		}
		d := r.GetDouble()
		if d == nil || !d.HasGte() || d.GetGte() != 0 || !d.HasLte() {
			g.fail(fmt.Errorf("of numbers with fractions, only those from 0 to a limit can be said"))
		}
		if s.Minimum, s.Maximum = "0", json.Number(strconv.FormatFloat(d.GetLte(), 'g', -1, 64)); at == sent {
			s.Type, s.Pattern = append(s.Type, "string"), fractions(d.GetLte())
		}
	default:
		g.fail(fmt.Errorf("a field of kind %s can't be said", k))
	}
}

func bounds(gte, gt, lte bool, least, above, most, lo, hi int64) (int64, int64) {
	if gte {
		lo = least
	}
	if gt {
		lo = above + 1
	}
	if lte {
		hi = most
	}
	return lo, hi
}

// integer describes a whole number. Bodies may hold it as a text, too; answers do, if it has 64 bits.
func integer(s *openapi.Schema, format string, lo, hi int64, at side) {
	s.Type, s.Format = openapi.Types{"integer"}, format
	if at == answered {
		if format == "int64" {
			s.Type, s.Pattern = openapi.Types{"string"}, `^-?[0-9]+$`
		}
		return
	}
	s.Minimum, s.Maximum = number(lo), number(hi)
	if at == sent {
		s.Type, s.Pattern = append(s.Type, "string"), digits(lo, hi)
	}
}

func number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

// digits is a pattern of whole numbers within bounds. It leaves out some that are as long as the upper one:
// to say those, too, would make it unreadable.
func digits(lo, hi int64) string {
	top := strconv.FormatInt(hi, 10)
	sign, zero := "", "0|"
	if lo < 0 {
		sign = "-?"
	}
	if lo > 0 {
		zero = ""
	}
	return fmt.Sprintf(`^%s(%s[1-9][0-9]{0,%d}|%s)$`, sign, zero, len(top)-2, top)
}

// text describes a text that is sent.
func (g *generator) text(s *openapi.Schema, r *rules) {
	t := r.GetString()
	s.MinLength, s.MaxLength = max(t.GetMinLen(), t.GetMinBytes()), max(t.GetMaxLen(), t.GetMaxBytes())
	optional := r.GetIgnore() == validate.Ignore_IGNORE_IF_ZERO_VALUE
	switch {
	case t.GetUuid():
		if s.Pattern, s.Format = uuid, "uuid"; optional {
			s.Pattern, s.Format = "^("+uuid[1:len(uuid)-1]+")?$", ""
		}
	case t.GetIp():
		s.AnyOf = []*openapi.Schema{{Format: "ipv4"}, {Format: "ipv6"}}
	case t.GetPattern() != "":
		s.Pattern = t.GetPattern()
	case len(t.GetIn()) > 0:
		for _, v := range t.GetIn() {
			s.Enum = append(s.Enum, v)
		}
	default:
		s.Pattern = anyText
	}
}
