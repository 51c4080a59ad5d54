package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
)

// How many changes of each kind are measured: each once made and once taken back.
const (
	keyChanges        = 200
	deploymentChanges = 50
)

// effects is what changes of the configuration took: from the commit in the database until a caller saw
// their effect on the data plane.
type effects struct {
	keyAdded, keyRevoked            []time.Duration
	deploymentAdded, deploymentGone []time.Duration
	pushes                          []push
	between                         []string // answers that were neither what held before nor what shall hold
	others                          caller
}

// A push is what went to Envoy for one change.
type push struct {
	what             string
	resources, bytes float64
}

// latestRevision returns the revision of the database.
func latestRevision(ctx context.Context, databaseURL string) (revision int64, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "select revision from config_revision").Scan(&revision)
	return revision, err
}

// A changer changes a product's database by hand and looks at its data plane as callers do.
type changer struct {
	*product
	conn   *pgx.Conn
	hasher logos.Hasher
	client client
	out    *effects
}

// measureEffects makes changes one after another, while another caller goes on calling.
func (p *product) measureEffects(ctx context.Context) (*effects, error) {
	databaseURL, err := environment(p.tree.serve.pid, "DATABASE_URL")
	if err != nil {
		return nil, err
	}
	hasher, err := readHasher(ctx, databaseURL, p.dir)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	c := &changer{product: p, conn: conn, hasher: hasher, out: &effects{}}
	defer c.client.close()
	others, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { c.out.others.run(others, shapes()[0].call(p.side, newMock(0))) })
	err = c.all(ctx)
	stop()
	wait.Wait()
	return c.out, err
}

func (c *changer) all(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, "bench: changes of API keys")
	for n := range keyChanges {
		if err := c.key(ctx, n); err != nil {
			return fmt.Errorf("change API key %d: %w", n, err)
		}
	}
	fmt.Fprintln(os.Stderr, "bench: changes of deployments")
	for n := range deploymentChanges {
		if err := c.deployment(ctx, n); err != nil {
			return fmt.Errorf("change deployment %d: %w", n, err)
		}
	}
	return c.measurePushes(ctx)
}

// key adds an API key, sees it work, revokes it, and sees it refused.
func (c *changer) key(ctx context.Context, n int) error {
	secret := fmt.Sprintf("%schanged%025d", logos.KeyPrefix, n)
	what := c.callWith(secret, modelName)
	if err := c.expect(what, http.StatusUnauthorized); err != nil {
		return err
	}
	hash := c.hasher.APIKey(secret)
	took, err := c.effect(ctx, what, http.StatusOK, http.StatusUnauthorized, func(ctx context.Context, tx pgx.Tx, revision int64) error {
		_, err := tx.Exec(ctx, "insert into api_keys (project_id, role, hash, revision) select project_id, 'member', $1, $2 from profiles where id = $3", hash[:], revision, c.profile)
		return err
	})
	if err != nil {
		return err
	}
	c.out.keyAdded = append(c.out.keyAdded, took)
	took, err = c.effect(ctx, what, http.StatusUnauthorized, http.StatusOK, func(ctx context.Context, tx pgx.Tx, revision int64) error {
		_, err := tx.Exec(ctx, "update api_keys set revoked_at = now(), revision = $2 where hash = $1", hash[:], revision)
		return err
	})
	c.out.keyRevoked = append(c.out.keyRevoked, took)
	return err
}

// deployment adds a model with a deployment, sees a call answered, takes both away, and sees it refused.
func (c *changer) deployment(ctx context.Context, n int) error {
	name := fmt.Sprintf("changed-%d", n)
	what := c.callWith(c.product.key, name)
	if err := c.expect(what, http.StatusNotFound); err != nil {
		return err
	}
	took, err := c.effect(ctx, what, http.StatusOK, http.StatusNotFound, func(ctx context.Context, tx pgx.Tx, revision int64) error {
		return c.addDeployment(ctx, tx, revision, name)
	})
	if err != nil {
		return err
	}
	c.out.deploymentAdded = append(c.out.deploymentAdded, took)
	took, err = c.effect(ctx, what, http.StatusNotFound, http.StatusOK, func(ctx context.Context, tx pgx.Tx, revision int64) error {
		_, err := tx.Exec(ctx, "with m as (update models set deleted_at = now(), revision = $2 where name = $1 returning id) update deployments set deleted_at = now(), revision = $2 where model_id in (select id from m)", name, revision)
		return err
	})
	c.out.deploymentGone = append(c.out.deploymentGone, took)
	return err
}

func (c *changer) addDeployment(ctx context.Context, tx pgx.Tx, revision int64, name string) error {
	var model int64
	if err := tx.QueryRow(ctx, "insert into models (name, revision) values ($1, $2) returning id", name, revision).Scan(&model); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "insert into deployments (model_id, provider_id, revision) values ($1, $2, $3)", model, c.providerID, revision); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "insert into profile_models (profile_id, model_id) values ($1, $2)", c.profile, model)
	return err
}

