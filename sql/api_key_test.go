package store_test

import (
	stdcmp "cmp"
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
	if _, err := k.Change(k.t.Context(), store.Actor{}, do); err != nil {
		k.t.Fatal(err)
	}
}

// A keySpec is what a key is made of.
type keySpec struct {
	Project      logos.ProjectID // 0: the one that is there
	Profile      logos.ProfileID
	Member       logos.MemberID
	Role         logos.Role
	Name         string
	ExpiresAt    time.Time
	Labels       map[string]string
	APIs         []string
	Models       []logos.ModelID
	Sources      []netip.Prefix
	Secret       logos.Secret
	SecretSHA256 string
}

// columns returns the spec's, but for the secret.
func (k keys) columns(spec keySpec) store.Columns {
	values := store.Columns{
		"project_id": stdcmp.Or(spec.Project, k.project), "role": stdcmp.Or(spec.Role, logos.RoleService), "labels": spec.Labels, "allowed_apis": append([]string{}, spec.APIs...),
		"allowed_models": append([]logos.ModelID{}, spec.Models...), "allowed_cidrs": []string{},
	}
	for _, p := range spec.Sources {
		values["allowed_cidrs"] = append(values["allowed_cidrs"].([]string), p.Masked().String())
	}
	if spec.Labels == nil {
		values["labels"] = map[string]string{}
	}
	if spec.Profile != 0 {
		values["profile_id"] = spec.Profile
	}
	if spec.Member != 0 {
		values["member_id"] = spec.Member
	}
	if spec.Name != "" {
		values["name"] = spec.Name
	}
	if !spec.ExpiresAt.IsZero() {
		values["expires_at"] = spec.ExpiresAt
	}
	return values
}

// create tries to make a key of the project, unless the spec says otherwise.
func (k keys) create(spec keySpec) (id logos.APIKeyID, secret logos.Secret, err error) {
	_, err = k.Change(k.t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) (err error) {
		values := k.columns(spec)
		switch {
		case spec.Secret != "":
			err = tx.ImportSecret(ctx, values, spec.Secret)
		case spec.SecretSHA256 != "":
			err = tx.ImportSHA256(ctx, values, spec.SecretSHA256)
		default:
			secret = tx.NewSecret(values)
		}
		if err != nil {
			return err
		}
		n, err := tx.Insert(ctx, store.APIKeys, values)
		id = logos.APIKeyID(n)
		return err
	})
	if err != nil {
		secret = ""
	}
	return id, secret, err
}

// made makes a key that must be made.
func (k keys) made(spec keySpec) (logos.APIKeyID, logos.Secret) {
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
		values := k.columns(keySpec{})
		token = tx.Unclaimed(values, before)
		n, err := tx.Insert(ctx, store.APIKeys, values)
		id = logos.APIKeyID(n)
		return err
	})
	return id, token
}

func (k keys) claim(token logos.Secret, now time.Time) (id logos.APIKeyID, secret logos.Secret, err error) {
	_, err = k.Change(k.t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		id, secret, err = tx.Claim(ctx, token, now)
		return err
	})
	return id, secret, err
}

func (k keys) rotate(id logos.APIKeyID, overlap time.Duration, now time.Time) (secret logos.Secret, err error) {
	_, err = k.Change(k.t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
		secret, err = tx.Rotate(ctx, id, overlap, now)
		return err
	})
	return secret, err
}

func (k keys) revoke(id logos.APIKeyID) {
	k.t.Helper()
	k.change(func(ctx context.Context, tx *store.Tx) error { return tx.Revoke(ctx, id) })
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
	if (err == nil && administers.Key == id) != calls {
		k.t.Errorf("key %d works for calls: %t; for administering it gives %+v, %v", id, calls, administers, err)
	}
	return calls
}

