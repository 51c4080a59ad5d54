package envoy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos/envoy"
)

// program finds the real Envoy.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("LOGOS_ENVOY")
	if path == "" {
		var err error
		if path, err = filepath.Abs("../.runtime/envoy/_bin/envoy"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("Envoy is missing: `make runtime` fetches it: %v", err)
	}
	return path
}

func TestEpochsAreUUIDs(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		e := envoy.NewEpoch()
		if !form.MatchString(e) || seen[e] {
			t.Fatalf("the epoch %q is no UUID of version 4, or there twice", e)
		}
		seen[e] = true
	}
}

func TestCommandNamesTheProcessAndItsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, err := envoy.Command(envoy.Options{Program: "/opt/envoy", RunDir: dir, Admin: "127.0.0.1:9901", Concurrency: 3}, "the-epoch")
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Path != "/opt/envoy" || cmd.Dir != dir {
		t.Errorf("it runs %s in %s", cmd.Path, cmd.Dir)
	}
	for _, want := range [][]string{
		{"--config-path", filepath.Join(dir, "bootstrap.yaml")}, {"--service-node", "the-epoch"}, {"--concurrency", "3"}, {"--file-flush-interval-msec", "20"},
	} {
		if i := slices.Index(cmd.Args, want[0]); i < 0 || i+1 >= len(cmd.Args) || cmd.Args[i+1] != want[1] {
			t.Errorf("the arguments %q lack %q", cmd.Args, want)
		}
	}
	if !slices.Contains(cmd.Args, "--disable-hot-restart") {
		t.Errorf("the arguments %q share memory with other Envoys", cmd.Args)
	}
	info, err := os.Stat(filepath.Join(dir, "bootstrap.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the bootstrap file is %v, %v", info, err)
	}
	if cmd, err = envoy.Command(envoy.Options{Program: "/opt/envoy", RunDir: dir, Admin: "127.0.0.1:9901"}, "e"); err != nil || slices.Contains(cmd.Args, "--concurrency") {
		t.Errorf("without a number of threads, the arguments are %q, %v", cmd.Args, err)
	}
}

func TestTheHeapLimitIsTheOneGiven(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int64]string{0: strconv.Itoa(envoy.BootstrapHeapBytes), envoy.BootstrapHeapBytes: strconv.Itoa(envoy.BootstrapHeapBytes), 123456789: "123456789", 1 << 40: "1099511627776"} {
		dir := t.TempDir()
		if _, err := envoy.Command(envoy.Options{Program: "/x", RunDir: dir, Admin: "127.0.0.1:9901", HeapBytes: limit}, "e"); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "bootstrap.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if got := regexp.MustCompile(`max_heap_size_bytes: (\d+)\n`).FindAllSubmatch(text, -1); len(got) != 1 || string(got[0][1]) != want {
			t.Errorf("with a limit of %d, the bootstrap has %q, want %s", limit, got, want)
		}
	}
}

func TestRefusesAddressesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "::1:9901"} {
		if cmd, err := envoy.Command(envoy.Options{Program: "/x", RunDir: t.TempDir(), Admin: address}, "e"); err == nil {
			t.Errorf("the address %q gives %q", address, cmd.Args)
		}
	}
	if _, err := envoy.Command(envoy.Options{Program: "/x", RunDir: filepath.Join(t.TempDir(), "none"), Admin: "127.0.0.1:1"}, "e"); err == nil {
		t.Error("a run directory that is not there gives no error")
	}
}

func TestEnvoyTakesTheBootstrap(t *testing.T) {
	t.Parallel()
	path := program(t)
	for name, opt := range map[string]envoy.Options{
		"as it is":         {Admin: "127.0.0.1:9901"},
		"with another one": {Admin: "[::1]:19901", HeapBytes: 512 << 20, Concurrency: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt.Program, opt.RunDir = path, t.TempDir()
			cmd, err := envoy.Command(opt, "e")
			if err != nil {
				t.Fatal(err)
			}
			cmd.Args = append(cmd.Args, "--mode", "validate")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			runtime.LockOSThread() // Envoy ends with the thread that started it
			defer runtime.UnlockOSThread()
			if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "OK") {
				t.Errorf("Envoy says %v: %s", err, &out)
			}
		})
	}
}

// A real Envoy starts with the options, and answers what Admin asks.
func TestARunningEnvoyHasTheOptions(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	epoch := envoy.NewEpoch()
	cmd, err := envoy.Command(envoy.Options{Program: program(t), RunDir: t.TempDir(), Admin: address, HeapBytes: 345 << 20, Concurrency: 1}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	run(t, cmd)
	admin := envoy.NewAdmin(address)
	defer admin.Close()
	begin := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		listening, err := admin.Listening(t.Context())
		if err == nil {
			if listening {
				t.Error("without any configuration, it listens")
			}
			break
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatal(err)
		}
	}
	failures, err := admin.WriteFailures(t.Context())
	active, err2 := admin.ActiveRequests(t.Context())
	if failures != 0 || active != 0 || err != nil || err2 != nil {
		t.Errorf("it has %d write failures and %d requests, %v, %v", failures, active, err, err2)
	}
	if known, err := admin.Clusters(t.Context()); len(known) != 0 || err != nil {
		t.Errorf("beside that of its bootstrap, its clusters are %v, %v", known, err)
	}
	if err := admin.Reopen(t.Context()); err != nil {
		t.Error(err)
	}
	type m = map[string]any
	var dump struct {
		Configs []struct {
			Bootstrap struct {
				Admin struct {
					Address struct {
						SocketAddress m `json:"socket_address"`
					}
				}
				Manager struct {
					Monitors []struct {
						Config m `json:"typed_config"`
					} `json:"resource_monitors"`
				} `json:"overload_manager"`
			}
		}
	}
	if err := json.Unmarshal(get(t, address, "/config_dump"), &dump); err != nil || len(dump.Configs) == 0 {
		t.Fatalf("its configuration is %+v, %v", dump, err)
	}
	b := dump.Configs[0].Bootstrap
	host, port, _ := net.SplitHostPort(address)
	if got := b.Admin.Address.SocketAddress; got["address"] != host || strconv.Itoa(int(got["port_value"].(float64))) != port {
		t.Errorf("its admin is at %v, want %s", got, address)
	}
	var info struct{ Node struct{ ID, Cluster string } }
	if err := json.Unmarshal(get(t, address, "/server_info"), &info); err != nil || info.Node.ID != epoch || info.Node.Cluster != "logos" {
		t.Errorf("its node is %+v, %v; want the epoch %s", info.Node, err, epoch)
	}
	if len(b.Manager.Monitors) != 2 || b.Manager.Monitors[0].Config["max_heap_size_bytes"] != strconv.Itoa(345<<20) {
		t.Errorf("its monitors are %v", b.Manager.Monitors)
	}
}

// run starts a command on a thread that outlives it, and ends it after the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	started, ended := make(chan error, 1), make(chan struct{})
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("Envoy said: %s", &out)
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, address, path string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return fetch(ctx, t, "http://"+address+path)
}
