package main

import (
	"context"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

func TestARevokedKeyDoesNotWaitForEnvoy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		envoy := make(chan struct{})
		var routed []int64
		f := newForce(func(_ context.Context, c *logos.Config) {
			<-envoy
			routed = append(routed, c.Revision)
		}, zap.NewNop(), prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		compiler := logos.NewCompiler(logos.Hasher{})
		take := func(revision int64, ch logos.Changes) {
			t.Helper()
			config, err := compiler.Apply(revision, ch)
			if err != nil {
				t.Fatal(err)
			}
			f.take(ctx, config, time.Time{})
			synctest.Wait()
		}
		key := func(n byte) logos.KeyHash { return logos.KeyHash{n} }
		has := func(n byte) bool { return f.present.Load().APIKey(key(n)) != nil }
		take(1, logos.Changes{Resources: logos.Resources{
			Projects: []*logos.Project{{ID: 1}},
			APIKeys:  []*logos.APIKey{{ID: 1, ProjectID: 1, Hash: key(1)}, {ID: 2, ProjectID: 1, Hash: key(2)}},
		}})
		if f.present.Load() != nil {
			t.Fatal("the first revision is in force before Envoy has it")
		}
		envoy <- struct{}{}
		synctest.Wait()
		if f.present.Load() == nil || f.present.Load().Revision != 1 {
			t.Fatal("the first revision is not in force")
		}
		take(2, logos.Changes{Gone: logos.Gone{APIKeys: []logos.APIKeyID{1}}})
		if has(1) || f.present.Load().Revision != 2 || len(routed) != 1 {
			t.Errorf("a change of keys alone is not in force at once, or goes to Envoy: %v", routed)
		}
		take(3, logos.Changes{Resources: logos.Resources{Providers: []*logos.Provider{{ID: 1, BaseURL: &url.URL{Scheme: "https", Host: "x"}}}}})
		take(4, logos.Changes{Gone: logos.Gone{APIKeys: []logos.APIKeyID{2}}})
		if has(2) || f.present.Load().Revision != 2 || f.present.Load().Provider(1) != nil {
			t.Error("while Envoy takes its time, a revoked key works, or a provider counts that it does not have")
		}
		waited := make(chan struct{})
		go func() {
			f.wait(ctx, 4)
			close(waited)
		}()
		envoy <- struct{}{}
		<-waited
		if f.present.Load().Revision != 4 || f.present.Load().Provider(1) == nil {
			t.Errorf("revision %d is in force, want all of 4", f.present.Load().Revision)
		}
		if len(routed) != 2 {
			t.Errorf("Envoy was brought the revisions %v, want two", routed)
		}
	})
}

func TestNobodyWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForce(nil, zap.NewNop(), prometheus.NewRegistry())
		begin := time.Now()
		f.wait(t.Context(), 1)
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("a revision that does not come was waited for %v", took)
		}
	})
}
