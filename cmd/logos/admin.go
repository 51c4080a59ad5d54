package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/probe"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// serveAdmin serves the admin port until ctx ends.
func (g *gateway) serveAdmin(ctx context.Context, listener net.Listener) error {
	prober := probe.New(g.force.config, g.egress, g.xds, &g.probes, records{g.store}, g.settings.dataPlane())
	calls, err := api.NewHandler(g.service, prober, explainer{g.decider}, g.token, g.settings.dataURL(), g.log, g.registry)
	if err != nil {
		return err
	}
	defer calls.Close()
	mux := http.NewServeMux()
	mux.Handle("/", calls)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, Protocols: new(http.Protocols),
	}
	// gRPC needs HTTP/2, also where there is no TLS.
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	if g.settings.adminCertFile != "" {
		certificate := &certificate{certFile: g.settings.adminCertFile, keyFile: g.settings.adminKeyFile}
		if _, err := certificate.get(nil); err != nil {
			return finalError{err}
		}
		listener = tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get, NextProtos: []string{"h2", "http/1.1"}})
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		left, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLeft)
		defer cancel()
		if server.Shutdown(left) != nil {
			server.Close()
		}
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin port: %w", err)
	}
	<-stopped
	return nil
}

// records is what trying a provider asks of the store.
type records struct{ *store.Store }

// Call returns the record of a call, whoever made it.
func (r records) Call(ctx context.Context, id logos.CallID) (*logos.Call, error) {
	return r.Store.Call(ctx, store.Scope{}, id)
}

// explainer decides calls by the code that decides those that are made.
type explainer struct{ *extproc.Server }

// Explain decides a call and sends nothing.
func (e explainer) Explain(ctx context.Context, c api.ExplainedCall) (*logos.Decision, error) {
	return e.Server.Explain(ctx, extproc.ExplainRequest(c))
}

// readyz is 200 when the database is migrated and Envoy has accepted and warmed the configuration.
func (g *gateway) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := g.store.Migrated(ctx); err != nil {
		http.Error(w, "the database is not ready", http.StatusServiceUnavailable)
		return
	}
	if !g.seeded.Load() {
		http.Error(w, "the demo is being set up", http.StatusServiceUnavailable)
		return
	}
	if err := g.xds.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// A certificate is read again when its file changes.
type certificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	loaded *tls.Certificate
	at     time.Time
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.certFile)
	if err == nil && (c.loaded == nil || !info.ModTime().Equal(c.at)) {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.loaded, c.at = &pair, info.ModTime()
		}
	}
	if c.loaded == nil {
		return nil, fmt.Errorf("load the admin certificate: %w", err)
	}
	return c.loaded, nil // the last good one, if the files are being replaced
}

// askHealth asks the serve beside it, for images that have no other program.
func askHealth(ctx context.Context, s *settings, _ *zap.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, _, err := get(ctx, s, "/healthz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("logos serve answers %d", status)
	}
	return err
}

// get asks the admin port of this gateway itself.
func get(ctx context.Context, s *settings, path string) (status int, body string, err error) {
	url := "http://" + reachable(s.adminListen) + path
	client := http.Client{}
	if s.adminCertFile != "" {
		url = "https://" + reachable(s.adminListen) + path
		// It is asked whether it is up; its certificate is for others, and names their name for it.
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", fmt.Errorf("ask the gateway: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask the gateway: %w", err)
	}
	defer resp.Body.Close()
	defer client.CloseIdleConnections()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode, strings.TrimSpace(string(text)), err
}
