package api_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/api"
	"github.com/ls1intum/edutelligence/logos/egress"
)

func allowedHosts(t *testing.T, g *gateway) []string {
	t.Helper()
	hosts := scalar[[]string](t, g.conn(), "select egress_hosts from settings")
	slices.Sort(hosts)
	return hosts
}

func TestRootsWordAllowsTheHostsThatNeedIt(t *testing.T) {
	t.Parallel()
	g := content(t)
	before := allowedHosts(t, g)
	for _, base := range []string{"http://10.0.0.7:8000/v1", "http://LOCALHOST:9000", "http://[FD00::7]:80", "http://vllm.internal.", "https://8.8.8.8/v1", "http://10.0.0.7:9000", "http://169.254.1.2"} {
		if status, answer := g.add(base); status != 200 {
			t.Errorf("%s is answered %d %v", base, status, answer)
		}
	}
	want := append(before, "10.0.0.7", "169.254.1.2", "fd00::7", "localhost", "vllm.internal")
	slices.Sort(want)
	if got := allowedHosts(t, g); !slices.Equal(got, want) {
		t.Errorf("the hosts %q are allowed, want %q", got, want)
	}
}

func TestNobodysWordAllowsMetadata(t *testing.T) {
	t.Parallel()
	g := content(t)
	before := allowedHosts(t, g)
	for _, base := range []string{"http://169.254.169.254", "http://169.254.169.254.", "http://[::ffff:169.254.169.254]:80", "http://[::ffff:a9fe:a9fe]", "http://[64:ff9b::a9fe:a9fe]", "https://[fd00:ec2::254]/v1", "http://100.100.100.200"} {
		status, answer := g.add(base)
		if text := message(t, answer); status != 422 || !strings.Contains(text, "metadata") && !strings.Contains(text, "usual form") {
			t.Errorf("%s is answered %d %q", base, status, text)
		}
	}
	if got := allowedHosts(t, g); !slices.Equal(got, before) {
		t.Errorf("the hosts %q are allowed, want %q", got, before)
	}
}

func TestTheDemoAllowsItsOwnHost(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	service := api.NewService(g.store, func(context.Context, int64) {}, egress.NewBook(nowhere{}, nil, egress.Options{}, zap.NewNop(), prometheus.NewRegistry()))
	key, err := service.Demo(t.Context(), "http://127.0.0.1:9999", "demo", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := allowedHosts(t, g); !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("the hosts %q are allowed", got)
	}
	if _, err := service.Demo(t.Context(), "http://localhost:9998", "demo", key); err != nil {
		t.Fatal(err)
	}
	if got := allowedHosts(t, g); !slices.Equal(got, []string{"127.0.0.1", "localhost"}) {
		t.Errorf("after it moved, the hosts %q are allowed", got)
	}
}
