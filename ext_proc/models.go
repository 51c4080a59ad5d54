package extproc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/ls1intum/edutelligence/logos"
)

// listModels answers GET /v1/models and /v1/models/{model} with the models that the key may use and the
// policies that it may name in a model's place, in the shape that the caller's client expects.
func (c *call) listModels() (*extprocv3.ProcessingResponse, error) {
	names := append(c.modelNames(), c.snapshot.policies.Names(c.asks(), c.profiles)...)
	slices.Sort(names)
	names = slices.Compact(names)
	render := openAIModel
	if c.anthropic {
		render = anthropicModel
	}
	var body any
	if one := c.route.Model; one != "" {
		if !slices.Contains(names, one) {
			return nil, logos.Errorf(logos.NotFound, "model_not_found", "there is no model %.256q that this key may use", one)
		}
		body = render(one)
	} else {
		list := make([]any, len(names))
		for i, n := range names {
			list[i] = render(n)
		}
		body = modelList(list, names, c.anthropic)
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode the models: %w", err)
	}
	return immediate(200, "logos_models", encoded, nil, nil), nil
}

// modelNames returns the names of the models that the call may use, in order.
func (c *call) modelNames() []string {
	seen := make(map[string]bool)
	add := func(ids []logos.ModelID) {
		for _, id := range ids {
			if m := c.config.ModelByID(id); m != nil && c.key.AllowsModel(id) {
				seen[m.Name] = true
			}
		}
	}
	if c.proxied != nil {
		add(c.limit())
	} else {
		for _, p := range c.profiles {
			add(p.Models)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func openAIModel(name string) any {
	return map[string]any{"id": name, "object": "model", "created": 0, "owned_by": "logos"}
}

func anthropicModel(name string) any {
	return map[string]any{"id": name, "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
}

func modelList(list []any, names []string, anthropic bool) any {
	if !anthropic {
		return map[string]any{"object": "list", "data": list}
	}
	page := map[string]any{"data": list, "has_more": false, "first_id": nil, "last_id": nil}
	if len(names) > 0 {
		page["first_id"], page["last_id"] = names[0], names[len(names)-1]
	}
	return page
}
