package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.einride.tech/aip/ordering"

	"github.com/ls1intum/edutelligence/logos"
)

// maxOrderTerms bounds what a list is ordered by, beside the id.
const maxOrderTerms = 3

// A Query is what a list shall hold.
type Query struct {
	Filter, OrderBy string
	Size            int    // of the page
	Token           string // of the page; empty: the first
	Deleted         bool   // deleted ones too
	declared        bool   // only those that a declaration can name
}

// A Page is a part of a list.
type Page struct {
	Documents []json.RawMessage
	Next      string // empty: it is the last
}

// A term is one expression that a list is ordered by.
type term struct {
	expr, as string // as: its SQL type
	desc     bool
}

var termTypes = map[fieldType]struct{ as, zero string }{
	integer: {"bigint", "0"}, text: {"text", "''"}, number: {"double precision", "0"}, moment: {"timestamptz", "'-infinity'"}, boolean: {"boolean", "false"},
}

// List returns a page of the resources of a kind that are within a scope.
func (s *Store) List(ctx context.Context, k *Kind, in Scope, q Query) (*Page, error) {
	return list(ctx, s.pool, k, in, q)
}

// List returns a page as the change sees it.
func (t *Tx) List(ctx context.Context, k *Kind, in Scope, q Query) (*Page, error) {
	return list(ctx, t.tx, k, in, q)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func list(ctx context.Context, db querier, k *Kind, in Scope, q Query) (*Page, error) {
	terms, err := k.terms(q.OrderBy)
	if err != nil {
		return nil, err
	}
	statement, args, err := k.listSQL(in, q, terms)
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.Plural(), err)
	}
	type row struct {
		Document json.RawMessage
		Values   []string
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return nil, q.refused(k, err)
	}
	page := &Page{}
	for i, r := range found {
		if i == q.Size {
			page.Next = cursor{Query: q.digest(k), Values: found[i-1].Values}.token()
			break
		}
		page.Documents = append(page.Documents, r.Document)
	}
	return page, nil
}

// refused tells values in a query that the database can't read from failures.
func (q Query) refused(k *Kind, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, "22") { // data exceptions
		if q.Token != "" {
			return errBadToken
		}
		return badFilter("it holds a value that can't be compared")
	}
	return fmt.Errorf("list %s: %w", k.Plural(), err)
}

var errBadToken = logos.Errorf(logos.Invalid, "invalid_page_token", "it is none of this list: take next_page_token of the page before, with the same filter and order_by")

// listSQL returns the statement of a page. Postgres makes documents, which cost, after it has ordered and
// limited the rows.
func (k *Kind) listSQL(in Scope, q Query, terms []term) (string, []any, error) {
	var args arguments
	conditions := k.confine(in, &args)
	if !k.bare && !q.Deleted {
		conditions = append(conditions, "r.deleted_at is null")
	}
	if q.declared && k.declared != "" {
		conditions = append(conditions, "("+k.declared+")")
	}
	filter, err := k.filterSQL(q.Filter, &args)
	if err != nil {
		return "", nil, err
	}
	if filter != "" {
		conditions = append(conditions, filter)
	}
	if q.Token != "" {
		c, err := parseToken(q.Token)
		if err != nil || c.Query != q.digest(k) || len(c.Values) != len(terms) {
			return "", nil, errBadToken
		}
		conditions = append(conditions, after(terms, c.Values, &args))
	}
	where := ""
	if len(conditions) > 0 {
		where = " where " + strings.Join(conditions, " and ")
	}
	order, values := make([]string, len(terms)), make([]string, len(terms))
	for i, t := range terms {
		order[i] = t.expr + map[bool]string{true: " desc", false: ""}[t.desc]
		values[i] = "(" + t.expr + ")::text"
	}
	return fmt.Sprintf("select %s, array[%s] from %s%s order by %s limit %s",
		k.document(), strings.Join(values, ", "), k.source(), where, strings.Join(order, ", "), args.add(q.Size+1)), args, nil
}

// confine returns the conditions of a scope.
func (k *Kind) confine(in Scope, args *arguments) (conditions []string) {
	if in.Nothing {
		return []string{"false"}
	}
	for _, c := range []struct {
		id        int64
		condition string
	}{{in.Team, k.within.team}, {in.Project, k.within.project}, {in.Member, k.within.member}} {
		switch {
		case c.id == 0:
		case c.condition == "":
			conditions = append(conditions, "false")
		default:
			conditions = append(conditions, "("+strings.ReplaceAll(c.condition, "@", args.add(c.id))+")")
		}
	}
	return conditions
}

// terms returns what a list is ordered by; the last one is unique.
func (k *Kind) terms(orderBy string) ([]term, error) {
	var by ordering.OrderBy
	if err := by.UnmarshalString(orderBy); err != nil || len(by.Fields) > maxOrderTerms {
		return nil, logos.Errorf(logos.Invalid, "invalid_order_by", "it must be at most %d fields, like \"name desc, id\"; fields: %s", maxOrderTerms, strings.Join(k.orderable(), ", "))
	}
	var terms []term
	for _, f := range by.Fields {
		i := slices.IndexFunc(k.all(), func(x field) bool { return x.name == f.Path })
		if i < 0 || termTypes[k.all()[i].is].as == "" {
			return nil, logos.Errorf(logos.Invalid, "invalid_order_by", "%.64q is no field by which %s are ordered; fields: %s", f.Path, words(k.Plural()), strings.Join(k.orderable(), ", "))
		}
		x, t := k.all()[i], termTypes[k.all()[i].is]
		terms = append(terms, term{expr: "coalesce(" + x.expr + ", " + t.zero + ")", as: t.as, desc: f.Desc})
	}
	return append(terms, k.key()...), nil
}

func (k *Kind) orderable() (names []string) {
	for _, f := range k.all() {
		if termTypes[f.is].as != "" {
			names = append(names, f.name)
		}
	}
	return names
}

// key is the order of a kind that needs no sorting.
func (k *Kind) key() []term {
	if k.order != nil {
		return k.order
	}
	return []term{{expr: "r.id", as: "bigint"}}
}

// after is the condition of the rows behind those with the given values. Where all terms have one
// direction it compares rows, which an index serves from there on.
func after(terms []term, values []string, args *arguments) string {
	exprs, places := make([]string, len(terms)), make([]string, len(terms))
	oneWay := true
	for i, t := range terms {
		exprs[i], places[i] = t.expr, args.add(values[i])+"::text::"+t.as
		oneWay = oneWay && t.desc == terms[0].desc
	}
	if oneWay {
		return "(" + strings.Join(exprs, ", ") + ") " + beyond(terms[0]) + " (" + strings.Join(places, ", ") + ")"
	}
	var either []string
	same := ""
	for i, t := range terms {
		either = append(either, "("+same+exprs[i]+" "+beyond(t)+" "+places[i]+")")
		same += exprs[i] + " = " + places[i] + " and "
	}
	return "(" + strings.Join(either, " or ") + ")"
}

func beyond(t term) string { return map[bool]string{true: "<", false: ">"}[t.desc] }

// A cursor is where a page ends.
type cursor struct {
	Query  string   `json:"q"`
	Values []string `json:"v"`
}

func (c cursor) token() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make some characters six
	if err := e.Encode(c); err != nil {
		panic(err) // texts
	}
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}

func parseToken(token string) (c cursor, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	return c, err
}

// digest tells queries apart.
func (q Query) digest(k *Kind) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%t", k.Name, q.Filter, q.OrderBy, q.Deleted))
	return hex.EncodeToString(sum[:8])
}
