package logos

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
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

// APIKeySHA256 hashes an API key of which only the SHA-256 is known, in lower-case hexadecimal.
func (h Hasher) APIKeySHA256(sum string) KeyHash { return h.sum("api-key-sha256:", sum) }

// Claim hashes the token of a claim link.
func (h Hasher) Claim(token string) KeyHash { return h.sum("claim:", token) }

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

// HeaderKey returns the API key in the value of an Authorization header: "Bearer lg-…", the scheme in
// any case. Other values, also other bearer tokens, are not for Logos.
func HeaderKey(authorization string) (key string, ok bool) {
	scheme, key, found := strings.Cut(authorization, " ")
	key = strings.TrimSpace(key)
	if !found || !strings.EqualFold(scheme, "bearer") || !strings.HasPrefix(key, KeyPrefix) || len(key) > MaxKeyLength {
		return "", false
	}
	return key, true
}
