package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Values of api_keys.hash_kind.
const (
	hashOfSecret = "secret" // Hasher.APIKey
	hashOfDigest = "sha256" // Hasher.APIKeyDigest
)

// Bounds of what is imported and claimed, in bytes.
const (
	minImported = 16
	minToken    = 16
	maxToken    = 128
)

// A KeySpec is what an API key is made of.
type KeySpec struct {
	Project   logos.ProjectID
	Profile   logos.ProfileID // 0: not bound to one
	Member    logos.MemberID  // 0: a program's
	Role      logos.Role      // empty: that of its member, or service
	Name      string          // unique among the keys of its project that work; empty: one is made
	ExpiresAt time.Time       // zero: never
	Labels    map[string]string

	APIs    []string // scopes, see [logos.APIKey]
	Models  []logos.ModelID
	Sources []netip.Prefix

	// Secret and SecretSHA256 import a key of another gateway, whose clients then need no change: its
	// secret, or, where that gateway has no more than that, the secret's SHA-256 in hexadecimal.
	Secret       logos.Secret
	SecretSHA256 string
}

// A keySecret is what is stored of a secret.
type keySecret struct {
	hash         logos.KeyHash
	kind         string
	prefix, hint string
}

// newSecret makes a secret and what is stored of it.
func (t *Tx) newSecret() (logos.Secret, keySecret) {
	s := logos.NewAPIKey()
	return s, keySecret{t.store.hasher.APIKey(string(s)), hashOfSecret, string(s[:8]), string(s[len(s)-4:])}
}

// CreateAPIKey makes an API key, and returns its secret, which is not kept; that of an imported one is not
// returned.
func (t *Tx) CreateAPIKey(ctx context.Context, spec KeySpec) (logos.APIKeyID, logos.Secret, error) {
	secret, stored := t.newSecret()
	var hashes [][]byte
	if spec.Secret != "" || spec.SecretSHA256 != "" {
		var err error
		if stored, hashes, err = t.imported(spec); err != nil {
			return 0, "", err
		}
		secret = ""
	}
	if err := t.checkKey(ctx, spec, hashes); err != nil {
		return 0, "", err
	}
	id, err := t.insertKey(ctx, spec, stored, nil, time.Time{})
	if err != nil {
		return 0, "", err
	}
	return id, secret, nil
}

// CreateUnclaimedAPIKey makes an API key of which nobody knows the secret, and returns the token with which
// [Tx.ClaimAPIKey] makes one, once, before a time.
func (t *Tx) CreateUnclaimedAPIKey(ctx context.Context, spec KeySpec, before time.Time) (logos.APIKeyID, logos.Secret, error) {
	if spec.Secret != "" || spec.SecretSHA256 != "" {
		return 0, "", logos.Errorf(logos.Invalid, "invalid_secret", "a key that is handed over by a link gets its secret then: give none")
	}
	if err := t.checkKey(ctx, spec, nil); err != nil {
		return 0, "", err
	}
	_, stored := t.newSecret()
	stored.prefix, stored.hint = "", ""
	token := strings.ToLower(rand.Text())
	hash := t.store.hasher.ClaimToken(token)
	id, err := t.insertKey(ctx, spec, stored, hash[:], before)
	if err != nil {
		return 0, "", err
	}
	return id, logos.Secret(token), nil
}

