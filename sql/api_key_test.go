package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// keys is a store with one of everything, and how it makes keys.
type keys struct {
	*store.Store
	content
	t    *testing.T
	conn *pgx.Conn
}

func newKeys(t *testing.T) keys {
	t.Helper()
	s, url := pgtest.Store(t)
	return keys{s, fill(t, s), t, pgtest.Conn(t, url)}
}

// change makes a change that must work.
func (k keys) change(do func(context.Context, *store.Tx) error) {
	k.t.Helper()
	if _, err := k.Change(k.t.Context(), do); err != nil {
		k.t.Fatal(err)
	}
}

// create tries to make a key of the project, unless the spec says otherwise.
func (k keys) create(spec store.KeySpec) (id logos.APIKeyID, secret logos.Secret, err error) {
	if spec.Project == 0 {
		spec.Project = k.project
	}
	_, err = k.Change(k.t.Context(), func(ctx context.Context, tx *store.Tx) error {
		id, secret, err = tx.CreateAPIKey(ctx, spec)
		return err
	})
	return id, secret, err
}

// made makes a key that must be made.
func (k keys) made(spec store.KeySpec) (logos.APIKeyID, logos.Secret) {
	k.t.Helper()
	id, secret, err := k.create(spec)
	if err != nil {
		k.t.Fatal(err)
	}
	return id, secret
}

func (k keys) unclaimed(before time.Time) (id logos.APIKeyID, token logos.Secret) {
	k.t.Helper()
	k.change(func(ctx context.Context, tx *store.Tx) (err error) {
		id, token, err = tx.CreateUnclaimedAPIKey(ctx, store.KeySpec{Project: k.project}, before)
		return err
	})
	return id, token
}

func (k keys) claim(token logos.Secret, now time.Time) (id logos.APIKeyID, secret logos.Secret, err error) {
	_, err = k.Change(k.t.Context(), func(ctx context.Context, tx *store.Tx) error {
		id, secret, err = tx.ClaimAPIKey(ctx, string(token), now)
		return err
	})
	return id, secret, err
}

func (k keys) rotate(id logos.APIKeyID, overlap time.Duration, now time.Time) (secret logos.Secret, err error) {
	_, err = k.Change(k.t.Context(), func(ctx context.Context, tx *store.Tx) error {
		secret, err = tx.RotateAPIKey(ctx, id, overlap, now)
		return err
	})
	return secret, err
}

func (k keys) revoke(id logos.APIKeyID) {
	k.t.Helper()
	k.change(func(ctx context.Context, tx *store.Tx) error { return tx.RevokeAPIKey(ctx, id) })
}

