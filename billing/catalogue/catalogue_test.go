package catalogue

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
)

var at = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

var (
	openAI    = Provider{Dialect: logos.DialectOpenAI, Host: "api.openai.com"}
	anthropic = Provider{Dialect: logos.DialectAnthropic, Host: "api.anthropic.com"}
)

// liteLLM is in the shape of model_prices_and_context_window.json, as of November 2026.
const liteLLM = `{
	"sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of https://docs.litellm.ai/docs/providers", "mode": "one of: chat, embedding"},
	"gpt-x": {"litellm_provider": "openai", "mode": "chat", "max_tokens": 4096, "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05,
		"cache_read_input_token_cost": 1.25e-06, "input_cost_per_token_flex": 1.25e-06, "input_cost_per_token_priority": 4.25e-06, "input_cost_per_token_batches": 1e-06,
		"input_cost_per_audio_token": 4e-05, "supports_vision": true, "deprecation_date": "2030-01-01"},
	"claude-x": {"litellm_provider": "anthropic", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05, "input_cost_per_token_above_200k_tokens": 6e-06,
		"cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06, "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-05},
	"azure/gpt-x": {"litellm_provider": "azure", "input_cost_per_token": 0.0, "output_cost_per_token": 1e-05},
	"pictures": {"litellm_provider": "openai", "output_cost_per_image": 0.04, "input_cost_per_pixel": 1.9e-08},
	"vectors": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08, "output_cost_per_token": 0.0},
	"Deep": {"litellm_provider": "deepseek", "input_cost_per_token": 2.8e-07, "input_cost_per_token_cache_hit": 2.8e-08, "output_cost_per_token": 4.2e-07},
	"odd": {"litellm_provider": "openai", "input_cost_per_token": -1, "output_cost_per_token": 1e300, "cache_read_input_token_cost": "free", "input_cost_per_request": 1e-30}
}`