// effect makes a change and calls until the answer has the wanted status. It returns how long that took
// from the commit.
func (c *changer) effect(ctx context.Context, what *call, want, before int, do func(context.Context, pgx.Tx, int64) error) (time.Duration, error) {
	begin, err := change(ctx, c.conn, do)
	if err != nil {
		return 0, err
	}
	for {
		if _, err := c.client.call(what); err != nil {
			return 0, err
		}
		took := time.Since(begin)
		switch status := c.client.status; {
		case status == want:
			return took, nil
		case took > 30*time.Second:
			return 0, fmt.Errorf("a change has no effect: the answer is %d still, want %d: %.300s", status, want, c.client.body)
		case status != before:
			c.out.between = append(c.out.between, fmt.Sprintf("%d after %v: %.200s", status, took.Round(time.Millisecond), c.client.body))
		}
		time.Sleep(2 * time.Millisecond) // the caller's CPU is that of what is measured
	}
}

// expect makes sure of what holds before a change.
func (c *changer) expect(what *call, status int) error {
	if _, err := c.client.call(what); err != nil {
		return err
	}
	if c.client.status != status {
		return fmt.Errorf("before the change the answer is %d, want %d: %.300s", c.client.status, status, c.client.body)
	}
	return nil
}

func (c *changer) callWith(key, model string) *call {
	return &call{address: c.address, key: key, body: fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":"Hello"}]}`, model)}
}

// measurePushes makes one change of each kind and says what went to Envoy for it.
func (c *changer) measurePushes(ctx context.Context) error {
	run := func(sql string, args ...any) func(context.Context, pgx.Tx, int64) error {
		return func(ctx context.Context, tx pgx.Tx, revision int64) error {
			_, err := tx.Exec(ctx, sql, append([]any{revision}, args...)...)
			return err
		}
	}
	for _, one := range []struct {
		what string
		do   func(context.Context, pgx.Tx, int64) error
	}{
		{"an API key is changed", run("update api_keys set expires_at = now() + interval '1 day', revision = $1 where id = (select max(id) from api_keys)")},
		{"a model is granted to a profile", run("with r as (select $1::bigint) insert into profile_models (profile_id, model_id) select $2, $3 from r", firstID, firstID+popularModels+7)},
		{"a deployment is added", func(ctx context.Context, tx pgx.Tx, revision int64) error {
			return c.addDeployment(ctx, tx, revision, "pushed")
		}},
		{"a provider with 5 deployments has another usual auth header", run("update providers set auth_header = 'api-key', revision = $1 where id = $2", firstID+1)},
		{"a provider has an auth header that none had: every cluster removes it", run("update providers set auth_header = 'x-unusual', revision = $1 where id = $2", firstID+2)},
	} {
		p, err := c.push(ctx, one.what, one.do)
		if err != nil {
			return fmt.Errorf("%s: %w", one.what, err)
		}
		c.out.pushes = append(c.out.pushes, p)
	}
	return nil
}

func (c *changer) push(ctx context.Context, what string, do func(context.Context, pgx.Tx, int64) error) (push, error) {
	// What earlier changes have left behind goes some seconds after them.
	time.Sleep(8 * time.Second)
	resources, err := c.metric(ctx, "logos_xds_pushed_resources_total")
	if err != nil {
		return push{}, err
	}
	bytes, err := c.metric(ctx, "logos_xds_pushed_bytes_total")
	if err != nil {
		return push{}, err
	}
	if _, err := change(ctx, c.conn, do); err != nil {
		return push{}, err
	}
	time.Sleep(3 * time.Second)
	moreResources, err := c.metric(ctx, "logos_xds_pushed_resources_total")
	if err != nil {
		return push{}, err
	}
	moreBytes, err := c.metric(ctx, "logos_xds_pushed_bytes_total")
	return push{what: what, resources: moreResources - resources, bytes: moreBytes - bytes}, err
}

// A caller calls now and then and counts what goes wrong.
type caller struct {
	answered int
	timings  []time.Duration
	failures []string
}

func (c *caller) run(ctx context.Context, what *call) {
	var own client
	defer own.close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := own.call(what)
		if err != nil {
			c.failures = append(c.failures, err.Error())
		} else {
			c.answered++
			c.timings = append(c.timings, t.whole)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// quantiles writes the median and the 99th percentile.
func quantiles(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(took))
	at := func(q float64) time.Duration {
		return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(100 * time.Microsecond)
	}
	return strings.Join([]string{at(0.5).String(), at(0.99).String(), sorted[len(sorted)-1].Round(100 * time.Microsecond).String()}, " | ")
}