// ClaimAPIKey makes the secret of an unclaimed key, for whoever has its token. It works once.
func (t *Tx) ClaimAPIKey(ctx context.Context, token string, now time.Time) (logos.APIKeyID, logos.Secret, error) {
	unknown := logos.Errorf(logos.NotFound, "claim_not_found", "this link works no more, or was not copied whole: it hands a key over once. If you have not used it yourself, have the key revoked, and ask for a new one")
	if len(token) < minToken || len(token) > maxToken {
		return 0, "", unknown
	}
	hash := t.store.hasher.ClaimToken(token)
	row, err := t.q.ClaimedAPIKey(ctx, hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", unknown
	}
	if err != nil {
		return 0, "", err
	}
	for _, end := range []*time.Time{row.ClaimExpiresAt, row.ExpiresAt} {
		if end != nil && !now.Before(*end) {
			return 0, "", logos.Errorf(logos.NotFound, "claim_expired", "this link worked until %s: ask for a new one", end.UTC().Format("2006-01-02 15:04 MST"))
		}
	}
	secret, err := t.replaceSecret(ctx, row.ID, nil)
	return logos.APIKeyID(row.ID), secret, err
}

// RotateAPIKey gives a key a new secret, which it returns. The present one works on for the overlap; one
// from before an earlier rotation works no more.
func (t *Tx) RotateAPIKey(ctx context.Context, id logos.APIKeyID, overlap time.Duration, now time.Time) (logos.Secret, error) {
	row, err := t.q.APIKeyState(ctx, int64(id))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", missing("API key", id)
	case err != nil:
		return "", err
	case row.RevokedAt != nil:
		return "", logos.Errorf(logos.Invalid, "revoked_api_key", "API key %d was revoked, which is for good: create another", id)
	case row.ExpiresAt != nil && !now.Before(*row.ExpiresAt):
		return "", logos.Errorf(logos.Invalid, "expired_api_key", "API key %d has expired: set a later expire_time first, or create another", id)
	}
	var until *time.Time
	if overlap > 0 {
		end := now.Add(overlap)
		until = &end
	}
	return t.replaceSecret(ctx, int64(id), until)
}

