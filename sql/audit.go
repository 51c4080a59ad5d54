package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

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

// A touch is a resource that a change has made, changed or deleted. Each gets one audit event when the
// change ends, however often it was touched.
type touch struct {
	kind   *Kind
	id     int64
	before json.RawMessage // nil: it was not there
}

type touchKey struct {
	kind *Kind
	id   int64
}

// Created notes a resource that the change has made.
func (t *Tx) Created(_ context.Context, k *Kind, id int64) error {
	t.touch(k, id, nil)
	return nil
}

// Audited makes a change of one resource, which gets an audit event with its state before and after.
func (t *Tx) Audited(ctx context.Context, k *Kind, id int64, change func(context.Context) error) error {
	return t.auditedAll(ctx, k, []int64{id}, change)
}

// auditedAll is Audited for several resources of a kind.
func (t *Tx) auditedAll(ctx context.Context, k *Kind, ids []int64, change func(context.Context) error) error {
	if len(ids) == 0 {
		return nil
	}
	before, err := t.documents(ctx, k, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		t.touch(k, id, before[id])
	}
	return change(ctx)
}

func (t *Tx) touch(k *Kind, id int64, before json.RawMessage) {
	key := touchKey{k, id}
	if _, ok := t.touched[key]; !ok {
		t.touched[key] = len(t.touches)
		t.touches = append(t.touches, touch{k, id, before})
	}
}

// Before returns the documents of the resources of a kind that the change has touched, as they were before.
func (t *Tx) Before(k *Kind) (docs []json.RawMessage) {
	for _, x := range t.touches {
		if x.kind == k && x.before != nil {
			docs = append(docs, x.before)
		}
	}
	return docs
}

// documents returns the documents of resources by id, which hold no secret. One that is not there has none.
func (t *Tx) documents(ctx context.Context, k *Kind, ids []int64) (map[int64]json.RawMessage, error) {
	if k == settings {
		doc, err := t.Settings(ctx)
		return map[int64]json.RawMessage{0: doc}, err
	}
	rows, err := t.tx.Query(ctx, "select r.id, "+k.document()+" from "+k.source()+" where r.id = any ($1)"+k.there(), ids)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k.Plural(), err)
	}
	docs := make(map[int64]json.RawMessage, len(ids))
	var id int64
	var doc json.RawMessage
	if _, err := pgx.ForEachRow(rows, []any{&id, &doc}, func() error {
		docs[id] = append(json.RawMessage(nil), doc...)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read %s: %w", k.Plural(), err)
	}
	return docs, nil
}

// events are the columns of the audit events of one change.
type events struct {
	kinds                []string
	ids, teams, projects []int64
	before, after        []*string
}

// audit writes the events of what the change has touched, in that order. What is as it was has none.
func (t *Tx) audit(ctx context.Context) error {
	after := make(map[*Kind]map[int64]json.RawMessage)
	for k, ids := range t.touchedIDs() {
		docs, err := t.documents(ctx, k, ids)
		if err != nil {
			return err
		}
		after[k] = docs
	}
	var e events
	for _, x := range t.touches {
		if err := e.add(x, after[x.kind][x.id]); err != nil {
			return err
		}
	}
	if len(e.ids) == 0 {
		return nil
	}
	a := t.actor
	_, err := t.tx.Exec(ctx, `insert into audit_events (revision, method, kind, resource_id, team_id, project_id, api_key_id, member_id, role, source, request_id, before, after)
		select $1, $2, u.kind, u.id, coalesce(nullif(u.team, 0), (select team_id from projects where id = u.project)), nullif(u.project, 0), nullif($3::bigint, 0), nullif($4::bigint, 0), $5, $6, $7, u.before::jsonb, u.after::jsonb
		from unnest($8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[]) with ordinality as u (kind, id, team, project, before, after, n) order by u.n`,
		t.revision, a.Method, int64(a.Key), int64(a.Member), string(a.Role), a.Source, a.RequestID, e.kinds, e.ids, e.teams, e.projects, e.before, e.after)
	if err != nil {
		return fmt.Errorf("write audit events: %w", err)
	}
	return nil
}

func (t *Tx) touchedIDs() map[*Kind][]int64 {
	ids := make(map[*Kind][]int64)
	for _, x := range t.touches {
		ids[x.kind] = append(ids[x.kind], x.id)
	}
	return ids
}

// add adds the event of one resource, with the team and the project that it is of.
func (e *events) add(x touch, after json.RawMessage) error {
	if string(x.before) == string(after) { // not there before and after, too
		return nil
	}
	shown := after
	if shown == nil {
		shown = x.before
	}
	var in struct {
		ID      int64 `json:"id"`
		Team    int64 `json:"team_id"`
		Project int64 `json:"project_id"`
	}
	if err := json.Unmarshal(shown, &in); err != nil {
		return fmt.Errorf("read a %s for the audit: %w", x.kind.Name, err)
	}
	switch x.kind {
	case Teams:
		in.Team = in.ID
	case Projects:
		in.Project = in.ID
	}
	e.kinds, e.ids = append(e.kinds, x.kind.Name), append(e.ids, x.id)
	e.teams, e.projects = append(e.teams, in.Team), append(e.projects, in.Project)
	e.before, e.after = append(e.before, textOrNull(x.before)), append(e.after, textOrNull(after))
	return nil
}

func textOrNull(doc json.RawMessage) *string {
	if doc == nil {
		return nil
	}
	text := string(doc)
	return &text
}
