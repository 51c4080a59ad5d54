package catalogue

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// liteLLMFields are the fields of model_prices_and_context_window.json that stand for a meter. All are for one.
var liteLLMFields = map[string]logos.Meter{
	"input_cost_per_token":                      logos.MeterInput,
	"output_cost_per_token":                     logos.MeterOutput,
	"cache_read_input_token_cost":               logos.MeterCachedInput,
	"input_cost_per_token_cache_hit":            logos.MeterCachedInput,
	"cache_creation_input_token_cost":           logos.MeterCacheWrite,
	"cache_creation_input_token_cost_above_1hr": logos.MeterCacheWrite1h,
	"input_cost_per_audio_token":                logos.MeterAudioInput,
	"output_cost_per_audio_token":               logos.MeterAudioOutput,
	"output_cost_per_reasoning_token":           logos.MeterReasoning,
	"output_cost_per_image":                     logos.MeterImage,
	"input_cost_per_request":                    logos.MeterRequest,
}

// above is the suffix for prompts of more than so many thousand tokens.
var above = regexp.MustCompile(`_above_([1-9][0-9]{0,5})k_tokens`)

// readLiteLLM reads an object of models by name, which may begin with the provider's.
func readLiteLLM(text []byte) (*List, error) {
	var entries map[string]map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&entries); err != nil {
		return nil, unknown()
	}
	l := &List{Name: "litellm"}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		provider, _ := entries[key]["litellm_provider"].(string)
		if provider == "" || key == "sample_spec" {
			continue
		}
		provider = strings.TrimPrefix(provider, "text-completion-")
		name := strings.ToLower(strings.TrimPrefix(key, provider+"/"))
		l.add(provider, model{func(n string) bool { return n == name }, liteLLMPrices(entries[key])})
	}
	if l.Len() == 0 {
		return nil, unknown()
	}
	return l, nil
}

func liteLLMPrices(fields map[string]any) []logos.Price {
	var r rates
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		number, ok := fields[field].(json.Number)
		if !ok || len(number) > maxDigits {
			continue
		}
		name, tier, from := field, logos.StandardTier, int64(0)
		for _, t := range []string{"flex", "priority"} {
			if base, ok := strings.CutSuffix(name, "_"+t); ok {
				name, tier = base, t
			}
		}
		if m := above.FindStringSubmatch(name); m != nil {
			thousands, _ := strconv.ParseInt(m[1], 10, 64)
			name, from = strings.Replace(name, m[0], "", 1), thousands*1000+1
		}
		meter, ok := liteLLMFields[name]
		amount, err := decimal.NewFromString(number.String())
		if !ok || err != nil || !small(amount) || meter == logos.MeterOutput && amount.IsZero() && fields["mode"] == "embedding" {
			continue // embeddings have no output: their 0 is no price that a person must look at
		}
		if meter.Tokens() {
			r.add(meter, amount.Shift(6), 1_000_000, tier, from)
		} else {
			r.add(meter, amount, 1, tier, from)
		}
	}
	return r.list
}

// small says whether a number can be shifted.
func small(d decimal.Decimal) bool { return d.Exponent() > -100 && d.Exponent() < 100 }
