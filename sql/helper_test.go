package store_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const providerSecret = "sk-canary-5a1ec7ed-never-in-the-clear"

// content is what fill adds.
type content struct {
	project    logos.ProjectID
	profile    logos.ProfileID
	provider   logos.ProviderID
	credential logos.CredentialID
	model      logos.ModelID
	deployment logos.DeploymentID
	key        logos.Secret
}

// fill adds one of everything, in one change.
func fill(t *testing.T, s *store.Store) (c content) {
	t.Helper()
	base, err := url.Parse("https://provider.example/v1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		var err error
		step := func(f func() error) {
			if err == nil {
				err = f()
			}
		}
		step(func() (err error) { c.project, err = tx.AddProject(ctx, "a project", false); return err })
		step(func() (err error) { c.profile, err = tx.AddProfile(ctx, c.project, "a profile", true); return err })
		step(func() (err error) {
			c.provider, err = tx.AddProvider(ctx, &logos.Provider{Name: "a provider", BaseURL: base, Dialect: logos.DialectOpenAI, AuthHeader: "authorization", AuthFormat: "Bearer {}"})
			return err
		})
		step(func() (err error) { c.credential, err = tx.AddCredential(ctx, c.provider, providerSecret); return err })
		step(func() error { return tx.GrantCredential(ctx, c.profile, c.credential) })
		step(func() (err error) { c.model, err = tx.AddModel(ctx, "a-model", ""); return err })
		step(func() (err error) { c.deployment, err = tx.AddDeployment(ctx, c.model, c.provider); return err })
		step(func() (err error) { _, _, err = tx.GrantModel(ctx, c.profile, c.model); return err })
		step(func() (err error) { c.key, err = tx.AddAPIKey(ctx, c.project, logos.RoleRoot, "a key"); return err })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dump returns all rows of all tables as text: what a thief of the database reads.
func dump(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	tables := column[string](t, conn, "select relname::text from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace order by 1")
	if len(tables) < 10 {
		t.Fatalf("there are the tables %v", tables)
	}
	out := make(map[string]string)
	for _, table := range tables {
		rows := column[string](t, conn, "select t::text from "+pgx.Identifier{table}.Sanitize()+" t order by 1")
		out[table] = strings.Join(rows, "\n")
	}
	return out
}

// column returns the one column of a query.
func column[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// one returns the one value of a query.
func one[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	all := column[T](t, conn, query, args...)
	if len(all) != 1 {
		t.Fatalf("%s: %d rows", query, len(all))
	}
	return all[0]
}

func exec(t *testing.T, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func revision(t *testing.T, conn *pgx.Conn) int64 {
	t.Helper()
	return one[int64](t, conn, "select revision from config_revision")
}

// soon waits for a condition, which must hold before long.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", what)
		}
	}
}

func callID(n int) logos.CallID {
	return logos.CallID(fmt.Sprintf("%08d-45cf-4a39-9983-4ec0041b40d3", n))
}

// onWarning makes a logger that calls do with its first warning.
func onWarning(do func()) zap.Option {
	once := sync.OnceFunc(do)
	return zap.WrapCore(func(zapcore.Core) zapcore.Core {
		return zapcore.RegisterHooks(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.WarnLevel), func(zapcore.Entry) error {
			once()
			return nil
		})
	})
}

// proxy listens at an address and leads connections to a Unix socket.
func proxy(t *testing.T, address, socket string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", socket)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
}
