package store_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestAfterARotationTheNewKeyAloneOpensEverything(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	oldText, newText := store.NewMasterKeyText(), store.NewMasterKeyText()
	old, fresh := pgtest.Key(t, oldText), pgtest.Key(t, newText)
	c := fill(t, pgtest.Open(t, url, old))
	conn := pgtest.Conn(t, url)
	exec(t, conn, "insert into credentials (provider_id, key_id, data_key, secret, hash, revision, deleted_at) select provider_id, key_id, data_key, secret, '\\x00', revision, now() from credentials")
	before := revision(t, conn)

	s := pgtest.Open(t, url, pgtest.Key(t, newText+"\n"+oldText+"\n"))
	for i, want := range []store.Rotation{{From: old.ID(), To: fresh.ID(), Credentials: 2}, {From: fresh.ID(), To: fresh.ID()}} {
		if got, err := s.Rekey(t.Context()); got != want || err != nil {
			t.Errorf("rotation %d: %+v, %v; want %+v", i+1, got, err, want)
		}
	}
	if now := revision(t, conn); now != before+1 {
		t.Errorf("the revision is %d, want %d: one for the rotation, none for the one that changed nothing", now, before+1)
	}
	if n := one[int](t, conn, "select count(*)::int from audit_events where method = 'RotateMasterKey' and before->>'id' = $1 and after->>'id' = $2", old.ID(), fresh.ID()); n != 1 {
		t.Errorf("%d audit events tell of the rotation", n)
	}
	if n := one[int](t, conn, "select count(*)::int from credentials where key_id <> $1", fresh.ID()); n != 0 {
		t.Errorf("%d credentials are under another key", n)
	}

	after := pgtest.Open(t, url, fresh)
	config, err := after.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, target := range config.Targets() {
		if target.Credential != nil && target.Credential.ID == c.credential && target.Credential.Secret == providerSecret {
			known++
		}
	}
	if known == 0 {
		t.Error("no target has the credential's secret")
	}
	if _, err := after.Authenticate(t.Context(), string(c.key), time.Now()); err != nil {
		t.Errorf("an API key of before: %v", err)
	}
	if err := open(t, url).Unlock(t.Context(), old); !errors.Is(err, store.ErrWrongKey) || !strings.Contains(err.Error(), fresh.ID()) {
		t.Errorf("the old key alone: %v", err)
	}
	for table, text := range dump(t, conn) {
		for _, secret := range []string{oldText, newText, providerSecret} {
			if holds(text, secret) {
				t.Errorf("the table %s holds a part of a secret", table)
			}
		}
	}
}

func TestARotationNeedsTheKeyOfEverything(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	oldText, newText := store.NewMasterKeyText(), store.NewMasterKeyText()
	fill(t, pgtest.Open(t, url, pgtest.Key(t, oldText)))
	conn := pgtest.Conn(t, url)
	s := pgtest.Open(t, url, pgtest.Key(t, newText+","+oldText))
	exec(t, conn, "update credentials set key_id = '0123456789abcdef'")
	before := dump(t, conn)
	_, err := s.Rekey(t.Context())
	if err == nil || !strings.Contains(err.Error(), "credential 1") || !strings.Contains(err.Error(), "0123456789abcdef") {
		t.Errorf("the error is %v", err)
	}
	for table, text := range dump(t, conn) {
		if text != before[table] {
			t.Errorf("the table %s has changed", table)
		}
	}
}

// One gateway adds credentials while another process rotates the key, over and over. Each ends under the key
// that the database is under.
func TestCredentialsAreAddedWhileTheKeyIsRotated(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a, b := store.NewMasterKeyText(), store.NewMasterKeyText()
	s := pgtest.Open(t, url, pgtest.Key(t, a+","+b))
	c := fill(t, s)
	var all errgroup.Group
	const each = 20
	all.Go(func() error {
		for n := range each {
			_, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.AddCredential(ctx, c.provider, logos.Secret("sk-"+strings.Repeat("x", n+1)))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	there, back := pgtest.Open(t, url, pgtest.Key(t, b+","+a)), pgtest.Open(t, url, pgtest.Key(t, a+","+b))
	all.Go(func() error {
		for range each / 2 {
			if _, err := there.Rekey(t.Context()); err != nil {
				return err
			}
			if _, err := back.Rekey(t.Context()); err != nil {
				return err
			}
		}
		_, err := there.Rekey(t.Context())
		return err
	})
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Rekey(t.Context()); err != nil { // it may have ended before the last was added
		t.Fatal(err)
	}
	conn := pgtest.Conn(t, url)
	if n := one[int](t, conn, "select count(*)::int from credentials where key_id = (select key_id from instance)"); n != each+1 {
		t.Errorf("%d credentials are under the present key, want %d", n, each+1)
	}
	if _, err := pgtest.Open(t, url, pgtest.Key(t, b)).Load(t.Context()); err != nil {
		t.Error(err)
	}
}

// A gateway that has the old key alone follows on once its file has the new one as well.
func TestARunningGatewayReadsItsKeysAgain(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	oldText, newText := store.NewMasterKeyText(), store.NewMasterKeyText()
	var file atomic.Value
	file.Store(oldText)
	keys, err := store.NewKeyring(func() (string, error) { return file.Load().(string), nil })
	if err != nil {
		t.Fatal(err)
	}
	running := pgtest.Open(t, url, keys)
	fill(t, running)
	ctx, cancel := context.WithCancel(t.Context())
	var seen atomic.Int64
	var all errgroup.Group
	all.Go(func() error {
		return store.NewWatcher(running, prometheus.NewRegistry()).Run(ctx, func(_ context.Context, config *logos.Config, _ time.Time) { seen.Store(config.Revision) })
	})
	soon(t, "first revision", func() bool { return seen.Load() > 0 })
	if _, err := pgtest.Open(t, url, pgtest.Key(t, newText+"\n"+oldText)).Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := running.CheckKey(t.Context()); !errors.Is(err, store.ErrWrongKey) {
		t.Errorf("without the new key: %v", err)
	}
	now := revision(t, pgtest.Conn(t, url))
	file.Store("no key\n")
	if err := running.CheckKey(t.Context()); err == nil || !strings.Contains(err.Error(), "can't be read again") || strings.Contains(err.Error(), "no key") {
		t.Errorf("with an unreadable file: %v", err)
	}
	file.Store(newText + "\n")
	soon(t, "revision after the rotation", func() bool { return seen.Load() == now })
	if err := running.CheckKey(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

func TestReadsSeveralMasterKeys(t *testing.T) {
	t.Parallel()
	a, b := store.NewMasterKeyText(), store.NewMasterKeyText()
	for _, text := range []string{a + "," + b, a + "\n" + b + "\n", " " + a + " ,\r\n " + b, a + "\n\n" + a + "\n" + b} {
		if keys := pgtest.Key(t, text); keys.ID() != pgtest.Key(t, a).ID() {
			t.Errorf("of %d bytes the first key is %s", len(text), keys.ID())
		}
	}
	_, err := store.NewKeyring(func() (string, error) { return a + "\nshort", nil })
	if err == nil || !strings.Contains(err.Error(), "master key 2 of 2") || strings.Contains(err.Error(), "short") {
		t.Errorf("a second key that is none: %v", err)
	}
}
