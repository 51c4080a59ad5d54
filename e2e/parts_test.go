package e2e_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestPartsRunApart runs serve and Envoy as docker-compose.yaml does, each started by hand, with the
// bootstrap file as it is.
func TestPartsRunApart(t *testing.T) {
	db := startDatabase(t)
	p := plain(t, usage{input: 6, output: 3})
	g := newGateway(t, map[string]string{"DATABASE_URL": db.url, "LOGOS_MASTER_KEY": testMasterKey})
	g.exited = make(chan struct{})
	g.startServe(binary)
	g.startEnvoy()
	g.waitReady()
	g.setup("first", p.URL)
	g.deploy("m", "", p.openai("p"))
	r := g.chat("m")
	if rec := g.record(r.id()); r.status != 200 || rec.meters() != "input=6 output=3" {
		t.Errorf("answer %v, record %+v", r, rec)
	}
	if out, err := command("health", "LOGOS_ADMIN_LISTEN="+g.admin).CombinedOutput(); err != nil {
		t.Errorf("health: %v %s", err, out)
	}
	if out, err := command("health", "LOGOS_ADMIN_LISTEN=127.0.0.1:9").CombinedOutput(); err == nil {
		t.Errorf("health without a serve: %s", out)
	}
}

const testMasterKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// startServe starts a `logos serve` and waits until Envoy can connect to it. stop ends it as a supervisor does.
func (g *gateway) startServe(program string) (stop func()) {
	g.t.Helper()
	g.program = program
	cmd := g.prepare("serve")
	cmd.Stdout, cmd.Stderr = g.output, g.output
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			g.t.Errorf("serve ended with %v", err)
		}
	})
	g.t.Cleanup(stop)
	g.eventually("sockets", waitLong, func() bool {
		conn, err := net.Dial("unix", filepath.Join(g.dir, "run", "xds.sock"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return stop
}

// startEnvoy starts an Envoy by hand, with the bootstrap file as it is.
func (g *gateway) startEnvoy() {
	g.t.Helper()
	_, port, err := net.SplitHostPort(g.stats)
	if err != nil {
		g.t.Fatal(err)
	}
	bootstrap, err := filepath.Abs("../envoy/bootstrap.yaml")
	if err != nil {
		g.t.Fatal(err)
	}
	envoy := exec.Command(g.env["LOGOS_ENVOY"], "--config-path", bootstrap,
		"--config-yaml", "{admin: {address: {socket_address: {address: 127.0.0.1, port_value: "+port+"}}}}",
		"--service-node", "an-epoch", "--service-cluster", "logos", "--disable-hot-restart", "--file-flush-interval-msec", "20")
	envoy.Dir = filepath.Join(g.dir, "run")
	background(g.t, g, envoy)
}

// background runs a command until the test ends.
func background(t *testing.T, g *gateway, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = g.output, g.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

func TestServeSaysWhatItLacks(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, "DATABASE_URL is not set"},
		{[]string{"DATABASE_URL=postgres://x@127.0.0.1:9/x"}, "there is no master key"},
		{[]string{"DATABASE_URL=postgres://x@127.0.0.1:9/x", "LOGOS_MASTER_KEY=short"}, "must be 32 bytes"},
		{[]string{"LOGOS_LISTEN=gateway.example:8080"}, "LOGOS_LISTEN is"}, // Envoy would refuse it for ever
		{[]string{"LOGOS_LISTEN=nowhere", "LOGOS_IDLE_TIMEOUT=soon"}, "LOGOS_IDLE_TIMEOUT is"},
	} {
		cmd := exec.Command(binary, "serve")
		cmd.Env = append(withoutOwn(os.Environ()), c.env...)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "short") {
			t.Errorf("with %v: %v %s", c.env, err, out)
		}
	}
}

func TestTwoGatewaysShareADatabase(t *testing.T) {
	db := startDatabase(t)
	p := plain(t, usage{input: 6, output: 3})
	env := map[string]string{"DATABASE_URL": db.url, "LOGOS_MASTER_KEY": testMasterKey}
	first, second := start(t, env), start(t, env)
	first.deploy("m", "", p.openai("p"))
	second.root = first.root
	second.waitRevision()
	for _, g := range []*gateway{first, second} {
		r := g.chat("m")
		if r.status != 200 {
			t.Fatalf("answer %v", r)
		}
		for _, other := range []*gateway{first, second} { // each shows the calls of both
			if rec := other.record(r.id()); rec.meters() != "input=6 output=3" {
				t.Errorf("record %+v", rec)
			}
		}
	}
	if n := first.scalar("select count(distinct gateway) from calls"); n != 2 {
		t.Errorf("the calls are of %d gateways", n)
	}
}

func TestListensOnLocalhostByName(t *testing.T) {
	g := newGateway(t, nil, "--demo=false")
	for name, address := range map[string]string{"LOGOS_LISTEN": g.data, "LOGOS_ADMIN_LISTEN": g.admin, "LOGOS_ENVOY_ADMIN": g.stats} {
		g.env[name] = strings.Replace(address, "127.0.0.1", "localhost", 1)
	}
	g.up()
	g.waitReady()
	if r := g.call("GET", "/v1/models", "", "authorization:"); r.status != 401 {
		t.Errorf("answer %v", r)
	}
}
