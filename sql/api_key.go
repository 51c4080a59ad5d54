package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

// A keySecret is what is stored of a secret.
type keySecret struct {
	hash         logos.KeyHash
	kind         string
	prefix, hint string
}

func (k keySecret) into(values Columns) {
	values["hash"], values["hash_kind"], values["prefix"], values["hint"] = k.hash[:], k.kind, k.prefix, k.hint
}

// newSecret makes a secret and what is stored of it.
func (t *Tx) newSecret() (logos.Secret, keySecret) {
	s := logos.NewAPIKey()
	return s, keySecret{t.store.hasher.APIKey(string(s)), hashOfSecret, string(s[:8]), string(s[len(s)-4:])}
}

// NewSecret makes a secret and adds the columns of an API key that has it. It is not kept.
func (t *Tx) NewSecret(values Columns) logos.Secret {
	secret, stored := t.newSecret()
	stored.into(values)
	return secret
}

// ImportSecret adds the columns of an API key with a secret of another gateway, whose clients then need no
// change. It refuses one that can be guessed too easily, can't stand in a header, or is in use.
func (t *Tx) ImportSecret(ctx context.Context, values Columns, secret logos.Secret) error {
	if len(secret) < minImported || len(secret) > logos.MaxKeyLength || strings.ContainsFunc(string(secret), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return logos.Errorf(logos.Invalid, "invalid_secret", "a secret to import must have %d to %d characters of printable ASCII without spaces", minImported, logos.MaxKeyLength)
	}
	stored := keySecret{hash: t.store.hasher.APIKey(string(secret)), kind: hashOfSecret}
	stored.prefix, stored.hint = recognisable(string(secret))
	stored.into(values)
	return t.freeSecret(ctx, t.store.keyHashes(secret))
}

// ImportSHA256 adds the columns of an API key of which another gateway knows no more than its secret's
// SHA-256, in hexadecimal. It refuses one that is in use.
func (t *Tx) ImportSHA256(ctx context.Context, values Columns, sum string) error {
	hash, err := t.digestHash(sum)
	if err != nil {
		return err
	}
	keySecret{hash: hash, kind: hashOfDigest}.into(values)
	return t.freeSecret(ctx, [][]byte{hash[:]})
}

func (t *Tx) digestHash(sum string) (hash logos.KeyHash, err error) {
	digest, err := hex.DecodeString(sum)
	if err != nil || len(digest) != sha256.Size {
		return hash, logos.Errorf(logos.Invalid, "invalid_secret", "it must be a SHA-256 in 64 hexadecimal digits")
	}
	return t.store.hasher.APIKeyDigest([sha256.Size]byte(digest)), nil
}

// freeSecret refuses a secret that is in use, without telling whose it is.
func (t *Tx) freeSecret(ctx context.Context, hashes [][]byte) error {
	taken, err := t.q.KeySecretTaken(ctx, hashes)
	if err == nil && taken {
		return logos.Errorf(logos.Exists, "secret_exists", "this secret is an API key of this gateway already")
	}
	return err
}

// recognisable returns the first and last characters of an imported secret: of a short one few, so that what
// is not shown is still hard to guess.
func recognisable(secret string) (prefix, hint string) {
	n := len(secret) / 8
	return secret[:min(n, 8)], secret[len(secret)-min(n, 4):]
}

// Unclaimed adds the columns of an API key whose secret nobody knows, and returns the token with which
// [Tx.Claim] makes one, once, before a time.
func (t *Tx) Unclaimed(values Columns, before time.Time) (token logos.Secret) {
	_, stored := t.newSecret()
	stored.prefix, stored.hint = "", ""
	stored.into(values)
	token = logos.Secret(strings.ToLower(rand.Text()))
	hash := t.store.hasher.ClaimToken(string(token))
	values["claim_hash"], values["claim_expires_at"] = hash[:], before
	return token
}

