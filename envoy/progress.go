package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Progress returns which version of the clusters Envoy accepted last, the names of those that still warm,
// and whether a listener of the data plane is up and none is warming.
func (a *Admin) Progress(ctx context.Context) (clusters string, warming []string, listening bool, err error) {
	stats, err := a.stats(ctx, `^(cluster_manager\.(warming_clusters|cds\.version_text)|listener_manager\.total_listeners_(active|warming))$`, url.Values{"type": {"All"}})
	if err != nil {
		return "", nil, false, err
	}
	values := make(map[string]stat, len(stats))
	for _, s := range stats {
		values[s.Name] = s
	}
	clusters, _ = values["cluster_manager.cds.version_text"].Value.(string)
	active := values["listener_manager.total_listeners_active"].number()
	pending := values["listener_manager.total_listeners_warming"].number()
	if values["cluster_manager.warming_clusters"].number() > 0 {
		warming, err = a.warming(ctx)
	}
	return clusters, warming, active > 0 && pending == 0, err
}

// Vacant returns the stat names of the clusters that have no host: their name does not resolve. Envoy
// fails a call that it sends there without trying the next target.
func (a *Admin) Vacant(ctx context.Context) ([]string, error) {
	const prefix, suffix = "cluster.", ".membership_total"
	stats, err := a.stats(ctx, `^cluster\.[^.]+\.membership_total$`, nil)
	if err != nil {
		return nil, err
	}
	var vacant []string
	for _, s := range stats {
		if s.number() == 0 {
			vacant = append(vacant, strings.TrimSuffix(strings.TrimPrefix(s.Name, prefix), suffix))
		}
	}
	return vacant, nil
}

// warming returns the names of the clusters that still warm.
func (a *Admin) warming(ctx context.Context) ([]string, error) {
	return a.dumped(ctx, "dynamic_warming_clusters")
}

// Active returns the names of the clusters that Envoy has taken and warmed. With many clusters it is much
// to ask; Progress says the same as long as nothing is refused.
func (a *Admin) Active(ctx context.Context) ([]string, error) {
	return a.dumped(ctx, "dynamic_active_clusters")
}

// dumped returns the names of the clusters in a part of Envoy's configuration.
func (a *Admin) dumped(ctx context.Context, part string) ([]string, error) {
	body, err := a.do(ctx, http.MethodGet, "/config_dump", url.Values{"resource": {part}, "mask": {"cluster.name"}})
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
		return nil, fmt.Errorf("read Envoy's clusters: %w", err)
	}
	var names []string
	for _, c := range dump.Configs {
		names = append(names, c.Cluster.Name)
	}
	return names, nil
}
