package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestRefusesAnotherMasterKey(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	rightText, wrongText := store.NewMasterKeyText(), store.NewMasterKeyText()
	right, wrong := pgtest.Key(t, rightText), pgtest.Key(t, wrongText)
	s := pgtest.Open(t, url, right)
	c := fill(t, s)
	other := open(t, url)
	err := other.Unlock(t.Context(), wrong)
	if err == nil {
		t.Fatal("another master key unlocks the database")
	}
	for _, want := range []string{right.ID(), wrong.ID(), "LOGOS_MASTER_KEY"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not name %s", err, want)
		}
	}
	for _, secret := range []string{rightText, wrongText, providerSecret, string(c.key)} {
		if holds(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
			t.Errorf("the error %q tells a secret", err)
		}
	}
	if id, err := other.KeyID(t.Context()); id != right.ID() || err != nil {
		t.Errorf("the key id is %q, %v; want %q", id, err, right.ID())
	}
	if err := other.Unlock(t.Context(), right); err != nil {
		t.Errorf("the right key after the wrong one: %v", err)
	}
	if _, err := other.Authenticate(t.Context(), string(c.key), time.Now()); err != nil {
		t.Errorf("after the right key: %v", err)
	}
}

func TestSaysThatAKeyIsDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ damage, want string }{
		"the hash key":      {"update instance set hash_key = set_byte(hash_key, 20, get_byte(hash_key, 20) # 1)", "hash key"},
		"a data key":        {"update credentials set data_key = set_byte(data_key, 20, get_byte(data_key, 20) # 1)", "credential 1"},
		"a secret":          {"update credentials set secret = set_byte(secret, 20, get_byte(secret, 20) # 1)", "credential 1"},
		"an empty secret":   {"update credentials set secret = ''", "credential 1"},
		"of another master": {"update credentials set key_id = '0123456789abcdef'", "credential 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			text := store.NewMasterKeyText()
			s := pgtest.Open(t, url, pgtest.Key(t, text))
			fill(t, s)
			exec(t, pgtest.Conn(t, url), c.damage)
			again := open(t, url)
			err := again.Unlock(t.Context(), pgtest.Key(t, text))
			if err == nil {
				_, err = again.Load(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || holds(err.Error(), providerSecret) {
				t.Errorf("the error is %v, want one about %s, without secrets", err, c.want)
			}
		})
	}
}

func TestRefusesTextsThatAreNoMasterKey(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "c2hvcnQ=", base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.StdEncoding.EncodeToString(make([]byte, 33)), strings.Repeat("secret", 8)} {
		_, err := store.NewKeyring(func() (string, error) { return text, nil })
		if err == nil || !strings.Contains(err.Error(), "openssl rand -base64 32") || len(text) > 4 && strings.Contains(err.Error(), text) {
			t.Errorf("%q gives %v", text, err)
		}
	}
	text := store.NewMasterKeyText()
	a, b := pgtest.Key(t, text), pgtest.Key(t, " "+text+"\n")
	if a.ID() != b.ID() || a.ID() == "" {
		t.Errorf("the key's id depends on space around it: %q, %q", a.ID(), b.ID())
	}
	if printed := fmt.Sprintf("%v %+v %#v %s", a, a, a, a); holds(printed, text) || !strings.Contains(printed, "[redacted]") {
		t.Errorf("the key prints as %s", printed)
	}
}

func TestSecretsAreNowhereInTheClear(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	master := store.NewMasterKeyText()
	s := pgtest.Open(t, url, pgtest.Key(t, master))
	c := fill(t, s)
	record(t, s, callID(1))
	rows := dump(t, pgtest.Conn(t, url))
	if !holds(rows["projects"], "a project") || !holds(rows["credentials"], string(hexOf(t, rows["credentials"]))) {
		t.Fatal("the search finds nothing, whatever is there")
	}
	for table, text := range rows {
		for name, secret := range map[string]string{"the API key": strings.TrimPrefix(string(c.key), logos.KeyPrefix), "the credential": providerSecret, "the master key": master} {
			if holds(text, secret) {
				t.Errorf("the table %s holds a part of %s", table, name)
			}
		}
	}
}

// hexOf returns the bytes of the first bytea in a row.
func hexOf(t *testing.T, row string) []byte {
	t.Helper()
	_, after, _ := strings.Cut(row, `\\x`)
	digits := after[:max(0, strings.IndexAny(after, `",`))]
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) < 16 {
		t.Fatalf("the row %q shows no bytea", row)
	}
	return b
}

// holds says whether a text shows eight bytes in a row of a secret, as they are, in hexadecimal or, for one
// in base64, decoded.
func holds(text, secret string) bool {
	forms := [][]byte{[]byte(secret)}
	if raw, err := base64.StdEncoding.DecodeString(secret); err == nil {
		forms = append(forms, raw)
	}
	for _, form := range forms {
		for i := 0; i+8 <= len(form); i++ {
			part := form[i : i+8]
			if bytes.Contains([]byte(text), part) || strings.Contains(text, hex.EncodeToString(part)) {
				return true
			}
		}
	}
	return false
}