// genAI is in the shape of genai-prices 0.2.3's data.json; genAIPython says the same as its data.py does.
const (
	genAI = `[{"id": "openai", "name": "OpenAI", "api_pattern": "https://api\\.openai\\.com", "extractors": [], "models": [
		{"id": "gpt-x", "match": {"or": [{"equals": "gpt-x"}, {"regex": "^gpt-x-[0-9]{4}$"}]}, "prices": {"input_mtok": 2.5, "output_mtok": 10, "cache_read_mtok": 1.25, "web_searches_kcount": 10},
			"price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 1}}, {"when": {"service_tier": "default"}, "prices": {}, "constraint": null},
				{"when": {"service_tier": "flex"}, "prices": {"input_mtok": 1.5}, "constraint": {"start_date": "2026-10-12"}}, {"when": {"service_tier": "flex"}, "prices": {"input_mtok": 9, "output_mtok": 6}},
				{"when": {"service_tier": "priority"}, "prices": {"input_mtok": 5}, "constraint": {"start_date": "2030-01-01"}}, {"when": {"service_tier": "flex", "region": "eu"}, "prices": {"cache_read_mtok": 8}}]},
		{"id": "gpt-y", "match": {"and": [{"starts_with": "gpt-y"}, {"ends_with": "-mini"}, {"contains": "small"}]}, "prices": [
			{"prices": {"input_mtok": {"base": 3, "tiers": [{"start": 200000, "price": 6}]}, "requests_kcount": 5}},
			{"constraint": {"start_date": "2026-10-01"}, "prices": {"input_mtok": {"base": 2, "tiers": [{"start": 200000, "price": 4}]}, "requests_kcount": 5}},
			{"constraint": {"start_date": "2030-01-01"}, "prices": {"input_mtok": 1}},
			{"constraint": {"start_time": "time", "end_time": "time"}, "prices": {"input_mtok": 0.5}}]},
		{"id": "gpt-z", "match": {"equals": "GPT-Z"}, "prices": {}},
		{"id": "speech", "match": {"and": [{"starts_with": "gpt-s"}, {"regex": "^(?!.*-tts(?:$|-))"}]}, "prices": {"input_mtok": 1}},
		{"id": "odd", "match": {"regex": "gpt-odd(?=-)"}, "prices": {"input_mtok": 1}},
		{"id": "rest", "match": {"starts_with": "gpt-"}, "prices": {"input_mtok": 7}}]},
	{"id": "azure", "fallback_model_providers": ["openai"], "models": [{"id": "gpt-s", "match": {"equals": "gpt-s"}, "prices": {"input_mtok": 3}}]}]`
	genAIPython = `"""DO NOT EDIT"""

import datetime
from decimal import Decimal

providers: list[Provider] = [
    Provider(
        id='openai',
        name="OpenAI",
        api_pattern='https://api\\.openai\\.com',
        extractors=[UsageExtractor(root=['a', 'b'], mappings=[], required=False, nothing=None)],
        models=[
            ModelInfo(
                id='gpt-x',
                match=ClauseOr(or_=[ClauseEquals(equals='gpt-x'), ClauseRegex(regex='^gpt-x-[0-9]{4}$')]),
                price_comments=('one '
                    "and 'another'\n"),
                prices=ModelPrice(input_mtok=Decimal('2.5'), output_mtok=Decimal('10'), cache_read_mtok=Decimal('1.25'), web_searches_kcount=Decimal('10')),
                price_variants=[
                    PriceVariant(when={'processing': 'batch'}, prices=ModelPrice(input_mtok=Decimal('1'))),
                    PriceVariant(when={'service_tier': 'default'}, prices=ModelPrice(), constraint=None),
                    PriceVariant(when={'service_tier': 'flex'}, prices=ModelPrice(input_mtok=Decimal('1.5')), constraint=StartDateConstraint(start_date=datetime.date(2026, 10, 12))),
                    PriceVariant(when={'service_tier': 'flex'}, prices=ModelPrice(input_mtok=Decimal('9'), output_mtok=Decimal('6'))),
                    PriceVariant(when={'service_tier': 'priority'}, prices=ModelPrice(input_mtok=Decimal('5')), constraint=StartDateConstraint(start_date=datetime.date(2030, 1, 1))),
                    PriceVariant(when={'service_tier': 'flex', 'region': 'eu'}, prices=ModelPrice(cache_read_mtok=Decimal('8'))),
                ],
            ),
            ModelInfo(
                id='gpt-y',
                match=ClauseAnd(and_=[ClauseStartsWith(starts_with='gpt-y'), ClauseEndsWith(ends_with='-mini'), ClauseContains(contains='small')]),
                prices=[
                    ConditionalPrice(prices=ModelPrice(input_mtok=TieredPrices(base=Decimal('3'), tiers=[Tier(start=200_000, price=Decimal('6'))]), requests_kcount=Decimal('5'))),
                    ConditionalPrice(
                        constraint=StartDateConstraint(start_date=datetime.date(2026, 10, 1)),
                        prices=ModelPrice(input_mtok=TieredPrices(base=Decimal('2'), tiers=[Tier(start=200000, price=Decimal('4'))]), requests_kcount=Decimal('5')),
                    ),
                    ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2030, 1, 1)), prices=ModelPrice(input_mtok=Decimal('1'))),
                    ConditionalPrice(
                        constraint=TimeOfDateConstraint(start_time=datetime.time(0, 30, tzinfo=datetime.UTC), end_time=datetime.time(16, 30, tzinfo=datetime.UTC)),
                        prices=ModelPrice(input_mtok=Decimal('0.5')),
                    ),
                ],
            ),
            ModelInfo(id='gpt-z', match=ClauseEquals(equals='GPT-Z'), prices=ModelPrice()),
            ModelInfo(
                id='speech',
                match=ClauseAnd(and_=[ClauseStartsWith(starts_with='gpt-s'), ClauseRegex(regex='^(?!.*-tts(?:$|-))')]),
                prices=ModelPrice(input_mtok=Decimal('1')),
            ),
            ModelInfo(id='odd', match=ClauseRegex(regex='gpt-odd(?=-)'), prices=ModelPrice(input_mtok=Decimal('1'))),
            ModelInfo(id='rest', match=ClauseStartsWith(starts_with='gpt-'), prices=ModelPrice(input_mtok=Decimal('7'))),
        ],
    ),
    Provider(
        id='azure',
        fallback_model_providers=['openai'],
        models=[ModelInfo(id='gpt-s', match=ClauseEquals(equals='gpt-s'), prices=ModelPrice(input_mtok=Decimal('3')))],
    ),
]
`
)

