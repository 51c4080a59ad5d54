package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
)

// A Repeat recognises a request that is made again.
type Repeat struct {
	RequestID string // a UUID; empty: it is not recognised
	Digest    []byte // of the request, which may hold a secret: what is stored is a keyed hash of it
}

// repeated is the error that ends the change of a request that was made before.
type repeated struct{ response json.RawMessage }

func (repeated) Error() string { return "this request was made before" }

// AsRepeated returns the answer to the first request, if a change ended because it was made before.
func AsRepeated(err error) (json.RawMessage, bool) {
	r, ok := errors.AsType[repeated](err)
	return r.response, ok
}

// Repeated ends the change with an error that holds the first answer, if the caller made this request before.
func (t *Tx) Repeated(ctx context.Context, r Repeat) error {
	if r.RequestID == "" {
		return nil
	}
	var method string
	var digest, response []byte
	err := t.tx.QueryRow(ctx, "select method, digest, response from idempotent_requests where api_key_id = $1 and request_id = $2", int64(t.actor.Key), r.RequestID).Scan(&method, &digest, &response)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	case method != t.actor.Method || !bytes.Equal(digest, t.keyed(r)):
		return logos.Errorf(logos.Exists, "request_id_reused", "another request was made with it already: take a new UUID for each request")
	}
	return repeated{response}
}

// Remember keeps the answer to a request. It must hold no secret.
func (t *Tx) Remember(ctx context.Context, r Repeat, response json.RawMessage) error {
	if r.RequestID == "" {
		return nil
	}
	_, err := t.tx.Exec(ctx, "insert into idempotent_requests (api_key_id, request_id, method, digest, response) values ($1, $2, $3, $4, $5)",
		int64(t.actor.Key), r.RequestID, t.actor.Method, t.keyed(r), []byte(response))
	return err
}

func (t *Tx) keyed(r Repeat) []byte {
	sum := t.store.hasher.Request(r.Digest)
	return sum[:]
}