// works says whether a secret is that key's, both for administering and for calls; they must agree.
func (k keys) works(secret logos.Secret, id logos.APIKeyID, now time.Time) bool {
	k.t.Helper()
	config, err := k.Load(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	found, hash := config.FindKey(string(secret))
	calls := found != nil && found.ID == id && found.Usable(hash, now)
	administers, err := k.Authenticate(k.t.Context(), string(secret), now)
	if (err == nil && administers.ID == id) != calls {
		k.t.Errorf("key %d works for calls: %t; for administering it gives %+v, %v", id, calls, administers, err)
	}
	return calls
}

func TestAKeyIsLoadedAsItWasMade(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	exec(t, k.conn, "insert into members (email, role, revision) values ('ada@example.org', 'team_owner', 1)")
	id, secret := k.made(store.KeySpec{
		Profile: k.profile, Member: 1, Role: logos.RoleMember, Name: "ada's laptop", ExpiresAt: expires, Labels: map[string]string{"tier": "gold"},
		APIs: []string{"chat", logos.ScopeModels}, Models: []logos.ModelID{k.model}, Sources: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/16"), netip.MustParsePrefix("2001:db8::/32")},
	})
	config, err := k.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := config.FindKey(string(secret))
	want := &logos.APIKey{
		ID: id, ProjectID: k.project, ProfileID: k.profile, MemberID: 1, Role: logos.RoleTeamOwner, ExpiresAt: expires, Hash: config.Hasher.APIKey(string(secret)),
		APIs: []string{"chat", "models"}, Models: []logos.ModelID{k.model}, Sources: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("the key differs (-want +loaded):\n%s", diff)
	}
	row := one[string](t, k.conn, "select name || labels::text || hash_kind || '|' || prefix || '|' || hint from api_keys where id = $1", id)
	if want := `ada's laptop{"tier": "gold"}secret|` + string(secret[:8]) + "|" + string(secret[31:]); row != want || len(secret) != 35 {
		t.Errorf("it is stored as %s, want %s", row, want)
	}
}

func TestAKeyOfFewFields(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	exec(t, k.conn, "insert into members (email, role, revision) values ('ada@example.org', 'viewer', 1)")
	program, secret := k.made(store.KeySpec{})
	person, _ := k.made(store.KeySpec{Member: 1})
	if !k.works(secret, program, time.Now()) {
		t.Error("it does not work")
	}
	rows := column[string](t, k.conn, "select role || ' ' || name || ' ' || labels || allowed_apis::text || allowed_models::text || allowed_cidrs::text from api_keys where id in ($1, $2) order by id", program, person)
	if !strings.HasPrefix(rows[0], "service key-") || !strings.HasSuffix(rows[0], " {}{}{}{}") || !strings.HasPrefix(rows[1], "member key-") {
		t.Errorf("the keys are %q", rows)
	}
	config, err := k.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := config.FindKey(string(secret)); len(found.APIs)+len(found.Models)+len(found.Sources) != 0 {
		t.Errorf("it has the scopes %+v", found)
	}
}

func TestRefusesKeysThatDoNotFit(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	const none = 999
	k.made(store.KeySpec{Name: "taken", Secret: "sk-litellm-1234567890"})
	digest := sha256.Sum256([]byte("sk-litellm-1234567890"))
	before := dump(t, k.conn)["api_keys"]
	for name, c := range map[string]struct {
		spec store.KeySpec
		want logos.Kind
	}{
		"no project":             {store.KeySpec{Project: none}, logos.NotFound},
		"no profile":             {store.KeySpec{Profile: none}, logos.NotFound},
		"no member":              {store.KeySpec{Member: none}, logos.NotFound},
		"no model":               {store.KeySpec{Models: []logos.ModelID{k.model, none}}, logos.NotFound},
		"no role":                {store.KeySpec{Role: "king"}, logos.Invalid},
		"a name again":           {store.KeySpec{Name: "taken"}, logos.Exists},
		"a secret again":         {store.KeySpec{Secret: "sk-litellm-1234567890"}, logos.Exists},
		"a short secret":         {store.KeySpec{Secret: "sk-123456789012"}, logos.Invalid},
		"a long secret":          {store.KeySpec{Secret: logos.Secret(strings.Repeat("x", 257))}, logos.Invalid},
		"a secret with a space":  {store.KeySpec{Secret: "sk-litellm 1234567890"}, logos.Invalid},
		"a secret with an ü":     {store.KeySpec{Secret: "sk-litellm-ü1234567890"}, logos.Invalid},
		"a digest that is none":  {store.KeySpec{SecretSHA256: strings.Repeat("0", 63)}, logos.Invalid},
		"a digest of odd digits": {store.KeySpec{SecretSHA256: strings.Repeat("g", 64)}, logos.Invalid},
		"a secret and a digest":  {store.KeySpec{Secret: "sk-litellm-0987654321", SecretSHA256: hex.EncodeToString(digest[:])}, logos.Invalid},
	} {
		_, secret, err := k.create(c.spec)
		if logos.KindOf(err) != c.want || secret != "" {
			t.Errorf("%s gives %v, want kind %d", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "sk-") || c.want == logos.Exists && c.spec.Secret != "" && strings.Contains(err.Error(), "project")) {
			t.Errorf("%s tells too much: %v", name, err)
		}
	}
	_, err := k.Change(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		other, err := tx.AddProject(ctx, "another", false)
		if err != nil {
			return err
		}
		_, _, err = tx.CreateAPIKey(ctx, store.KeySpec{Project: other, Profile: k.profile})
		return err
	})
	if logos.KindOf(err) != logos.NotFound {
		t.Errorf("a profile of another project gives %v", err)
	}
	if diff := cmp.Diff(before, dump(t, k.conn)["api_keys"]); diff != "" {
		t.Errorf("something is left (-before +after):\n%s", diff)
	}
}

// A name is free again once its key works no more.
func TestANameIsOfOneKeyThatWorks(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	revoked, _ := k.made(store.KeySpec{Name: "ci"})
	k.revoke(revoked)
	deleted, _ := k.made(store.KeySpec{Name: "ci"})
	k.change(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteAPIKey(ctx, deleted) })
	k.made(store.KeySpec{Name: "ci", ExpiresAt: time.Now().Add(-time.Minute)})
	k.made(store.KeySpec{Name: "ci"})
	if _, _, err := k.create(store.KeySpec{Name: "ci"}); logos.KindOf(err) != logos.Exists {
		t.Errorf("a second one gives %v", err)
	}
}

