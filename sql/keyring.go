package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// A Keyring is the master keys that a process was given. Everything stored names the key that it needs, and
// the database names the one that wraps what is new, so their order matters only where a key is chosen: for
// a new database, and as the one that [Store.Rekey] rotates to, it is the first. It prints as "[redacted]".
type Keyring struct {
	read func() (string, error)

	mu   sync.Mutex
	keys []*masterKey
}

// NewKeyring reads master keys, each of 32 bytes in base64, one a line or with commas between them. read is
// called again whenever a key is needed that is not there, so that a rotation needs no restart.
func NewKeyring(read func() (text string, err error)) (*Keyring, error) {
	k := &Keyring{read: read}
	return k, k.refresh()
}

// ID names the first key without telling it.
func (k *Keyring) ID() string { return k.first().id }

// Has says whether a key is given.
func (k *Keyring) Has(id string) bool { return k.known(id) != nil }

// String returns "[redacted]".
func (k *Keyring) String() string { return "[redacted]" }

// GoString returns "[redacted]".
func (k *Keyring) GoString() string { return "[redacted]" }

func (k *Keyring) first() *masterKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[0]
}

// find returns the key with that id.
func (k *Keyring) find(id string) (*masterKey, error) {
	if key := k.known(id); key != nil {
		return key, nil
	}
	err := k.refresh()
	if key := k.known(id); key != nil {
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("master key %s is needed, given was %s, and they can't be read again: %w", id, k.ids(), err)
	}
	return nil, fmt.Errorf("master key %s is needed, and given is %s", id, k.ids())
}

func (k *Keyring) known(id string) *masterKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := slices.IndexFunc(k.keys, func(key *masterKey) bool { return key.id == id }); i >= 0 {
		return k.keys[i]
	}
	return nil
}

// ids names all keys.
func (k *Keyring) ids() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := make([]string, len(k.keys))
	for i, key := range k.keys {
		names[i] = key.id
	}
	return strings.Join(names, ", ")
}

// refresh reads the keys anew. Those that are there no more stay until the process ends: it may have
// something left to unwrap.
func (k *Keyring) refresh() error {
	text, err := k.read()
	if err != nil {
		return err
	}
	fresh, err := parseMasterKeys(text)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, old := range k.keys {
		if !slices.ContainsFunc(fresh, func(key *masterKey) bool { return key.id == old.id }) {
			fresh = append(fresh, old)
		}
	}
	k.keys = fresh
	return nil
}

func parseMasterKeys(text string) ([]*masterKey, error) {
	texts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	if len(texts) == 0 {
		return nil, errNotAKey
	}
	keys := make([]*masterKey, len(texts))
	for i, text := range texts {
		var err error
		if keys[i], err = parseMasterKey(text); err != nil {
			return nil, fmt.Errorf("master key %d of %d: %w", i+1, len(texts), err)
		}
	}
	return keys, nil
}

// unseal decrypts a secret.
func (k *Keyring) unseal(s sealed) (string, error) {
	key, err := k.find(s.keyID)
	if err != nil {
		return "", err
	}
	return key.unseal(s)
}
