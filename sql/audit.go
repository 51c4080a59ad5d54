package store

import (
	"context"
	"encoding/json"

	"github.com/ls1intum/edutelligence/logos"
)

// An Actor is who makes a change, for the audit. The zero Actor is the gateway itself.
type Actor struct {
	Method    string // e.g. "CreateProject"
	Key       logos.APIKeyID
	Member    logos.MemberID
	Role      logos.Role
	Source    string // address
	RequestID string
}

// Created adds an audit event of a resource that the change has made.
func (t *Tx) Created(ctx context.Context, k *Kind, id int64) error {
	after, err := t.masked(ctx, k, id)
	if err != nil {
		return err
	}
	return t.audit(ctx, k, id, nil, after)
}

// Audited makes a change of one resource and adds its audit event, with the resource before and after.
func (t *Tx) Audited(ctx context.Context, k *Kind, id int64, change func(context.Context) error) error {
	before, err := t.masked(ctx, k, id)
	if err != nil {
		return err
	}
	if err := change(ctx); err != nil {
		return err
	}
	after, err := t.masked(ctx, k, id)
	if err != nil {
		return err
	}
	return t.audit(ctx, k, id, before, after)
}

// masked returns a resource's document, which holds no secret. A deleted one has none.
func (t *Tx) masked(ctx context.Context, k *Kind, id int64) (json.RawMessage, error) {
	doc, err := t.Get(ctx, k, Scope{}, id)
	if k == settings {
		doc, err = t.Settings(ctx)
	}
	if logos.KindOf(err) == logos.NotFound {
		return nil, nil
	}
	return doc, err
}

func (t *Tx) audit(ctx context.Context, k *Kind, id int64, before, after json.RawMessage) error {
	var in struct {
		ID      int64 `json:"id"`
		Team    int64 `json:"team_id"`
		Project int64 `json:"project_id"`
	}
	shown := after
	if shown == nil {
		shown = before
	}
	if err := json.Unmarshal(shown, &in); err != nil {
		return err
	}
	switch k {
	case Teams:
		in.Team = in.ID
	case Projects:
		in.Project = in.ID
	}
	a := t.actor
	_, err := t.tx.Exec(ctx, `insert into audit_events (revision, method, kind, resource_id, team_id, project_id, api_key_id, member_id, role, source, request_id, before, after)
		values ($1, $2, $3, $4, coalesce(nullif($5::bigint, 0), (select team_id from projects where id = $6)), nullif($6::bigint, 0), nullif($7::bigint, 0), nullif($8::bigint, 0), $9, $10, $11, $12, $13)`,
		t.revision, a.Method, k.Name, id, in.Team, in.Project, int64(a.Key), int64(a.Member), string(a.Role), a.Source, a.RequestID, before, after)
	return err
}