// said is what a list says of a model.
func said(t *testing.T, text string, p Provider, names ...string) (out []string) {
	t.Helper()
	l, err := Read([]byte(text), at)
	if err != nil {
		t.Fatal(err)
	}
	prices, _ := l.Find(p, names...)
	for _, x := range prices {
		line := fmt.Sprintf("%s %s/%d", x.Meter, x.Amount, x.Unit)
		if x.ServiceTier != logos.StandardTier {
			line += " " + x.ServiceTier
		}
		if x.ContextFrom > 0 {
			line += fmt.Sprint(" from ", x.ContextFrom)
		}
		out = append(out, line)
		x.Provider = 1
		if err := billing.Check(&x); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	slices.Sort(out)
	return out
}

func TestReadsLiteLLMsList(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider Provider
		names    []string
		want     []string
	}{
		{openAI, []string{"gpt-x"}, []string{"audio_input 40/1000000", "cached_input 1.25/1000000", "input 1.25/1000000 flex", "input 2.5/1000000", "input 4.25/1000000 priority", "output 10/1000000"}},
		{anthropic, []string{"claude-x"}, []string{"cache_write 3.75/1000000", "cache_write_1h 12/1000000 from 200001", "cache_write_1h 6/1000000", "input 3/1000000", "input 6/1000000 from 200001", "output 15/1000000"}},
		{Provider{Dialect: logos.DialectAzure, Host: "ours.example"}, []string{"our-deployment", "gpt-x"}, []string{"input 0/1000000", "output 10/1000000"}},
		{Provider{Dialect: logos.DialectAzure, Host: "a.openai.azure.com"}, []string{"gpt-x"}, []string{"input 0/1000000", "output 10/1000000"}},
		{openAI, []string{"pictures"}, []string{"image 0.04/1"}},
		{openAI, []string{"vectors"}, []string{"input 0.02/1000000"}},
		{Provider{Host: "api.deepseek.com"}, []string{"deep"}, []string{"cached_input 0.028/1000000", "input 0.28/1000000", "output 0.42/1000000"}},
		{openAI, []string{"odd"}, nil},
		{openAI, []string{"sample_spec"}, nil},
		{openAI, []string{""}, nil},
		{Provider{Dialect: logos.DialectOpenAI, Host: "vllm.ours.example"}, []string{"gpt-x"}, nil}, // one's own machine
		{Provider{Dialect: logos.DialectOpenAI, Host: "api.openai.com.evil.example"}, []string{"gpt-x"}, nil},
	} {
		if diff := cmp.Diff(c.want, said(t, liteLLM, c.provider, c.names...)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.names, diff)
		}
	}
}

func TestReadsGenAIPrices(t *testing.T) {
	t.Parallel()
	x := []string{"cached_input 1.25/1000000", "cached_input 1.25/1000000 flex", "input 1.5/1000000 flex", "input 2.5/1000000", "output 10/1000000", "output 6/1000000 flex"}
	for form, text := range map[string]string{"data.json": genAI, "data.py": genAIPython} {
		for name, want := range map[string][]string{
			"gpt-x": x, "GPT-X-2026": x, "gpt-y-small-mini": {"input 2/1000000", "input 4/1000000 from 200001", "request 5/1000"},
			"gpt-other": nil, // it may be the odd one, which looks ahead
			"gpt-z":     nil, // and not what the rest costs
			"gpt-s-new": {"input 1/1000000"}, "gpt-s-tts": nil, "other": nil,
		} {
			if diff := cmp.Diff(want, said(t, text, openAI, name)); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", form, name, diff)
			}
		}
		azure := Provider{Dialect: logos.DialectAzure}
		if diff := cmp.Diff([]string{"input 3/1000000"}, said(t, text, azure, "gpt-s")); diff != "" {
			t.Errorf("%s, a provider's own price (-want +got):\n%s", form, diff)
		}
		if diff := cmp.Diff(x, said(t, text, azure, "gpt-x")); diff != "" {
			t.Errorf("%s, the price of another provider's model (-want +got):\n%s", form, diff)
		}
		if diff := cmp.Diff(x, said(t, text, Provider{Host: "ours.example", As: "openai"}, "gpt-x")); diff != "" {
			t.Errorf("%s, a provider that is named (-want +got):\n%s", form, diff)
		}
	}
}

func TestPatternsThatLookAheadAreReadOrRefused(t *testing.T) {
	t.Parallel()
	for text, names := range map[string]map[string]bool{
		"^(?!.*-tts(?:$|-))":           {"a": true, "a-tts": false, "a-tts-b": false, "a-ttsb": true},
		"^(?![^/]+/)(?:labs-)?mistral": {"mistral-x": true, "labs-mistral": true, "a/mistral": false, "other": false},
		`^(?!a[)]|\))b`:                {"b": true, "a)b": false},
		"gpt-[0-9]$":                   {"gpt-4": true, "gpt-4o": false},
		"a(?=b)":                       nil, "^(?!a)b|c": nil, "^(?!a": nil, "^(?!(?=a))b": nil, "(": nil,
	} {
		p := compile(text)
		if (p == nil) != (names == nil) {
			t.Errorf("%s is understood: %t", text, p != nil)
		}
		for name, want := range names {
			if got := p.holds(name); got != want {
				t.Errorf("%s holds for %s: %t", text, name, got)
			}
		}
	}
}

