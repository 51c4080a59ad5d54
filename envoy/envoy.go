// Package envoy runs a child Envoy on the bootstrap that deployments without `logos up` use as well, and
// speaks with Envoy's admin interface. What Envoy does is configured by package xds.
package envoy

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// bootstrap is the configuration that every Envoy of Logos starts with. Its paths are relative to the
// run directory.
//
//go:embed bootstrap.yaml
var bootstrap string

// BootstrapHeapBytes is the heap limit of the overload manager in the bootstrap file, in bytes.
const BootstrapHeapBytes = 2 << 30

// NewEpoch returns an epoch: a new random UUID. Every Envoy process has its own; it is its node id and
// part of the name of its access log.
func NewEpoch() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Options say how to start Envoy. All but the numbers are required.
type Options struct {
	Program     string // path of the executable
	RunDir      string // absolute; Envoy's working directory, where it finds the sockets and writes its log
	Admin       string // IP address and port of the admin interface
	Concurrency int    // worker threads; 0: one per CPU
	HeapBytes   int64  // above it Envoy refuses requests; 0: as the bootstrap has it
}

// Command writes the bootstrap file into the run directory and returns the command of one start of
// Envoy. The process that is started must be a child of a thread that outlives it: this build of Envoy
// asks the kernel to be ended with its parent thread.
func Command(opt Options, epoch string) (*exec.Cmd, error) {
	config, err := withHeap(bootstrap, opt.HeapBytes)
	if err != nil {
		return nil, err
	}
	overrides, err := adminOverride(opt.Admin)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(opt.RunDir, "bootstrap.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("write Envoy's bootstrap: %w", err)
	}
	cmd := exec.Command(opt.Program,
		"--config-path", path,
		"--config-yaml", overrides,
		"--service-node", epoch,
		"--service-cluster", "logos",
		// Without hot restart several Envoys share a host, and a killed one leaves no shared memory behind.
		"--disable-hot-restart",
		"--file-flush-interval-msec", "20", // how late usage is known
		"--log-level", "warning",
		"--component-log-level", "misc:error", // it warns that sse_to_metadata is work in progress
		"--log-format", "%Y-%m-%dT%T.%e envoy %l %n %v",
	)
	if opt.Concurrency > 0 {
		cmd.Args = append(cmd.Args, "--concurrency", strconv.Itoa(opt.Concurrency))
	}
	cmd.Dir = opt.RunDir
	return cmd, nil
}

// withHeap sets the heap limit. The list that holds it cannot be overridden by a second configuration.
func withHeap(config string, limit int64) (string, error) {
	if limit == 0 || limit == BootstrapHeapBytes {
		return config, nil
	}
	key := "max_heap_size_bytes: "
	was := key + strconv.Itoa(BootstrapHeapBytes)
	if strings.Count(config, was) != 1 {
		return "", fmt.Errorf("envoy's bootstrap does not have %q once", was)
	}
	return strings.Replace(config, was, key+strconv.FormatInt(limit, 10), 1), nil
}

// adminOverride returns a configuration, merged over the bootstrap, with the admin's address.
func adminOverride(address string) (string, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("address of Envoy's admin: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", fmt.Errorf("port of Envoy's admin: %w", err)
	}
	type m = map[string]any
	out, err := json.Marshal(m{"admin": m{"address": m{"socket_address": m{"address": host, "port_value": port}}}})
	return string(out), err
}