func TestAKeyIsLoadedAsItWasMade(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	exec(t, k.conn, "insert into members (email, role, revision) values ('ada@example.org', 'team_owner', 1)")
	id, secret := k.made(keySpec{
		Profile: k.profile, Member: 1, Role: logos.RoleMember, Name: "ada's laptop", ExpiresAt: expires, Labels: map[string]string{"tier": "gold"},
		APIs: []string{"chat", logos.ScopeModels}, Models: []logos.ModelID{k.model}, Sources: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/16"), netip.MustParsePrefix("2001:db8::/32")},
	})
	config, err := k.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := config.FindKey(string(secret))
	want := &logos.APIKey{
		ID: id, ProjectID: k.project, ProfileID: k.profile, MemberID: 1, Name: "ada's laptop", Labels: map[string]string{"tier": "gold"}, Role: logos.RoleTeamOwner, ExpiresAt: expires, Hash: config.Hasher.APIKey(string(secret)),
		APIs: []string{"chat", "models"}, Models: []logos.ModelID{k.model}, Sources: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("the key differs (-want +loaded):\n%s", diff)
	}
	alone, err := k.APIKey(t.Context(), id)
	if diff := cmp.Diff(want, alone, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateApproxTime(0)); diff != "" || err != nil {
		t.Errorf("the key looked up by id differs, %v (-want +got):\n%s", err, diff)
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
	program, secret := k.made(keySpec{})
	person, _ := k.made(keySpec{Member: 1})
	if !k.works(secret, program, time.Now()) {
		t.Error("it does not work")
	}
	rows := column[string](t, k.conn, "select role || ' ' || name || ' ' || labels || allowed_apis::text || allowed_models::text || allowed_cidrs::text from api_keys where id in ($1, $2) order by id", program, person)
	if !strings.HasPrefix(rows[0], "service key-") || !strings.HasSuffix(rows[0], " {}{}{}{}") || !strings.HasPrefix(rows[1], "service key-") {
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
	k.made(keySpec{Name: "taken", Secret: "sk-litellm-1234567890"})
	before := dump(t, k.conn)["api_keys"]
	for name, c := range map[string]struct {
		spec keySpec
		want logos.Kind
	}{
		"no role":                {keySpec{Role: "king"}, logos.Invalid},
		"a secret again":         {keySpec{Secret: "sk-litellm-1234567890"}, logos.Exists},
		"a short secret":         {keySpec{Secret: "sk-123456789012"}, logos.Invalid},
		"a long secret":          {keySpec{Secret: logos.Secret(strings.Repeat("x", 257))}, logos.Invalid},
		"a secret with a space":  {keySpec{Secret: "sk-litellm 1234567890"}, logos.Invalid},
		"a secret with an ü":     {keySpec{Secret: "sk-litellm-ü1234567890"}, logos.Invalid},
		"a digest that is none":  {keySpec{SecretSHA256: strings.Repeat("0", 63)}, logos.Invalid},
		"a digest of odd digits": {keySpec{SecretSHA256: strings.Repeat("g", 64)}, logos.Invalid},
	} {
		_, secret, err := k.create(c.spec)
		if logos.KindOf(err) != c.want || secret != "" {
			t.Errorf("%s gives %v, want kind %d", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "sk-") || c.want == logos.Exists && c.spec.Secret != "" && strings.Contains(err.Error(), "project")) {
			t.Errorf("%s tells too much: %v", name, err)
		}
	}
	if diff := cmp.Diff(before, dump(t, k.conn)["api_keys"]); diff != "" {
		t.Errorf("something is left (-before +after):\n%s", diff)
	}
}

func TestAnImportedKeyWorks(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	for n, spec := range map[int]func(secret string) keySpec{
		1: func(s string) keySpec { return keySpec{Secret: logos.Secret(s)} },
		2: func(s string) keySpec {
			digest := sha256.Sum256([]byte(s))
			return keySpec{SecretSHA256: strings.ToUpper(hex.EncodeToString(digest[:]))}
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
		if _, _, err := k.create(keySpec{Secret: logos.Secret(secret)}); logos.KindOf(err) != logos.Exists {
			t.Errorf("import %d again gives %v", n, err)
		}
		if text := fmt.Sprint(dump(t, k.conn)); strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString(digest[:])) {
			t.Errorf("import %d is stored in the clear", n)
		}
		fresh, err := k.rotate(id, time.Hour, time.Now())
		if err != nil || !k.works(fresh, id, time.Now()) || !k.works(logos.Secret(secret), id, time.Now()) || k.works(logos.Secret(secret), id, time.Now().Add(time.Hour)) {
			t.Errorf("import %d, rotated (%v), does not work by both secrets for an hour", n, err)
		}
		if _, _, err := k.create(keySpec{Secret: logos.Secret(secret)}); logos.KindOf(err) != logos.Exists {
			t.Errorf("import %d again during the overlap gives %v", n, err)
		}
		k.revoke(id)
		if _, _, err := k.create(keySpec{Secret: logos.Secret(secret)}); logos.KindOf(err) != logos.Exists {
			t.Errorf("import %d again after it was revoked gives %v", n, err)
		}
		k.change(func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, store.APIKeys, int64(id)) })
		if again, _ := k.made(keySpec{Secret: logos.Secret(secret)}); !k.works(logos.Secret(secret), again, time.Now()) {
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
		id, _ := k.made(keySpec{Secret: secret})
		if got := one[string](t, k.conn, "select prefix || '…' || hint from api_keys where id = $1", id); got != want {
			t.Errorf("of a secret of %d characters, %s shows, want %s", len(secret), got, want)
		}
	}
	digest := sha256.Sum256([]byte("x"))
	id, _ := k.made(keySpec{SecretSHA256: hex.EncodeToString(digest[:])})
	if got := one[string](t, k.conn, "select prefix || hint from api_keys where id = $1", id); got != "" {
		t.Errorf("of a digest, %s shows", got)
	}
}

func TestRotatesAKey(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	end := now.Add(48 * time.Hour)
	id, first := k.made(keySpec{ExpiresAt: end})
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
	expired, _ := k.made(keySpec{ExpiresAt: now})
	revoked, _ := k.made(keySpec{})
	k.revoke(revoked)
	deleted, _ := k.made(keySpec{})
	k.change(func(ctx context.Context, tx *store.Tx) error { return tx.Delete(ctx, store.APIKeys, int64(deleted)) })
	for id, want := range map[logos.APIKeyID]logos.Kind{expired: logos.Conflict, revoked: logos.Conflict, deleted: logos.NotFound, 999: logos.NotFound} {
		if secret, err := k.rotate(id, time.Hour, now); logos.KindOf(err) != want || secret != "" {
			t.Errorf("rotating key %d gives %v, want kind %d", id, err, want)
		}
	}
}

func TestARevokedKeyWorksByNoSecret(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	now := time.Now()
	id, first := k.made(keySpec{})
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
		"that of a revoked key":  {end(func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error { return tx.Revoke(ctx, id) }), "claim_not_found"},
		"that of a deleted key": {end(func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error {
			return tx.Delete(ctx, store.APIKeys, int64(id))
		}), "claim_not_found"},
		"that of a rotated key": {end(func(ctx context.Context, tx *store.Tx, id logos.APIKeyID) error {
			_, err := tx.Rotate(ctx, id, 0, now)
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
}
