package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
)

// fields calls each with the fields of one flat JSON object, whose names have no escapes. Values are as
// they stand; those that nest are passed as a whole. Reading lines is most of what serve does beside
// deciding, and the general decoder takes four times as long.
func fields(raw []byte, each func(key string, value []byte) error) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) < 2 || raw[0] != '{' || raw[len(raw)-1] != '}' {
		return errNoObject
	}
	rest := raw[1 : len(raw)-1]
	if len(bytes.TrimSpace(rest)) == 0 {
		return nil
	}
	for {
		key, after, err := stringAt(rest)
		if err != nil {
			return err
		}
		after = bytes.TrimLeft(after, " ")
		if len(after) == 0 || after[0] != ':' {
			return errNoObject
		}
		value, after, err := valueAt(bytes.TrimLeft(after[1:], " "))
		if err != nil {
			return err
		}
		if err := each(string(key[1:len(key)-1]), value); err != nil {
			return err
		}
		after = bytes.TrimLeft(after, " ")
		if len(after) == 0 {
			return nil
		}
		if after[0] != ',' {
			return errNoObject
		}
		rest = bytes.TrimLeft(after[1:], " ")
	}
}

var errNoObject = errors.New("it is no JSON object")

// stringAt splits off a string, with its quotes.
func stringAt(b []byte) (s, rest []byte, err error) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, errNoObject
	}
	for at := 1; ; {
		end := bytes.IndexByte(b[at:], '"')
		if end < 0 {
			return nil, nil, errNoObject
		}
		end += at
		backslashes := 0
		for i := end - 1; i > 0 && b[i] == '\\'; i-- {
			backslashes++
		}
		if backslashes%2 == 0 {
			return b[:end+1], b[end+1:], nil
		}
		at = end + 1
	}
}

// valueAt splits off a value.
func valueAt(b []byte) (v, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errNoObject
	}
	switch b[0] {
	case '"':
		return stringAt(b)
	case '{', '[': // short: the general decoder finds their end
		d := json.NewDecoder(bytes.NewReader(b))
		var nested json.RawMessage
		if d.Decode(&nested) != nil {
			return nil, nil, errNoObject
		}
		return nested, b[d.InputOffset():], nil
	}
	end := bytes.IndexAny(b, ",} ")
	if end < 0 {
		end = len(b)
	}
	if !json.Valid(b[:end]) {
		return nil, nil, errNoObject
	}
	return b[:end], b[end:], nil
}
