package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

const keyBytes = 32

// A masterKey wraps the keys under which secrets are stored.
type masterKey struct {
	id   string // derived, so that it says nothing of the key
	aead cipher.AEAD
}

// NewMasterKeyText makes a new key, in the text form that [NewKeyring] reads.
func NewMasterKeyText() string {
	var b [keyBytes]byte
	rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}

var errNotAKey = errors.New("a master key must be 32 bytes in base64: make one with `openssl rand -base64 32`")

func parseMasterKey(text string) (*masterKey, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != keyBytes {
		return nil, errNotAKey
	}
	id, err := hkdf.Key(sha256.New, raw, nil, "logos master key id", 8)
	if err != nil {
		return nil, fmt.Errorf("derive the master key's id: %w", err)
	}
	wrap, err := hkdf.Key(sha256.New, raw, nil, "logos wrap", keyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive the wrapping key: %w", err)
	}
	aead, err := newAEAD(wrap)
	if err != nil {
		return nil, err
	}
	return &masterKey{id: hex.EncodeToString(id), aead: aead}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	// The nonce is random and stands before the ciphertext.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return aead, nil
}

// wrap encrypts a key for one purpose; it can be unwrapped for no other.
func (k *masterKey) wrap(purpose string, key []byte) []byte {
	return k.aead.Seal(nil, nil, key, []byte(purpose))
}

func (k *masterKey) unwrap(purpose string, wrapped []byte) ([]byte, error) {
	key, err := k.aead.Open(nil, nil, wrapped, []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("unwrap the %s: it was wrapped by another master key, or is damaged", purpose)
	}
	return key, nil
}

const (
	hashKeyPurpose = "hash key"
	dataKeyPurpose = "data key of a credential"
)

// sealed is a secret as it is stored.
type sealed struct {
	keyID           string
	dataKey, secret []byte
}

// seal encrypts a secret with a data key of its own.
func (k *masterKey) seal(secret string) (sealed, error) {
	var dataKey [keyBytes]byte
	rand.Read(dataKey[:])
	aead, err := newAEAD(dataKey[:])
	if err != nil {
		return sealed{}, err
	}
	return sealed{keyID: k.id, dataKey: k.wrap(dataKeyPurpose, dataKey[:]), secret: aead.Seal(nil, nil, []byte(secret), nil)}, nil
}

func (k *masterKey) unseal(s sealed) (string, error) {
	dataKey, err := k.unwrap(dataKeyPurpose, s.dataKey)
	if err != nil {
		return "", err
	}
	aead, err := newAEAD(dataKey)
	if err != nil {
		return "", err
	}
	secret, err := aead.Open(nil, nil, s.secret, nil)
	if err != nil {
		return "", errors.New("its secret is damaged")
	}
	return string(secret), nil
}
