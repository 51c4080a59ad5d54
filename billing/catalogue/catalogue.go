// Package catalogue reads the price lists of others: the one that is built in (the module charm.land/catwalk),
// LiteLLM's JSON, and the data of genai-prices. It turns what they say of the models that a gateway has into
// prices, and decides nothing: what is imported, a person approves. Lists are data and are never executed; what
// can't be understood of one is left out, never guessed. `logos prices import` calls it.
package catalogue

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// A List is a price list.
type List struct {
	Name   string              // of the source
	models map[string][]model  // by the list's own name of the provider
	others map[string][]string // providers whose prices hold for models that a provider has none of its own of
}

// A model is what a list says of one.
type model struct {
	named  func(name string) bool // in lower case
	prices []logos.Price          // without what they are of; empty: it has none that are understood
}

// Read reads a list. at is the moment for which it is read, where a list knows later prices.
func Read(text []byte, at time.Time) (*List, error) {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) > 0 && (text[0] == '{' || text[0] == '[') && tooDeep(text):
		return nil, unknown()
	case bytes.HasPrefix(text, []byte("{")):
		return readLiteLLM(text)
	case bytes.HasPrefix(text, []byte("[")):
		return readGenAI(text, at)
	}
	return readPython(text, at)
}

// maxDigits bounds the text of a number, and maxPrice that of all that is said of one price. To read a number takes time by
// the square of its digits.
const (
	maxDigits = 64
	maxPrice  = 4096
)

// tooDeep says whether a text of JSON nests deeper than any list does. Whatever decodes itself is scanned anew at each
// level around it.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxNesting {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

func unknown() error {
	return logos.Errorf(logos.Invalid, "unknown_catalogue",
		"the file is no price list that is known: give LiteLLM's model_prices_and_context_window.json, or genai-prices' data.json or data.py")
}

// Len returns how many models the list knows prices of.
func (l *List) Len() (n int) {
	for _, models := range l.models {
		for _, m := range models {
			if len(m.prices) > 0 {
				n++
			}
		}
	}
	return n
}

// Has says whether the list has a provider of a name.
func (l *List) Has(provider string) bool { return l.models[provider] != nil }

func (l *List) add(provider string, m model) {
	if l.models == nil {
		l.models = make(map[string][]model)
	}
	l.models[provider] = append(l.models[provider], m)
}

// Find returns what the list says of a model of a provider; the first of its names that the list knows counts.
func (l *List) Find(p Provider, names ...string) (prices []logos.Price, name string) {
	for _, name := range names {
		if m := l.model(p, strings.ToLower(name)); name != "" && m != nil {
			return m.prices, name
		}
	}
	return nil, ""
}

// model returns what the list has of a name, with the provider or else with those that stand in for it. The first
// counts, also one without prices: what comes after it is of broader names.
func (l *List) model(p Provider, name string) *model {
	ids := p.ids()
	for _, id := range ids {
		ids = append(ids[:len(ids):len(ids)], l.others[id]...)
	}
	for _, id := range ids {
		for i := range l.models[id] {
			if m := &l.models[id][i]; m.named(name) {
				return m
			}
		}
	}
	return nil
}

// A Provider is how lists know one.
type Provider struct {
	Dialect logos.Dialect
	Host    string // of its base URL
	As      string // the list's own name of it; empty: dialect and host tell
}

// hosts are those of providers, with the names that lists have for them. A server of one's own that speaks a
// provider's dialect is not that provider, and has other prices.
var hosts = map[string][]string{
	"api.openai.com":                    {"openai"},
	"openai.azure.com":                  {"azure"},
	"cognitiveservices.azure.com":       {"azure"},
	"services.ai.azure.com":             {"azure", "azure_ai"},
	"api.anthropic.com":                 {"anthropic"},
	"generativelanguage.googleapis.com": {"gemini", "google"},
	"api.groq.com":                      {"groq"},
	"api.mistral.ai":                    {"mistral"},
	"api.deepseek.com":                  {"deepseek"},
	"api.together.xyz":                  {"together_ai", "together"},
	"openrouter.ai":                     {"openrouter"},
	"api.fireworks.ai":                  {"fireworks_ai", "fireworks"},
	"api.x.ai":                          {"xai", "x-ai"},
	"api.cerebras.ai":                   {"cerebras"},
	"api.perplexity.ai":                 {"perplexity"},
	"api.cohere.com":                    {"cohere", "cohere_chat"},
}

func (p Provider) ids() []string {
	if p.As != "" {
		return []string{p.As}
	}
	if p.Dialect == logos.DialectAzure {
		return hosts["services.ai.azure.com"]
	}
	host := strings.ToLower(p.Host)
	for {
		if ids, ok := hosts[host]; ok {
			return ids
		}
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			return nil
		}
		host = rest
	}
}

// Known says whether any list could know a provider.
func (p Provider) Known() bool { return p.ids() != nil }

// rates collects the prices of a model.
type rates struct{ list []logos.Price }

// add adds a price for so many of a meter. What is no amount that can be charged is left out.
func (r *rates) add(m logos.Meter, amount decimal.Decimal, unit int64, tier string, contextFrom int64) {
	p := logos.Price{Meter: m, Amount: amount, Unit: unit, Currency: "USD", ServiceTier: tier, ContextFrom: contextFrom}
	same := func(q logos.Price) bool { return q.Meter == m && q.ServiceTier == tier && q.ContextFrom == contextFrom }
	if !chargeable(amount) || slices.ContainsFunc(r.list, same) {
		return
	}
	r.list = append(r.list, p)
}

// chargeable looks at the exponent before it compares, since that may write out as many digits.
func chargeable(d decimal.Decimal) bool {
	return d.Exponent() >= -18 && d.Exponent() <= 6 && !d.IsNegative() && d.LessThanOrEqual(decimal.NewFromInt(1_000_000))
}
