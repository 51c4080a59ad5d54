package dialect

import (
	"encoding/json"

	"github.com/ls1intum/edutelligence/logos"
)

// A Splice replaces Cut bytes at offset At of a request body with With.
type Splice struct {
	At, Cut int
	With    string
}

// Splices returns what must change in the body for a provider that calls the model providerModel, in
// order of offset. With includeUsage, streams of the chat and completions APIs ask for their usage, also
// over an explicit false: without it the provider bills what Logos never sees. Other APIs report usage
// unasked, and refuse the option.
func (r *Request) Splices(api logos.API, providerModel string, includeUsage bool) []Splice {
	var out []Splice
	if providerModel != "" && providerModel != r.Model {
		out = append(out, r.modelSplice(providerModel))
	}
	if includeUsage && r.AsksUsage(api) {
		out = insert(out, r.usageSplice())
	}
	return out
}

// modelSplice names another model, or names one where the caller did so in the path alone.
func (r *Request) modelSplice(providerModel string) Splice {
	quoted, err := json.Marshal(providerModel)
	if err != nil {
		panic(err) // a Go string always marshals
	}
	name := string(quoted)
	switch {
	case r.Model != "":
		return Splice{At: r.model.start, Cut: r.model.end - r.model.start, With: name}
	case r.empty:
		return Splice{At: r.object, With: `"model":` + name}
	default:
		return Splice{At: r.object, With: `"model":` + name + `,`}
	}
}

// AsksUsage says whether a request of that API is one whose stream carries usage only if asked for it.
func (r *Request) AsksUsage(api logos.API) bool {
	return r.Stream && (api == logos.APIChat || api == logos.APICompletions)
}

func (r *Request) usageSplice() Splice {
	options, usage := r.streamOptions, r.includeUsage
	switch {
	case usage.found && usage.value == 't':
		return Splice{}
	case usage.found:
		return Splice{At: usage.start, Cut: usage.end - usage.start, With: "true"}
	case options.found && options.value == '{' && options.empty:
		return Splice{At: options.start + 1, With: `"include_usage":true`}
	case options.found && options.value == '{':
		return Splice{At: options.start + 1, With: `"include_usage":true,`}
	case options.found:
		return Splice{At: options.start, Cut: options.end - options.start, With: `{"include_usage":true}`}
	case r.empty:
		return Splice{At: r.object, With: `"stream_options":{"include_usage":true}`}
	default:
		return Splice{At: r.object, With: `"stream_options":{"include_usage":true},`}
	}
}

// insert keeps splices in order of offset; an empty one is left out. Two never overlap.
func insert(list []Splice, s Splice) []Splice {
	if s.Cut == 0 && s.With == "" {
		return list
	}
	if len(list) > 0 && s.At < list[0].At {
		return append([]Splice{s}, list...)
	}
	return append(list, s)
}

// Apply returns the body with the splices done. The gateway itself leaves that to Envoy; Apply says what
// the outcome must be.
func Apply(body []byte, splices []Splice) []byte {
	var out []byte
	done := 0
	for _, s := range splices {
		out = append(out, body[done:s.At]...)
		out = append(out, s.With...)
		done = s.At + s.Cut
	}
	return append(out, body[done:]...)
}
