package store_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestOpenSaysWhatIsWrongWithoutTheSecret(t *testing.T) {
	t.Parallel()
	base, err := url.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	const password = "canary-5a1ec7ed"
	other := func(change func(*url.URL)) string {
		u := *base
		change(&u)
		return u.String()
	}
	for name, c := range map[string]struct{ url, want string }{
		"no URL at all":       {"postgres://u:" + password + "@host:port/x", "DATABASE_URL"},
		"another scheme":      {"mysql://u:" + password + "@host/x", "DATABASE_URL"},
		"a wrong password":    {other(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), password) }), "password"},
		"an unknown user":     {other(func(u *url.URL) { u.User = url.UserPassword("nobody", password) }), "nobody"},
		"an unknown database": {other(func(u *url.URL) { u.Path = "/nothing" }), "nothing"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		s, err := store.Open(ctx, c.url, zap.NewNop())
		if err == nil {
			s.Close()
			t.Errorf("%s opens", name)
		} else if text := fmt.Sprintf("%v %+v", err, err); !strings.Contains(text, c.want) || strings.Contains(text, password) || ctx.Err() != nil {
			t.Errorf("%s gives %s", name, text)
		}
		cancel()
	}
}

func TestOpenWaitsForAServerThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	real, err := url.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	// A port that nobody listens at until it is looked for, and that then leads to the server's socket.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	tried := make(chan struct{})
	opened := make(chan error, 1)
	u := *real
	u.Host, u.RawQuery = address, "sslmode=disable"
	go func() {
		s, err := store.Open(t.Context(), u.String(), zap.NewNop().WithOptions(onWarning(func() { close(tried) })))
		if err == nil {
			s.Close()
		}
		opened <- err
	}()
	<-tried
	proxy(t, address, real.Query().Get("host")+"/.s.PGSQL.5432")
	if err := <-opened; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	u.Host = "127.0.0.1:1"
	if _, err := store.Open(ctx, u.String(), zap.NewNop()); err == nil {
		t.Error("a server that is not there opens")
	}
}