func TestBuiltinListKnowsTheUsualModels(t *testing.T) {
	t.Parallel()
	l := Builtin()
	if l.Len() < 500 {
		t.Errorf("it knows %d models", l.Len())
	}
	for _, models := range l.models {
		for _, m := range models {
			for _, p := range m.prices {
				p.Provider = 1
				if err := billing.Check(&p); err != nil || p.Amount.IsZero() {
					t.Errorf("%+v: %v", p, err)
				}
			}
		}
	}
	prices, _ := l.Find(anthropic, "claude-sonnet-4-6")
	amounts := make(map[logos.Meter]string)
	for _, p := range prices {
		amounts[p.Meter] = p.Amount.String()
	}
	// https://platform.claude.com/docs/en/about-claude/pricing: a cache is written at 1.25 times the input, read at a tenth.
	want := map[logos.Meter]string{logos.MeterInput: "3", logos.MeterOutput: "15", logos.MeterCacheWrite: "3.75", logos.MeterCachedInput: "0.3"}
	if diff := cmp.Diff(want, amounts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsNoListIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "hello", "{}", "[]", "null", `{"a": 1}`, `[{"id": 5}]`, `[{"id": "openai"}]`, "providers: list[Provider] = __import__('os').system('true')",
		"providers: list[Provider] = [Provider(id=open('/etc/passwd'))]", "providers: list[Provider] = " + strings.Repeat("[", 1000), "providers: list[Provider] = ['unfinished",
		"providers: list[Provider] = [x for x in y]", `{"gpt": {"litellm_provider": "openai", "input_cost_per_token": 1e-999999999999}}`,
	} {
		if l, err := Read([]byte(text), at); logos.KindOf(err) != logos.Invalid {
			t.Errorf("%.60q gives %v, %v", text, l, err)
		}
	}
}

// A list of a stranger is read in the time that its size takes, whatever is in it.
func TestHostileListsTakeNoTime(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("1", 1<<20)
	for name, text := range map[string]string{
		"deep":               `[{"id": "openai", "models": [{"id": "a", "match": ` + strings.Repeat(`{"or": [`, 3000) + `{"equals": "` + strings.Repeat("x", 1<<20) + `"}` + strings.Repeat("]}", 3000) + `, "prices": {"input_mtok": 1}}]}]`,
		"digits":             `{"x": {"litellm_provider": "openai", "input_cost_per_token": 0.` + digits + `}}`,
		"digits in genai":    `[{"id": "openai", "models": [{"id": "a", "prices": {"input_mtok": 0.` + digits + `}}]}]`,
		"digits in a text":   `[{"id": "openai", "models": [{"id": "a", "prices": {"input_mtok": "0.` + digits + `"}}]}]`,
		"digits in a python": `providers: list[Provider] = [Provider(id='openai', models=[ModelInfo(id='a', prices=ModelPrice(input_mtok=Decimal('0.` + digits + `')))])]`,
	} {
		begin := time.Now()
		if l, err := Read([]byte(text), at); logos.KindOf(err) != logos.Invalid {
			t.Errorf("%s: it is read as %v, %v", name, l, err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s: it takes %v", name, took)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{liteLLM, genAI, genAIPython} {
		f.Add([]byte(text), "gpt-x")
	}
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		l, err := Read(text, at)
		if err != nil {
			return
		}
		for _, p := range []Provider{openAI, anthropic} {
			prices, _ := l.Find(p, name)
			for _, x := range prices {
				x.Provider = 1
				if err := billing.Check(&x); err != nil {
					t.Errorf("%+v: %v", x, err)
				}
			}
		}
	})
}

func FuzzParsePython(f *testing.F) {
	f.Add([]byte(genAIPython[strings.Index(genAIPython, "= [")+2:]))
	f.Add([]byte(`[Decimal('1'), datetime.date(2026, 1, 2), {'a': None}, ("b" 'c',), -1.5e3, True]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := parsePython(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("%q is read as %v, which is no JSON: %v", text, v, err)
		}
	})
}
