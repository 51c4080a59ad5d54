package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
)

// A Map is a JSON object that keeps its order.
type Map[V any] struct {
	keys   []string
	values map[string]V
}

// Set puts a value at the end, or in the place of the one that has the key.
func (m *Map[V]) Set(key string, v V) {
	if m.values == nil {
		m.values = make(map[string]V)
	}
	if _, there := m.values[key]; !there {
		m.keys = append(m.keys, key)
	}
	m.values[key] = v
}

// Get returns the value of a key; without one, the zero value.
func (m Map[V]) Get(key string) V { return m.values[key] }

// Has says whether there is a key.
func (m Map[V]) Has(key string) bool {
	_, ok := m.values[key]
	return ok
}

// IsZero says whether there is none.
func (m Map[V]) IsZero() bool { return len(m.keys) == 0 }

// All yields keys and values in order.
func (m Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range m.keys {
			if !yield(k, m.values[k]) {
				return
			}
		}
	}
}

// Sort orders the keys.
func (m *Map[V]) Sort() { slices.Sort(m.keys) }

// MarshalJSON writes an object.
func (m Map[V]) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range m.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(k)) // keys are names, paths and statuses
		b.WriteByte(':')
		v, err := encode(m.values[k])
		if err != nil {
			return nil, err
		}
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object.
func (m *Map[V]) UnmarshalJSON(data []byte) error {
	*m = Map[V]{}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%.20s is no object", data)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var v V
		if err := d.Decode(&v); err != nil {
			return err
		}
		m.Set(key.(string), v)
	}
	return nil
}

// encode is json.Marshal without escapes that only HTML needs.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// Types are the JSON types that a value may have: one is written alone, several as a list.
type Types []string

// MarshalJSON writes a text or a list.
func (t Types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// UnmarshalJSON reads either.
func (t *Types) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = Types{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// Additional are further properties of an object: those of a schema, or, without one, none.
type Additional struct{ *Schema }

// MarshalJSON writes a schema or false.
func (a Additional) MarshalJSON() ([]byte, error) {
	if a.Schema == nil {
		return []byte("false"), nil
	}
	return encode(a.Schema)
}

// UnmarshalJSON reads either.
func (a *Additional) UnmarshalJSON(data []byte) error {
	if string(data) == "false" {
		return nil
	}
	return json.Unmarshal(data, &a.Schema)
}
