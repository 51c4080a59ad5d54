package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Progress returns which version of the clusters Envoy accepted last, the names of those that still warm,
// and whether a listener of the data plane is up and none is warming.
func (a *Admin) Progress(ctx context.Context) (clusters string, warming []string, listening bool, err error) {
	body, err := a.do(ctx, http.MethodGet, "/stats", url.Values{"format": {"json"}, "type": {"All"}, "filter": {
		`^(cluster_manager\.(warming_clusters|cds\.version_text)|listener_manager\.total_listeners_(active|warming))$`,
	}})
	if err != nil {
		return "", nil, false, err
	}
	var stats struct {
		Stats []struct {
			Name  string `json:"name"`
			Value any    `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		return "", nil, false, fmt.Errorf("read Envoy's stats: %w", err)
	}
	values := make(map[string]any, len(stats.Stats))
	for _, s := range stats.Stats {
		values[s.Name] = s.Value
	}
	clusters, _ = values["cluster_manager.cds.version_text"].(string)
	active, _ := values["listener_manager.total_listeners_active"].(float64)
	pending, _ := values["listener_manager.total_listeners_warming"].(float64)
	if n, _ := values["cluster_manager.warming_clusters"].(float64); n > 0 {
		warming, err = a.warming(ctx)
	}
	return clusters, warming, active > 0 && pending == 0, err
}

// warming returns the names of the clusters that still warm.
func (a *Admin) warming(ctx context.Context) ([]string, error) {
	body, err := a.do(ctx, http.MethodGet, "/config_dump", url.Values{"resource": {"dynamic_warming_clusters"}, "mask": {"cluster"}})
	if err != nil {
		return nil, err
	}
	var dump struct {
		Configs []struct {
			Cluster struct {
				Name string `json:"name"`
			} `json:"cluster"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(body, &dump); err != nil {
		return nil, fmt.Errorf("read Envoy's warming clusters: %w", err)
	}
	var names []string
	for _, c := range dump.Configs {
		names = append(names, c.Cluster.Name)
	}
	return names, nil
}