// Claim makes the secret of an unclaimed key, for whoever has its token. It works once.
func (t *Tx) Claim(ctx context.Context, token logos.Secret, now time.Time) (logos.APIKeyID, logos.Secret, error) {
	unknown := logos.Errorf(logos.NotFound, "claim_not_found", "this link works no more, or was not copied whole: it hands a key over once. If you have not used it yourself, have the key revoked, and ask for a new one")
	if len(token) < minToken || len(token) > maxToken {
		return 0, "", unknown
	}
	hash := t.store.hasher.ClaimToken(string(token))
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
	secret, stored := t.newSecret()
	return logos.APIKeyID(row.ID), secret, t.Audited(ctx, APIKeys, row.ID, func(ctx context.Context) error {
		return t.replaceSecret(ctx, row.ID, stored, nil)
	})
}

// Rotate gives a key a new secret, which it returns. The present one works on for the overlap; one from
// before an earlier rotation works no more.
func (t *Tx) Rotate(ctx context.Context, id logos.APIKeyID, overlap time.Duration, now time.Time) (logos.Secret, error) {
	row, err := t.q.APIKeyState(ctx, int64(id))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", missing("API key", id)
	case err != nil:
		return "", err
	case row.RevokedAt != nil:
		return "", logos.Errorf(logos.Conflict, "revoked_api_key", "API key %d was revoked, which is for good: create another", id)
	case row.ExpiresAt != nil && !now.Before(*row.ExpiresAt):
		return "", logos.Errorf(logos.Conflict, "expired_api_key", "API key %d has expired: set a later expire_time first, or create another", id)
	}
	var until *time.Time
	if overlap > 0 {
		end := now.Add(overlap)
		until = &end
	}
	secret, stored := t.newSecret()
	return secret, t.replaceSecret(ctx, int64(id), stored, until)
}

// replaceSecret stores another secret; the present one works until a time, or not at all.
func (t *Tx) replaceSecret(ctx context.Context, id int64, s keySecret, until *time.Time) error {
	return t.q.ReplaceAPIKeySecret(ctx, db.ReplaceAPIKeySecretParams{
		ID: id, Hash: s.hash[:], Prefix: s.prefix, Hint: s.hint, PreviousExpiresAt: until, Revision: t.revision,
	})
}

// Revoke ends a key with all its secrets, for good. It may be revoked already.
func (t *Tx) Revoke(ctx context.Context, id logos.APIKeyID) error {
	return t.q.RevokeAPIKey(ctx, db.RevokeAPIKeyParams{ID: int64(id), Revision: t.revision})
}

// MemberKeys says what a member may still do with keys: how many it has that work, how many it may have,
// and how long one that it makes may live at most.
func (t *Tx) MemberKeys(ctx context.Context, member logos.MemberID) (has, limit int64, maxAge time.Duration, err error) {
	row, err := t.q.MemberKeys(ctx, int64(member))
	return row.Has, int64(row.MemberKeyLimit), time.Duration(row.MemberKeyMaxAgeS) * time.Second, err
}

// KeyNameTaken says whether another key of the project that works has a name.
func (t *Tx) KeyNameTaken(ctx context.Context, project int64, name string, but logos.APIKeyID) (bool, error) {
	return t.q.KeyNameTaken(ctx, db.KeyNameTakenParams{ProjectID: project, Name: name, ID: int64(but)})
}

// SameKeySecret says whether a key's present secret is this one or, where that is given, has this SHA-256.
func (t *Tx) SameKeySecret(ctx context.Context, id logos.APIKeyID, secret logos.Secret, sum string) (bool, error) {
	row, err := t.q.APIKeyState(ctx, int64(id))
	if err != nil {
		return false, err
	}
	hashes := t.store.keyHashes(secret)
	if sum != "" {
		hash, err := t.digestHash(sum)
		if err != nil {
			return false, err
		}
		hashes = [][]byte{hash[:]}
	}
	for _, h := range hashes {
		if bytes.Equal(h, row.Hash) {
			return true, nil
		}
	}
	return false, nil
}
