package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// IsSetUp says whether the root user is there.
func (s *Store) IsSetUp(ctx context.Context) (bool, error) {
	row, err := db.New(s.pool).Instance(ctx)
	return row.SetUpAt != nil, err
}

// A Principal is who makes an administrative call.
type Principal struct {
	Key     logos.APIKeyID
	Project logos.ProjectID
	Team    logos.TeamID   // of the member or, for a program's key, of the project; 0: none
	Member  logos.MemberID // 0: the key is a program's
	Role    logos.Role
}

// Authenticate finds the usable API key with that secret in the database itself, so that a key works, or
// works no more, with the next administrative call.
func (s *Store) Authenticate(ctx context.Context, secret string, now time.Time) (*Principal, error) {
	unknown := logos.Errorf(logos.Unauthenticated, "invalid_api_key", "the API key is missing, unknown, expired or revoked")
	if secret == "" || len(secret) > logos.MaxKeyLength {
		return nil, unknown
	}
	row, err := db.New(s.pool).APIKeyByHash(ctx, s.keyHashes(logos.Secret(secret)))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, unknown
	}
	if err != nil {
		return nil, fmt.Errorf("look up an API key: %w", err)
	}
	k := &logos.APIKey{
		ID: logos.APIKeyID(row.ID), ProjectID: logos.ProjectID(row.ProjectID), MemberID: logos.MemberID(zero(row.MemberID)),
		Role: logos.Role(row.Role), Hash: logos.KeyHash(row.Hash), Revoked: row.RevokedAt != nil, ExpiresAt: zero(row.ExpiresAt), PreviousExpiresAt: zero(row.PreviousExpiresAt),
	}
	copy(k.PreviousHash[:], row.PreviousHash)
	by := k.Hash
	if !row.Present {
		by = k.PreviousHash // of the secret before the last rotation
	}
	if !k.Usable(by, now) {
		return nil, unknown
	}
	p := &Principal{
		Key: logos.APIKeyID(row.ID), Project: logos.ProjectID(row.ProjectID), Team: logos.TeamID(zero(row.ProjectTeamID)),
		Member: logos.MemberID(zero(row.MemberID)), Role: logos.Role(row.Role),
	}
	if p.Member != 0 {
		p.Team = logos.TeamID(zero(row.MemberTeamID))
	}
	return p, nil
}

// APIKey returns a key that is there, as decisions know it.
func (s *Store) APIKey(ctx context.Context, id logos.APIKeyID) (*logos.APIKey, error) {
	row, err := db.New(s.pool).LoadAPIKey(ctx, int64(id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, missing("API key", id)
	}
	if err != nil {
		return nil, fmt.Errorf("look up an API key: %w", err)
	}
	same := db.ChangedAPIKeysRow(row)
	return readKey(&same)
}

// Names holds what a principal's ids stand for.
type Names struct{ Project, Team, Email string }

// Names looks a principal's names up.
func (s *Store) Names(ctx context.Context, p *Principal) (n Names, err error) {
	row, err := db.New(s.pool).PrincipalNames(ctx, db.PrincipalNamesParams{ProjectID: int64(p.Project), TeamID: int64(p.Team), MemberID: int64(p.Member)})
	if err != nil {
		return n, fmt.Errorf("look up names: %w", err)
	}
	return Names{Project: row.Project, Team: row.Team, Email: row.Email}, nil
}

// keyHashes returns the hashes under which a key with that secret may be stored.
func (s *Store) keyHashes(secret logos.Secret) [][]byte {
	own, digest := s.hasher.APIKey(string(secret)), s.hasher.APIKeyDigest(sha256.Sum256([]byte(secret)))
	return [][]byte{own[:], digest[:]}
}

// CredentialID returns the id of the one credential with that secret.
func (s *Store) CredentialID(ctx context.Context, secret logos.Secret) (logos.CredentialID, error) {
	ids, err := db.New(s.pool).CredentialsByHash(ctx, s.credentialHash(secret))
	switch {
	case err != nil:
		return 0, fmt.Errorf("look up a credential: %w", err)
	case len(ids) == 0:
		return 0, logos.Errorf(logos.NotFound, "not_found", "there is no api with this key: add it with add_provider")
	case len(ids) > 1:
		return 0, logos.Errorf(logos.Exists, "ambiguous", "several providers have this key: use the api-id that add_provider answered with")
	}
	return logos.CredentialID(ids[0]), nil
}

// credentialHash is keyed like that of API keys, so that a stolen database tells no secret.
func (s *Store) credentialHash(secret logos.Secret) []byte {
	sum := s.hasher.Credential(secret)
	return sum[:]
}
