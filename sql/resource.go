package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
)

// Columns are values by the name of their column.
type Columns map[string]any

// Get returns the document of a resource that is within a scope. One that is not, and one that is not
// there, are told apart by nobody.
func (s *Store) Get(ctx context.Context, k *Kind, in Scope, id int64) (json.RawMessage, error) {
	return find(ctx, s.pool, k, in, "r.id = $1", id)
}

// Get returns the document of a resource that is there and within a scope, as the change sees it.
func (t *Tx) Get(ctx context.Context, k *Kind, in Scope, id int64) (json.RawMessage, error) {
	return find(ctx, t.tx, k, in, "r.id = $1"+k.there(), id)
}

// Find returns the document of the resource that is there, within a scope and has these values in the
// fields named.
func (t *Tx) Find(ctx context.Context, k *Kind, in Scope, by Columns) (json.RawMessage, error) {
	return t.find(ctx, k, in, by, "r.deleted_at is null")
}

// Declared returns the document of the resource that a declaration with these values is about.
func (t *Tx) Declared(ctx context.Context, k *Kind, by Columns) (json.RawMessage, error) {
	conditions := []string{"r.deleted_at is null"}
	if k.declared != "" {
		conditions = append(conditions, "("+k.declared+")")
	}
	return t.find(ctx, k, Scope{}, by, conditions...)
}

func (t *Tx) find(ctx context.Context, k *Kind, in Scope, by Columns, conditions ...string) (json.RawMessage, error) {
	var args arguments
	for _, name := range slices.Sorted(maps.Keys(by)) {
		i := slices.IndexFunc(k.all(), func(f field) bool { return f.name == name })
		left, right := "("+k.all()[i].expr+")", args.add(by[name])
		if name == k.anyCase {
			left, right = "lower("+left+")", "lower("+right+")"
		}
		conditions = append(conditions, left+" = "+right)
	}
	return find(ctx, t.tx, k, in, strings.Join(conditions, " and "), args...)
}

func find(ctx context.Context, db querier, k *Kind, in Scope, condition string, values ...any) (json.RawMessage, error) {
	args := arguments(values)
	conditions := append([]string{condition}, k.confine(in, &args)...)
	order := ""
	if k != settings {
		order = " order by " + k.prefer + "r.id limit 1"
	}
	rows, err := db.Query(ctx, "select "+k.document()+" from "+k.source()+" where "+strings.Join(conditions, " and ")+order, args...)
	if err != nil {
		return nil, fmt.Errorf("read a %s: %w", k.Name, err)
	}
	doc, err := pgx.CollectOneRow(rows, pgx.RowTo[json.RawMessage])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, logos.Errorf(logos.NotFound, "not_found", "there is no such %s, or you may not see it", k.Words())
	}
	if err != nil {
		return nil, fmt.Errorf("read a %s: %w", k.Name, err)
	}
	return doc, nil
}

// Words is the name of the kind, for people.
func (k *Kind) Words() string { return words(k.Name) }

// Plural is the name of several.
func (k *Kind) Plural() string {
	if k.plural != "" {
		return k.plural
	}
	return k.Name + "s"
}

func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

// Key makes names of the kind comparable: where case does not count, it is lower.
func (k *Kind) Key(name string) string {
	if k.anyCase != "" {
		return strings.ToLower(name)
	}
	return name
}

// Insert adds a resource and returns its id.
func (t *Tx) Insert(ctx context.Context, k *Kind, values Columns) (int64, error) {
	values["revision"] = t.revision
	var args arguments
	var names, places []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		names, places = append(names, name), append(places, args.add(values[name]))
	}
	var id int64
	err := t.tx.QueryRow(ctx, "insert into "+k.table+" ("+strings.Join(names, ", ")+") values ("+strings.Join(places, ", ")+") returning id", args...).Scan(&id)
	if err != nil {
		return 0, expected(err)
	}
	return id, nil
}

// Update changes columns of a resource.
func (t *Tx) Update(ctx context.Context, k *Kind, id int64, values Columns) error {
	values["revision"] = t.revision
	args := arguments{id}
	sets := []string{"updated_at = now()"}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		sets = append(sets, name+" = "+args.add(values[name]))
	}
	condition := "id = $1"
	if k == settings {
		condition = "$1 = 0"
	}
	_, err := t.tx.Exec(ctx, "update "+k.table+" set "+strings.Join(sets, ", ")+" where "+condition, args...)
	return expected(err)
}

// Settings returns the settings' document.
func (s *Store) Settings(ctx context.Context) (json.RawMessage, error) {
	return find(ctx, s.pool, settings, Scope{}, "true")
}

// Settings returns the settings' document as the change sees it.
func (t *Tx) Settings(ctx context.Context) (json.RawMessage, error) {
	return find(ctx, t.tx, settings, Scope{}, "true")
}

// UpdateSettings changes settings.
func (t *Tx) UpdateSettings(ctx context.Context, values Columns) error {
	return t.Audited(ctx, settings, 0, func(ctx context.Context) error { return t.Update(ctx, settings, 0, values) })
}

// SetGrants makes the models and grants of a profile what is given, in that order.
func (t *Tx) SetGrants(ctx context.Context, profile int64, models []int64, grants []logos.Grant) error {
	present, err := t.ids(ctx, "select model_id from profile_models where profile_id = any ($1) order by id", []int64{profile})
	if err != nil {
		return err
	}
	if !slices.Equal(present, models) {
		if _, err := t.tx.Exec(ctx, "delete from profile_models where profile_id = $1", profile); err != nil {
			return err
		}
		if _, err := t.tx.Exec(ctx, "insert into profile_models (profile_id, model_id) select $1, m from unnest($2::bigint[]) with ordinality as u (m, n) order by n", profile, models); err != nil {
			return err
		}
	}
	providers, credentials := make([]int64, len(grants)), make([]*int64, len(grants))
	for i, g := range grants {
		providers[i], credentials[i] = int64(g.Provider), null(g.Credential)
	}
	if _, err := t.tx.Exec(ctx, "delete from profile_providers where profile_id = $1", profile); err != nil {
		return err
	}
	_, err = t.tx.Exec(ctx, `insert into profile_providers (profile_id, provider_id, credential_id)
		select $1, p, c from unnest($2::bigint[], $3::bigint[]) with ordinality as u (p, c, n) order by n`, profile, providers, credentials)
	return err
}