func TestAnImportedKeyWorks(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	for n, spec := range map[int]func(secret string) store.KeySpec{
		1: func(s string) store.KeySpec { return store.KeySpec{Secret: logos.Secret(s)} },
		2: func(s string) store.KeySpec {
			digest := sha256.Sum256([]byte(s))
			return store.KeySpec{SecretSHA256: strings.ToUpper(hex.EncodeToString(digest[:]))}
		},
	} {
		secret := fmt.Sprintf("sk-litellm-canary-%d", n)
		id, returned := k.made(spec(secret))
		if returned != "" || !k.works(logos.Secret(secret), id, time.Now()) {
			t.Errorf("import %d: it returns %d bytes, and does not work", n, len(returned))
		}
		digest := sha256.Sum256([]byte(secret))
		if k.works(logos.Secret(hex.EncodeToString(digest[:])), id, time.Now()) {
			t.Errorf("import %d works by the digest itself", n)
		}
		// The same in the other form is the same key, where that can be known.
		if _, _, err := k.create(store.KeySpec{Secret: logos.Secret(secret)}); logos.KindOf(err) != logos.Exists {
			t.Errorf("import %d again gives %v", n, err)
		}
		if text := fmt.Sprint(dump(t, k.conn)); strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString(digest[:])) {
			t.Errorf("import %d is stored in the clear", n)
		}
		fresh, err := k.rotate(id, time.Hour, time.Now())
		if err != nil || !k.works(fresh, id, time.Now()) || !k.works(logos.Secret(secret), id, time.Now()) || k.works(logos.Secret(secret), id, time.Now().Add(time.Hour)) {
			t.Errorf("import %d, rotated (%v), does not work by both secrets for an hour", n, err)
		}
		if _, _, err := k.create(store.KeySpec{Secret: logos.Secret(secret)}); logos.KindOf(err) != logos.Exists {
			t.Errorf("import %d again during the overlap gives %v", n, err)
		}
		k.revoke(id)
		if _, _, err := k.create(store.KeySpec{Secret: logos.Secret(secret)}); logos.KindOf(err) != logos.Exists {
			t.Errorf("import %d again after it was revoked gives %v", n, err)
		}
		k.change(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteAPIKey(ctx, id) })
		if again, _ := k.made(store.KeySpec{Secret: logos.Secret(secret)}); !k.works(logos.Secret(secret), again, time.Now()) {
			t.Errorf("import %d again after it was deleted does not work", n)
		}
	}
}

func TestShowsLittleOfAShortSecret(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	for secret, want := range map[logos.Secret]string{
		"abcdefghij123456": "ab…56", "abcdefghijklmnopqrst123456": "abc…456", logos.Secret(strings.Repeat("abcdefgh", 10)): "abcdefgh…efgh",
	} {
		id, _ := k.made(store.KeySpec{Secret: secret})
		if got := one[string](t, k.conn, "select prefix || '…' || hint from api_keys where id = $1", id); got != want {
			t.Errorf("of a secret of %d characters, %s shows, want %s", len(secret), got, want)
		}
	}
	digest := sha256.Sum256([]byte("x"))
	id, _ := k.made(store.KeySpec{SecretSHA256: hex.EncodeToString(digest[:])})
	if got := one[string](t, k.conn, "select prefix || hint from api_keys where id = $1", id); got != "" {
		t.Errorf("of a digest, %s shows", got)
	}
}

func TestRotatesAKey(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	end := now.Add(48 * time.Hour)
	id, first := k.made(store.KeySpec{ExpiresAt: end})
	rotate := func(overlap time.Duration) logos.Secret {
		t.Helper()
		secret, err := k.rotate(id, overlap, now)
		if err != nil || !k.works(secret, id, now) || k.works(secret, id, end) {
			t.Fatalf("the new secret does not work until the key's end; %v", err)
		}
		if row := one[string](t, k.conn, "select prefix || hint from api_keys where id = $1", id); row != string(secret[:8]+secret[31:]) {
			t.Errorf("the key shows %s", row)
		}
		return secret
	}
	second := rotate(time.Hour)
	if !k.works(first, id, now.Add(59*time.Minute)) || k.works(first, id, now.Add(61*time.Minute)) {
		t.Error("the first secret does not work for an hour")
	}
	third := rotate(72 * time.Hour)
	if k.works(first, id, now) || !k.works(second, id, now.Add(47*time.Hour)) || k.works(second, id, end) {
		t.Error("the second secret does not work until the key's end, or the first works on")
	}
	rotate(0)
	if k.works(second, id, now) || k.works(third, id, now) {
		t.Error("without an overlap, an old secret works on")
	}
}

