package dialect

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// anthropicVersion is the version of the Messages API that questions are asked in.
const anthropicVersion = "2023-06-01"

// A Question is a request that tries a provider.
type Question struct {
	API    logos.API // APINone: for the list of models
	Method string
	Path   string            // at the provider, with its query
	Header map[string]string // beside the credential
	Body   []byte
}

// ListModels asks for the models of a provider, from a page on; the first is "".
func ListModels(p *logos.Provider, page string) Question {
	var query string
	header := make(map[string]string)
	if p.Dialect == logos.DialectAnthropic {
		header["anthropic-version"] = anthropicVersion
		query = "limit=1000"
		if page != "" {
			query += "&after_id=" + url.QueryEscape(page)
		}
	}
	return Question{Method: "GET", Path: withQuery(join(apiRoot(p), "/models"), p.BaseURL.RawQuery, query), Header: header}
}

// AskForLittle asks a target's model for as little as its API can give: one token, an embedding. The API is
// the first of those that it serves; ok is false if it serves none.
func AskForLittle(t *logos.Target, model string) (q Question, ok bool) {
	for _, api := range []logos.API{logos.APIChat, logos.APIMessages, logos.APIResponses, logos.APICompletions, logos.APIEmbeddings} {
		if !Serves(t, api) {
			continue
		}
		body, err := json.Marshal(little(api, t.Provider.Dialect, model))
		if err != nil {
			return Question{}, false
		}
		header := map[string]string{"content-type": "application/json"}
		if api == logos.APIMessages {
			header["anthropic-version"] = anthropicVersion
		}
		return Question{API: api, Method: "POST", Path: TargetPath(t, api, ""), Header: header, Body: body}, true
	}
	return Question{}, false
}

func little(api logos.API, d logos.Dialect, model string) map[string]any {
	hi := []map[string]string{{"role": "user", "content": "Hi"}}
	switch api {
	case logos.APIEmbeddings:
		return map[string]any{"model": model, "input": "Hi"}
	case logos.APIResponses:
		return map[string]any{"model": model, "input": "Hi", "max_output_tokens": 16, "store": false} // no fewer are allowed
	case logos.APICompletions:
		return map[string]any{"model": model, "prompt": "Hi", "max_tokens": 1}
	case logos.APIChat:
		if d == logos.DialectOpenAI || d == logos.DialectAzure { // models that reason refuse the older name
			return map[string]any{"model": model, "messages": hi, "max_completion_tokens": 1}
		}
	}
	return map[string]any{"model": model, "messages": hi, "max_tokens": 1}
}

// ReadModels reads a list of models: OpenAI's and Anthropic's shape, or Gemini's own. next is the page after
// it; "": there is none.
func ReadModels(d logos.Dialect, body []byte) (names []string, next string, err error) {
	var list struct {
		Data   *[]struct{ ID string }
		Models *[]struct{ Name string }
		More   bool   `json:"has_more"`
		Last   string `json:"last_id"`
	}
	if err := json.Unmarshal(body, &list); err != nil || list.Data == nil && list.Models == nil {
		return nil, "", logos.Errorf(logos.Invalid, "no_models", "the answer is no list of models")
	}
	if list.Data != nil {
		for _, m := range *list.Data {
			names = append(names, m.ID)
		}
	} else {
		for _, m := range *list.Models {
			names = append(names, m.Name)
		}
	}
	if d == logos.DialectGemini {
		for i := range names {
			names[i] = strings.TrimPrefix(names[i], "models/") // either is understood, and this one is what people write
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" || len(n) > MaxModelLength })
	if list.More {
		next = list.Last
	}
	return names, next, nil
}