// replaceSecret gives a key another secret; the present one works until a time, or not at all.
func (t *Tx) replaceSecret(ctx context.Context, id int64, until *time.Time) (logos.Secret, error) {
	secret, s := t.newSecret()
	err := t.q.ReplaceAPIKeySecret(ctx, db.ReplaceAPIKeySecretParams{
		ID: id, Hash: s.hash[:], Prefix: s.prefix, Hint: s.hint, PreviousExpiresAt: until, Revision: t.revision,
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// RevokeAPIKey ends a key with all its secrets, for good. It may be revoked already.
func (t *Tx) RevokeAPIKey(ctx context.Context, id logos.APIKeyID) error {
	n, err := t.q.RevokeAPIKey(ctx, db.RevokeAPIKeyParams{ID: int64(id), Revision: t.revision})
	if err == nil && n == 0 {
		return missing("API key", id)
	}
	return err
}

// DeleteAPIKey deletes a key; its records keep it. Its secret may be imported anew.
func (t *Tx) DeleteAPIKey(ctx context.Context, id logos.APIKeyID) error {
	n, err := t.q.DeleteAPIKey(ctx, db.DeleteAPIKeyParams{ID: int64(id), Revision: t.revision})
	if err == nil && n == 0 {
		return missing("API key", id)
	}
	return err
}

// imported reads the secret of another gateway, and returns every hash that it may be stored under.
func (t *Tx) imported(spec KeySpec) (stored keySecret, hashes [][]byte, err error) {
	if spec.SecretSHA256 == "" {
		if err := checkImported(spec.Secret); err != nil {
			return stored, nil, err
		}
		stored = keySecret{hash: t.store.hasher.APIKey(string(spec.Secret)), kind: hashOfSecret}
		stored.prefix, stored.hint = recognisable(string(spec.Secret))
		return stored, t.store.keyHashes(spec.Secret), nil
	}
	digest, err := hex.DecodeString(spec.SecretSHA256)
	if err != nil || len(digest) != sha256.Size || spec.Secret != "" {
		return stored, nil, logos.Errorf(logos.Invalid, "invalid_secret", "secret_sha256 must be the SHA-256 of a secret in 64 hexadecimal digits, and stand without secret")
	}
	stored = keySecret{hash: t.store.hasher.APIKeyDigest([sha256.Size]byte(digest)), kind: hashOfDigest}
	return stored, [][]byte{stored.hash[:]}, nil
}

// checkImported refuses what can't be guessed too easily, or can't stand in a header as it is.
func checkImported(secret logos.Secret) error {
	if len(secret) < minImported || len(secret) > logos.MaxKeyLength || strings.ContainsFunc(string(secret), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return logos.Errorf(logos.Invalid, "invalid_secret", "a secret to import must have %d to %d characters of printable ASCII without spaces", minImported, logos.MaxKeyLength)
	}
	return nil
}

// recognisable returns the first and last characters of an imported secret: of a short one few, so that what
// is not shown is still hard to guess.
func recognisable(secret string) (prefix, hint string) {
	n := len(secret) / 8
	return secret[:min(n, 8)], secret[len(secret)-min(n, 4):]
}

// checkKey refuses a key that names what is not there, or is there already itself. Changes are made one
// after another, so nothing comes between this and the insert.
func (t *Tx) checkKey(ctx context.Context, spec KeySpec, hashes [][]byte) error {
	row, err := t.q.CheckAPIKey(ctx, db.CheckAPIKeyParams{
		ProjectID: int64(spec.Project), ProfileID: int64(spec.Profile), MemberID: int64(spec.Member), ModelIds: numbers(spec.Models), Name: spec.Name, Hashes: hashes,
	})
	switch {
	case err != nil:
		return err
	case !row.HasProject:
		return missing("project", spec.Project)
	case spec.Profile != 0 && !row.HasProfile:
		return logos.Errorf(logos.NotFound, "not_found", "there is no access profile with id %d in project %d", spec.Profile, spec.Project)
	case spec.Member != 0 && !row.HasMember:
		return missing("member", spec.Member)
	case row.MissingModel != 0:
		return missing("model", logos.ModelID(row.MissingModel))
	case spec.Name != "" && row.HasName:
		return logos.Errorf(logos.Exists, "exists", "the project has an API key %q already: choose another name, or leave it out", spec.Name)
	case row.HasSecret:
		return logos.Errorf(logos.Exists, "secret_exists", "this secret is an API key of this gateway already")
	}
	return nil
}

// insertKey stores a key. claim is the hash of the token that hands it over, before a time; nil: none.
func (t *Tx) insertKey(ctx context.Context, spec KeySpec, s keySecret, claim []byte, before time.Time) (logos.APIKeyID, error) {
	role := spec.Role
	switch {
	case role == "" && spec.Member != 0:
		role = logos.RoleMember // what counts is the member's
	case role == "":
		role = logos.RoleService
	}
	labels, err := json.Marshal(spec.Labels)
	if err != nil {
		return 0, fmt.Errorf("encode labels: %w", err)
	}
	if spec.Labels == nil {
		labels = []byte("{}")
	}
	sources := make([]string, len(spec.Sources))
	for i, p := range spec.Sources {
		sources[i] = p.Masked().String()
	}
	id, err := t.q.InsertAPIKey(ctx, db.InsertAPIKeyParams{
		ProjectID: int64(spec.Project), ProfileID: null(spec.Profile), MemberID: null(spec.Member), Role: string(role), Name: spec.Name,
		Hash: s.hash[:], HashKind: s.kind, Prefix: s.prefix, Hint: s.hint, ExpiresAt: nullTime(spec.ExpiresAt),
		AllowedApis: append([]string{}, spec.APIs...), AllowedModels: numbers(spec.Models), AllowedCidrs: sources, Labels: labels,
		ClaimHash: claim, ClaimExpiresAt: nullTime(before), Revision: t.revision,
	})
	return logos.APIKeyID(id), err
}

// numbers returns ids as the database has them; never nil, which would be null.
func numbers[T ~int64](ids []T) []int64 {
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = int64(id)
	}
	return out
}

// nullTime returns null for the zero time.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
