package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Lengths of what is shown of a secret, in characters.
const (
	shownPrefix = 6 // with "lg-", three random ones
	shownSuffix = 4
	minShown    = 20 // a shorter secret shows nothing of itself
)

// NewSecret makes a secret and adds the columns of an API key that has it. It is not kept.
func (t *Tx) NewSecret(values Columns) logos.Secret {
	secret := logos.NewAPIKey()
	t.ImportSecret(values, secret)
	return secret
}

// ImportSecret adds the columns of an API key with an existing secret.
func (t *Tx) ImportSecret(values Columns, secret logos.Secret) {
	hash := t.store.hasher.APIKey(string(secret))
	values["hash"], values["hash_kind"] = hash[:], "secret"
	values["prefix"], values["hint"] = "", ""
	if len(secret) >= minShown {
		values["prefix"], values["hint"] = string(secret[:shownPrefix]), string(secret[len(secret)-shownSuffix:])
	}
}

// ImportSHA256 adds the columns of an API key of whose secret only the SHA-256 is known, in hexadecimal.
func (t *Tx) ImportSHA256(values Columns, sum string) {
	hash := t.store.hasher.APIKeySHA256(strings.ToLower(sum))
	values["hash"], values["hash_kind"], values["prefix"], values["hint"] = hash[:], "sha256", "", ""
}

// Unclaimed adds the columns of an API key whose secret nobody knows yet, and returns the token that
// claims it once.
func (t *Tx) Unclaimed(values Columns, until time.Time) (token logos.Secret) {
	t.NewSecret(values) // forgotten at once
	token = logos.Secret(strings.ToLower(rand.Text()))
	hash := t.store.hasher.Claim(string(token))
	values["claim_hash"], values["claim_expires_at"], values["prefix"], values["hint"] = hash[:], until, "", ""
	return token
}

// Claim gives the key of a claim link a secret, once.
func (t *Tx) Claim(ctx context.Context, token logos.Secret) (logos.APIKeyID, logos.Secret, error) {
	hash := t.store.hasher.Claim(string(token))
	id, err := t.q.ClaimableKey(ctx, hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", logos.Errorf(logos.NotFound, "claim_not_found", "this link was used already, has expired or never existed: ask for a new one")
	}
	if err != nil {
		return 0, "", err
	}
	values := Columns{"claim_hash": nil, "claim_expires_at": nil}
	secret := t.NewSecret(values)
	return logos.APIKeyID(id), secret, t.Audited(ctx, APIKeys, id, func(ctx context.Context) error { return t.Update(ctx, APIKeys, id, values) })
}

// Rotate gives a key a new secret; the present one works on until the given time.
func (t *Tx) Rotate(ctx context.Context, id logos.APIKeyID, until time.Time) (logos.Secret, error) {
	values := Columns{"previous_hash": nil, "previous_expires_at": nil, "claim_hash": nil, "claim_expires_at": nil}
	present, err := t.q.KeyHash(ctx, int64(id))
	if err != nil {
		return "", err
	}
	if until.After(time.Now()) {
		values["previous_hash"], values["previous_expires_at"] = present, until
	}
	secret := t.NewSecret(values)
	return secret, t.Update(ctx, APIKeys, int64(id), values)
}

// Revoke ends a key for good.
func (t *Tx) Revoke(ctx context.Context, id logos.APIKeyID) error {
	return t.Update(ctx, APIKeys, int64(id), Columns{"revoked_at": time.Now(), "previous_hash": nil, "previous_expires_at": nil, "claim_hash": nil, "claim_expires_at": nil})
}

// MemberKeys says what a member may still do with keys: how many it has that work, how many it may have,
// and how long one that it makes may live at most.
func (t *Tx) MemberKeys(ctx context.Context, member logos.MemberID) (has, limit int64, maxAge time.Duration, err error) {
	row, err := t.q.MemberKeys(ctx, int64(member))
	return row.Has, int64(row.MemberKeyLimit), time.Duration(row.MemberKeyMaxAgeS) * time.Second, err
}

// KeyNameTaken says whether a key of the project that works has a name.
func (t *Tx) KeyNameTaken(ctx context.Context, project int64, name string, but logos.APIKeyID) (bool, error) {
	return t.q.KeyNameTaken(ctx, db.KeyNameTakenParams{ProjectID: project, Name: name, ID: int64(but)})
}

// SameKeySecret says whether a key's present secret is this one, or has this SHA-256.
func (t *Tx) SameKeySecret(ctx context.Context, id logos.APIKeyID, secret logos.Secret, sha256 string) (bool, error) {
	present, err := t.q.KeyHash(ctx, int64(id))
	if err != nil {
		return false, fmt.Errorf("read a key: %w", err)
	}
	wanted := t.store.hasher.APIKey(string(secret))
	if sha256 != "" {
		wanted = t.store.hasher.APIKeySHA256(strings.ToLower(sha256))
	}
	return hex.EncodeToString(present) == hex.EncodeToString(wanted[:]), nil
}
