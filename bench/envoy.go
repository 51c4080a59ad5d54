package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// concurrency is how many worker threads each Envoy has.
const concurrency = 1

// bareKey is the credential of the calls through the bare Envoy, which passes it on.
const bareKey = "bare"

// A bare is an Envoy that does nothing but pass calls on and log them.
type bare struct {
	*child
	*side
}

func startBare(ctx context.Context, dir, program, address, provider string, filters bool) (*bare, error) {
	config, err := bareConfig(address, provider, filepath.Join(dir, "bare-access.txt"), filters)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "bare.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return nil, err
	}
	// As package envoy starts the product's.
	c, err := start(exec.Command(program, "-c", path, "--disable-hot-restart", "--concurrency", strconv.Itoa(concurrency),
		"--file-flush-interval-msec", "20", "--log-level", "warning"), "bare-envoy", dir)
	if err != nil {
		return nil, err
	}
	b := &bare{child: c, side: &side{name: "bare Envoy", address: address, key: bareKey}}
	pid := c.cmd.Process.Pid
	b.cpu = func() (parts, error) {
		p, err := readProcess(pid)
		return parts{envoy: p.cpu}, errors.Join(err, c.hasEnded())
	}
	b.memory = func() (parts, error) {
		bytes, err := resident(pid)
		return parts{envoy: bytes}, err
	}
	b.settle = func(ctx context.Context, _ int) error { return nil }
	if err := firstAnswer(ctx, b.side, c, 15*time.Second, func() error { return nil }); err != nil {
		return nil, errors.Join(err, c.stop(os.Interrupt, 5*time.Second))
	}
	return b, nil
}

// firstAnswer calls a side until it answers as it should, and the answer is what also wants.
func firstAnswer(ctx context.Context, s *side, p *child, within time.Duration, also func() error) error {
	var c client
	defer c.close()
	what := shapes()[0].call(s, newMock(0))
	return poll(ctx, within, 50*time.Millisecond, func() error {
		if err := p.hasEnded(); err != nil {
			return final{err}
		}
		if _, err := c.call(what); err != nil {
			return err
		}
		return also()
	})
}

// A final error is one after which polling is no use.
type final struct{ error }

// poll tries until it works. When time is over it returns the last error.
func poll(ctx context.Context, within, every time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try()
		if over, ok := errors.AsType[final](err); ok {
			return over.error
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(every):
		}
	}
}

// bareConfig is one listener, one route, one cluster and the default access log: the least that is of use.
func bareConfig(address, provider, log string, filters bool) ([]byte, error) {
	type m = map[string]any
	type l = []any
	const types = "type.googleapis.com/envoy.extensions."
	at := func(address string) m {
		host, port, _ := strings.Cut(address, ":")
		n, _ := strconv.Atoi(port) // of our own making
		return m{"address": m{"socket_address": m{"address": host, "port_value": n}}}
	}
	manager := m{
		"@type":       types + "filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "bare",
		"access_log":  l{m{"name": "file", "typed_config": m{"@type": types + "access_loggers.file.v3.FileAccessLog", "path": log}}},
		"http_filters": l{m{"name": "router", "typed_config": m{
			"@type": types + "filters.http.router.v3.Router"}}},
		"route_config": m{"virtual_hosts": l{m{"name": "all", "domains": l{"*"}, "routes": l{
			m{"match": m{"prefix": "/"}, "route": m{"cluster": "provider", "timeout": "60s"}}}}}},
	}
	listener := at(address)
	listener["name"] = "bare"
	listener["filter_chains"] = l{m{"filters": l{m{"name": "http", "typed_config": manager}}}}
	cluster := m{"name": "provider", "type": "STATIC", "connect_timeout": "1s", "load_assignment": m{
		"cluster_name": "provider", "endpoints": l{m{"lb_endpoints": l{m{"endpoint": at(provider)}}}}}}
	static := m{"listeners": l{listener}, "clusters": l{cluster}}
	if filters {
		cluster["typed_extension_protocol_options"] = m{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": m{
			"@type":                types + "upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": m{"http_protocol_options": m{}},
			"http_filters":         upstreamFilters(),
		}}
		static["secrets"] = l{m{"name": "key", "generic_secret": m{"secret": m{"inline_string": "Bearer " + bareKey}}}}
	}
	return json.Marshal(m{"static_resources": static})
}

// upstreamFilters are the least that a gateway with credentials of its own needs for each attempt.
func upstreamFilters() []any {
	type m = map[string]any
	type l = []any
	const types = "type.googleapis.com/envoy.extensions."
	filter := func(name, kind string, fields m) m {
		fields["@type"] = types + kind
		return m{"name": name, "typed_config": fields}
	}
	return l{
		filter("scrub", "filters.http.header_mutation.v3.HeaderMutation", m{"mutations": m{"request_mutations": l{
			m{"remove": "authorization"}, m{"remove": "api-key"}, m{"remove": "x-api-key"}}}}),
		filter("credential", "filters.http.credential_injector.v3.CredentialInjector", m{"overwrite": true, "credential": m{
			"name": "generic", "typed_config": m{"@type": types + "http.injected_credentials.generic.v3.Generic",
				"header": "authorization", "credential": m{"name": "key"}}}}),
		filter("rewrite", "filters.http.lua.v3.Lua", m{"default_source_code": m{"inline_string": "function envoy_on_request(handle)\n  local d = handle:streamInfo():dynamicMetadata():get(\"logos\")\n  if not d then return end\nend\n"}}),
		filter("codec", "filters.http.upstream_codec.v3.UpstreamCodec", m{}),
	}
}
