package envoy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
)

// Listening says whether a listener of the data plane is up. Envoy lists those that have all they need.
func (a *Admin) Listening(ctx context.Context) (bool, error) {
	var listeners struct {
		Statuses []json.RawMessage `json:"listener_statuses"`
	}
	err := a.read(ctx, "/listeners", url.Values{"format": {"json"}}, &listeners)
	return len(listeners.Statuses) > 0, err
}

// Clusters returns the versions of the clusters that Envoy has taken, warmed or not, by name. With many
// clusters it is much to ask.
func (a *Admin) Clusters(ctx context.Context) (map[string]string, error) {
	versions := make(map[string]string)
	// A cluster of which a new version warms is in both; the new one counts.
	for _, part := range []string{"dynamic_active_clusters", "dynamic_warming_clusters"} {
		more, err := a.dumped(ctx, part)
		if err != nil {
			return nil, err
		}
		maps.Copy(versions, more)
	}
	return versions, nil
}

// dumped returns the versions of the clusters in a part of Envoy's configuration, by name.
func (a *Admin) dumped(ctx context.Context, part string) (map[string]string, error) {
	var dump struct {
		Configs []struct {
			Version string `json:"version_info"`
			Cluster struct {
				Name string `json:"name"`
			} `json:"cluster"`
		} `json:"configs"`
	}
	if err := a.read(ctx, "/config_dump", url.Values{"resource": {part}, "mask": {"cluster.name,version_info"}}, &dump); err != nil {
		return nil, err
	}
	versions := make(map[string]string, len(dump.Configs))
	for _, c := range dump.Configs {
		versions[c.Cluster.Name] = c.Version
	}
	return versions, nil
}

// read decodes a page in JSON.
func (a *Admin) read(ctx context.Context, path string, query url.Values, into any) error {
	body, err := a.do(ctx, http.MethodGet, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read Envoy's %s: %w", path, err)
	}
	return nil
}
