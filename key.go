package logos

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"time"
)

// KeyPrefix begins every API key that Logos makes.
const KeyPrefix = "lg-"

// MaxKeyLength bounds an API key in bytes; anything longer is no key and isn't hashed.
const MaxKeyLength = 256

// A KeyHash is the keyed hash under which an API key is stored.
type KeyHash [sha256.Size]byte

// A Hasher makes the keyed hashes (HMAC-SHA-256) of API keys and end users. Without its key, stored
// hashes can't be tried against guesses.
type Hasher struct{ key Secret }

// NewHasher returns a hasher with the given key of 32 random bytes.
func NewHasher(key []byte) Hasher { return Hasher{Secret(key)} }

// APIKey hashes an API key.
func (h Hasher) APIKey(secret string) KeyHash { return h.sum("api-key:", secret) }

// APIKeyDigest hashes an API key of which only the SHA-256 is known, as other gateways store it. It differs
// from APIKey of that digest's text, so that who has read their database can't call with what is in it.
func (h Hasher) APIKeyDigest(sha256 [sha256.Size]byte) KeyHash {
	return h.sum("api-key-sha256:", hex.EncodeToString(sha256[:]))
}

// ClaimToken hashes the token of the link by which an API key is handed over.
func (h Hasher) ClaimToken(token string) KeyHash { return h.sum("claim-token:", token) }

// Credential hashes a provider's credential, so that it can be found by its secret.
func (h Hasher) Credential(secret Secret) KeyHash { return h.sum("credential:", string(secret)) }

// Request hashes the digest of a request, which could be tried against guesses of a secret in it.
func (h Hasher) Request(digest []byte) KeyHash { return h.sum("request:", string(digest)) }

// EndUser returns the pseudonym of an end user of a project: 32 hexadecimal digits, or "" for "".
func (h Hasher) EndUser(project ProjectID, user string) string {
	if user == "" {
		return ""
	}
	var scope [8]byte
	for i := range scope {
		scope[i] = byte(uint64(project) >> (8 * i))
	}
	sum := h.sum("end-user:"+string(scope[:]), user)
	return hex.EncodeToString(sum[:16])
}

func (h Hasher) sum(purpose, value string) (out KeyHash) {
	mac := hmac.New(sha256.New, []byte(h.key))
	mac.Write([]byte(purpose))
	mac.Write([]byte(value))
	mac.Sum(out[:0])
	return out
}

// NewAPIKey makes an API key of 160 random bits.
func NewAPIKey() Secret {
	var b [20]byte
	rand.Read(b[:])
	return Secret(KeyPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(b[:])))
}

// HeaderKey returns what an Authorization header may present as an API key: the token in "Bearer …", the
// scheme in any case. It may be a key, like lg-… or one that was imported from another gateway, or the
// caller's own credential for a provider. Other values, and tokens that are too long to be a key, are none.
func HeaderKey(authorization string) (key string, ok bool) {
	scheme, key, found := strings.Cut(authorization, " ")
	key = strings.TrimSpace(key)
	if !found || !strings.EqualFold(scheme, "bearer") || key == "" || len(key) > MaxKeyLength {
		return "", false
	}
	return key, true
}

// FindKey returns the key with that secret, or nil, and the hash by which it was found; see
// [APIKey.ExpiryOf]. It may be revoked or expired.
func (c *Config) FindKey(secret string) (*APIKey, KeyHash) {
	if len(secret) > MaxKeyLength {
		return nil, KeyHash{}
	}
	hash := c.Hasher.APIKey(secret)
	k := c.APIKey(hash)
	if k == nil && c.digests {
		hash = c.Hasher.APIKeyDigest(sha256.Sum256([]byte(secret)))
		k = c.APIKey(hash)
	}
	return k, hash
}

// ExpiryOf returns when the secret with that hash works no more: the one before the last rotation ends
// before the key does. Zero: never.
func (k *APIKey) ExpiryOf(hash KeyHash) time.Time {
	if hash == k.Hash || !k.ExpiresAt.IsZero() && k.ExpiresAt.Before(k.PreviousExpiresAt) {
		return k.ExpiresAt
	}
	return k.PreviousExpiresAt
}

// Usable says whether the secret with that hash may be used at the given time.
func (k *APIKey) Usable(hash KeyHash, now time.Time) bool {
	if k.Revoked || hash != k.Hash && k.PreviousExpiresAt.IsZero() {
		return false
	}
	expiry := k.ExpiryOf(hash)
	return expiry.IsZero() || now.Before(expiry)
}
