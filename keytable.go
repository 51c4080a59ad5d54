package logos

import "maps"

// keyParts is how many parts a table of API keys has: with 100,000 keys a part holds some 400, so that a
// changed key costs some microseconds.
const keyParts = 256

// A keyTable finds API keys by a hash. It is immutable: the next one is made by a [keyEdit], and shares
// the parts in which nothing changed.
type keyTable struct {
	parts [keyParts]map[KeyHash]*APIKey // by the hash's first byte
}

func (t *keyTable) get(h KeyHash) *APIKey { return t.parts[h[0]][h] }

// A keyEdit makes a new table out of another. It copies a part when that is first changed.
type keyEdit struct {
	table *keyTable
	own   [keyParts]bool
}

func editKeys(t *keyTable) *keyEdit {
	next := *t
	return &keyEdit{table: &next}
}

func (e *keyEdit) part(h KeyHash) map[KeyHash]*APIKey {
	i := h[0]
	if !e.own[i] {
		e.own[i] = true
		if e.table.parts[i] = maps.Clone(e.table.parts[i]); e.table.parts[i] == nil {
			e.table.parts[i] = make(map[KeyHash]*APIKey)
		}
	}
	return e.table.parts[i]
}

func (e *keyEdit) put(h KeyHash, k *APIKey) { e.part(h)[h] = k }

// drop takes a key out, unless another has its place.
func (e *keyEdit) drop(h KeyHash, id APIKeyID) {
	if k := e.table.get(h); k != nil && k.ID == id {
		delete(e.part(h), h)
	}
}