func TestRefusesToRotateWhatWorksNoMore(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	expired, _ := k.made(store.KeySpec{ExpiresAt: now})
	revoked, _ := k.made(store.KeySpec{})
	k.revoke(revoked)
	deleted, _ := k.made(store.KeySpec{})
	k.change(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteAPIKey(ctx, deleted) })
	for id, want := range map[logos.APIKeyID]logos.Kind{expired: logos.Invalid, revoked: logos.Invalid, deleted: logos.NotFound, 999: logos.NotFound} {
		if secret, err := k.rotate(id, time.Hour, now); logos.KindOf(err) != want || secret != "" {
			t.Errorf("rotating key %d gives %v, want kind %d", id, err, want)
		}
	}
	for name, do := range map[string]func(ctx context.Context, tx *store.Tx) error{
		"deleting a deleted key": func(ctx context.Context, tx *store.Tx) error { return tx.DeleteAPIKey(ctx, deleted) },
		"revoking a deleted key": func(ctx context.Context, tx *store.Tx) error { return tx.RevokeAPIKey(ctx, deleted) },
	} {
		if _, err := k.Change(t.Context(), do); logos.KindOf(err) != logos.NotFound {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

func TestARevokedKeyWorksByNoSecret(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	id, first := k.made(store.KeySpec{})
	second, err := k.rotate(id, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	k.revoke(id)
	at := one[time.Time](t, k.conn, "select revoked_at from api_keys where id = $1", id)
	k.revoke(id)
	if k.works(first, id, now) || k.works(second, id, now) || !one[time.Time](t, k.conn, "select revoked_at from api_keys where id = $1", id).Equal(at) {
		t.Error("it works on, or was revoked twice")
	}
}

func TestAClaimLinkHandsAKeyOverOnce(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	id, token := k.unclaimed(now.Add(time.Hour))
	if config, err := k.Load(t.Context()); err != nil {
		t.Fatal(err)
	} else if found, _ := config.FindKey(string(token)); found != nil {
		t.Error("the token is a key")
	}
	if text := fmt.Sprint(dump(t, k.conn)); strings.Contains(text, string(token)) {
		t.Error("the token is stored in the clear")
	}
	var all errgroup.Group
	secrets := make([]logos.Secret, 16)
	for i := range secrets { // at once
		all.Go(func() error {
			claimed, secret, err := k.claim(token, now)
			if secrets[i] = secret; err == nil && claimed != id {
				t.Errorf("key %d is handed over, want %d", claimed, id)
			}
			if err != nil && (logos.KindOf(err) != logos.NotFound || !strings.Contains(err.Error(), "works no more")) {
				t.Errorf("a used link gives %v", err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	handed := 0
	for _, s := range secrets {
		if s != "" {
			handed++
			if !k.works(s, id, now) {
				t.Error("the secret handed over does not work")
			}
		}
	}
	if handed != 1 {
		t.Errorf("the key was handed over %d times", handed)
	}
}

func TestRefusesClaimsThatWorkNoMore(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	end := func(do func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error) logos.Secret {
		id, token := k.unclaimed(now.Add(time.Hour))
		k.change(func(ctx context.Context, tx *store.Tx) error { return do(ctx, tx, id) })
		return token
	}
	_, expired := k.unclaimed(now)
	ofExpired, token := k.unclaimed(now.Add(time.Hour))
	exec(t, k.conn, "update api_keys set expires_at = $2 where id = $1", ofExpired, now)
	for name, c := range map[string]struct {
		token logos.Secret
		code  string
	}{
		"an expired link":        {expired, "claim_expired"},
		"that of an expired key": {token, "claim_expired"},
		"that of a revoked key":  {end(func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error { return tx.RevokeAPIKey(ctx, id) }), "claim_not_found"},
		"that of a deleted key":  {end(func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error { return tx.DeleteAPIKey(ctx, id) }), "claim_not_found"},
		"that of a rotated key": {end(func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error {
			_, err := tx.RotateAPIKey(ctx, id, 0, now)
			return err
		}), "claim_not_found"},
		"one that never was":      {"abcdefghijklmnopqrstuvwxyz", "claim_not_found"},
		"one in other case":       {logos.Secret(strings.ToUpper(string(expired))), "claim_not_found"},
		"a part of one":           {expired[:15], "claim_not_found"},
		"nothing":                 {"", "claim_not_found"},
		"one without end":         {logos.Secret(strings.Repeat("x", 1<<20)), "claim_not_found"},
		"a hash, as it is stored": {"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\xff", "claim_not_found"},
	} {
		_, secret, err := k.claim(c.token, now)
		if e, ok := err.(*logos.Error); !ok || e.Code != c.code || secret != "" {
			t.Errorf("%s gives %v, want %s", name, err, c.code)
		}
	}
	_, err := k.Change(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		_, _, err := tx.CreateUnclaimedAPIKey(ctx, store.KeySpec{Project: k.project, Secret: "sk-litellm-1234567890"}, now)
		return err
	})
	if logos.KindOf(err) != logos.Invalid {
		t.Errorf("an unclaimed key with a secret gives %v", err)
	}
}
