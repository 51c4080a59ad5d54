package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestWhatIsAddedIsLoaded(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	c := fill(t, s)
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := config.APIKey(config.Hasher.APIKey(string(c.key)))
	if key == nil || key.ProjectID != c.project || key.Role != logos.RoleRoot || key.ProfileID != 0 {
		t.Fatalf("the key is %+v", key)
	}
	profiles := config.Profiles(c.project)
	if len(profiles) != 1 || profiles[0].Name != "a profile" || !profiles[0].Passthrough || len(profiles[0].Routes) != 1 {
		t.Fatalf("the profiles are %+v", profiles)
	}
	candidates := profiles[0].Candidates[c.model]
	if len(candidates) != 1 || candidates[0].Target == nil {
		t.Fatalf("the candidates are %+v", candidates)
	}
	target := candidates[0].Target
	if target.Deployment.ID != c.deployment || !target.Deployment.IncludeUsage || target.Credential.Secret != providerSecret || target.Provider.BaseURL.String() != "https://provider.example/v1" ||
		target.Provider.AuthHeader != "authorization" || target.Provider.AuthFormat != "Bearer {}" || target.Provider.Dialect != logos.DialectOpenAI || config.Model("a-model").ID != c.model {
		t.Errorf("the target is %+v at %+v", target, target.Provider)
	}
}

func TestEachChangeIsARevision(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	before := revision(t, conn)
	var all errgroup.Group
	for n := range 20 { // at once: they are made one after another
		all.Go(func() error {
			_, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.AddProject(ctx, strings.Repeat("p", n+1), false)
				return err
			})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := revision(t, conn); got != before+20 {
		t.Errorf("20 changes lead from revision %d to %d", before, got)
	}
	if n := one[int](t, conn, "select count(distinct revision)::int from projects"); n != 20 {
		t.Errorf("the projects are of %d revisions, want 20", n)
	}
	config, err := s.Load(t.Context())
	if err != nil || config.Revision != before+20 {
		t.Errorf("loaded %+v, %v", config, err)
	}
}

func TestAChangeThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c := fill(t, s)
	conn, ear := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec(t, ear, "listen logos_config")
	before := dump(t, conn)
	mine := errors.New("mine")
	for name, do := range map[string]func(context.Context, *store.Tx) error{
		"its own error": func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddProject(ctx, "lost", false)
			return errors.Join(err, mine)
		},
		"a name that is there": func(ctx context.Context, tx *store.Tx) error {
			if _, err := tx.AddModel(ctx, "lost", ""); err != nil {
				return err
			}
			_, err := tx.AddModel(ctx, "a-model", "")
			return err
		},
		"an error that it keeps to itself": func(ctx context.Context, tx *store.Tx) error {
			_, _ = tx.AddProject(ctx, "a project", false)
			return nil
		},
	} {
		if _, err := s.Change(t.Context(), store.Actor{}, do); err == nil {
			t.Errorf("%s: the change works", name)
		}
		if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
			t.Errorf("%s leaves something (-before +after):\n%s", name, diff)
		}
	}
	func() {
		defer func() { recover() }()
		s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
			_, _ = tx.AddProject(ctx, "lost", false)
			panic("mine")
		})
	}()
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" {
		t.Errorf("a panic leaves something (-before +after):\n%s", diff)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	_, err := s.Change(cancelled, store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.AddProject(ctx, "lost", false)
		cancel()
		return err
	})
	if diff := cmp.Diff(before, dump(t, conn)); diff != "" || err == nil {
		t.Errorf("a cancelled change gives %v and leaves (-before +after):\n%s", err, diff)
	}
	// The first to be told of is the first that works.
	if _, err := addKey(t, s, c.project); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	told, err := ear.WaitForNotification(ctx)
	if err != nil || told.Payload != logos.FormatID(revision(t, conn)) {
		t.Errorf("notified of %+v, %v, want revision %d", told, err, revision(t, conn))
	}
}

func addKey(t *testing.T, s *store.Store, project logos.ProjectID) (key logos.Secret, err error) {
	_, err = s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		key, err = tx.AddAPIKey(ctx, project, logos.RoleMember, "")
		return err
	})
	return key, err
}

func TestRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	c := fill(t, s)
	const none = 999
	for name, test := range map[string]struct {
		do   func(context.Context, *store.Tx) error
		want logos.Kind
	}{
		"a project's name again": {func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddProject(ctx, "a project", false)
			return err
		}, logos.Exists},
		"a profile's name again": {func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddProfile(ctx, c.project, "a profile", true)
			return err
		}, logos.Exists},
		"a model's name again": {func(ctx context.Context, tx *store.Tx) error { _, err := tx.AddModel(ctx, "a-model", ""); return err }, logos.Exists},
		"an empty name":        {func(ctx context.Context, tx *store.Tx) error { _, err := tx.AddModel(ctx, "", ""); return err }, logos.Invalid},
		"a long name": {func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddModel(ctx, strings.Repeat("x", 257), "")
			return err
		}, logos.Invalid},
		"a NUL in a name":        {func(ctx context.Context, tx *store.Tx) error { _, err := tx.AddModel(ctx, "a\x00b", ""); return err }, logos.Invalid},
		"a name that is no text": {func(ctx context.Context, tx *store.Tx) error { _, err := tx.AddModel(ctx, "a\xff", ""); return err }, logos.Invalid},
		"a profile of no project": {func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddProfile(ctx, none, "x", true)
			return err
		}, logos.NotFound},
		"a deployment of no model": {func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddDeployment(ctx, none, c.provider)
			return err
		}, logos.NotFound},
		"a deployment at no provider": {func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddDeployment(ctx, c.model, none)
			return err
		}, logos.NotFound},
		"a credential for no model": {func(ctx context.Context, tx *store.Tx) error {
			return tx.SetDeploymentCredential(ctx, none, c.credential)
		}, logos.NotFound},
		"no credential for a model": {func(ctx context.Context, tx *store.Tx) error { return tx.SetDeploymentCredential(ctx, c.model, none) }, logos.NotFound},
		"a grant to no profile":     {func(ctx context.Context, tx *store.Tx) error { return tx.GrantCredential(ctx, none, c.credential) }, logos.NotFound},
		"a grant of no credential":  {func(ctx context.Context, tx *store.Tx) error { return tx.GrantCredential(ctx, c.profile, none) }, logos.NotFound},
		"a grant of no model": {func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.GrantModel(ctx, c.profile, none)
			return err
		}, logos.NotFound},
		"a model to no profile": {func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.GrantModel(ctx, none, c.model)
			return err
		}, logos.NotFound},
	} {
		_, err := s.Change(t.Context(), store.Actor{}, test.do)
		if err == nil || logos.KindOf(err) != test.want {
			t.Errorf("%s gives kind %d: %v; want kind %d", name, logos.KindOf(err), err, test.want)
		}
	}
}

func TestFindsKeysAndCredentialsBySecret(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c := fill(t, s)
	conn := pgtest.Conn(t, url)
	now := time.Now()
	if k, err := s.Authenticate(t.Context(), string(c.key), now); err != nil || k.Project != c.project || k.Role != logos.RoleRoot {
		t.Errorf("the key is %+v, %v", k, err)
	}
	for _, wrong := range []string{"", "lg-", string(c.key) + "x", string(c.key[:len(c.key)-1]), strings.ToUpper(string(c.key)), strings.Repeat("x", 257), providerSecret} {
		if _, err := s.Authenticate(t.Context(), wrong, now); logos.KindOf(err) != logos.Unauthenticated {
			t.Errorf("the key %.40q gives %v", wrong, err)
		}
	}
	if id, err := s.CredentialID(t.Context(), providerSecret); id != c.credential || err != nil {
		t.Errorf("the credential is %d, %v", id, err)
	}
	if _, err := s.CredentialID(t.Context(), "another"); logos.KindOf(err) != logos.NotFound {
		t.Errorf("another secret gives %v", err)
	}
	for change, want := range map[string]error{"expires_at = now() - interval '1 second'": nil, "expires_at = null, revoked_at = now()": nil, "revoked_at = null, deleted_at = now()": nil} {
		exec(t, conn, "update api_keys set "+change)
		if _, err := s.Authenticate(t.Context(), string(c.key), now); logos.KindOf(err) != logos.Unauthenticated {
			t.Errorf("after %s the key gives %v, want %v", change, err, want)
		}
	}
}
