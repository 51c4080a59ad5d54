package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// A reference is a resource that another names, by id or by what it is called.
type reference struct {
	kind   *store.Kind
	field  string // of the message, without _id
	id     int64
	name   string
	called string        // the field that name is; empty: name
	within store.Columns // what else it must have, e.g. the project of a profile
	kept   int64         // what the resource refers to already: that may lie outside what the caller may reach
}

// find returns the id of what a message refers to; 0 if it refers to nothing. What the caller may not see
// can't be referred to.
func (c *change) find(ctx context.Context, r reference) (int64, error) {
	if r.id == 0 && r.name == "" {
		return 0, nil
	}
	by := store.Columns{}
	path := r.field
	if r.id != 0 {
		by["id"], path = r.id, r.field+"_id"
	}
	if r.name != "" {
		called := r.called
		if called == "" {
			called = "name"
		}
		by[called] = r.name
	}
	for name, v := range r.within {
		by[name] = v
	}
	scope := c.scope
	if r.kept != 0 && r.id == r.kept {
		scope = store.Scope{}
	}
	doc, err := c.Find(ctx, r.kind, scope, by)
	if logos.KindOf(err) == logos.NotFound {
		return 0, invalid(path, "%s", r.missing())
	}
	if err != nil {
		return 0, err
	}
	var found struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(doc, &found); err != nil {
		return 0, errors.Join(errInternal, err)
	}
	return found.ID, nil
}

// missing says what there is none of.
func (r reference) missing() string {
	what := r.kind.Words()
	for _, owner := range slices.Sorted(maps.Keys(r.within)) {
		what += " of that " + strings.ReplaceAll(strings.TrimSuffix(owner, "_id"), "_", " ")
	}
	if r.id != 0 && r.name != "" {
		return "there is no " + what + " with both that id and that name, or you may not use it: give one of the two"
	}
	return "there is no such " + what + ", or you may not use it"
}

// need is find for a reference that must be given.
func (c *change) need(ctx context.Context, r reference) (int64, error) {
	id, err := c.find(ctx, r)
	if err == nil && id == 0 {
		return 0, invalid(r.field, "must be given, by name, or by id as %s_id", r.field)
	}
	return id, err
}

// same refuses to move a resource that is there to another owner.
func same(field string, there bool, present, wanted int64) error {
	if there && present != wanted {
		return invalid(field, "it stays what it was when the resource was made: make another one")
	}
	return nil
}

// orNull is null for 0.
func orNull(id int64) *int64 {
	if id == 0 {
		return nil
	}
	return &id
}

// item is the path of an element of a list.
func item(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
