package api

import (
	"context"
	"slices"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// An Authenticator finds out who makes an administrative call.
type Authenticator interface {
	// Authenticate returns who presents a bearer token; a *logos.Error of kind Unauthenticated if nobody does.
	Authenticate(ctx context.Context, token string) (*store.Principal, error)
}

// byKey authenticates by API key, in the database itself: a key works, or works no more, with the next call.
type byKey struct{ store *store.Store }

func (a byKey) Authenticate(ctx context.Context, token string) (*store.Principal, error) {
	return a.store.Authenticate(ctx, token, time.Now())
}

// A caller is who makes the present call, and how far it may reach with its method.
type caller struct {
	store.Principal
	method, source, requestID string
	scope                     store.Scope
}

type callerKey struct{}

func withCaller(ctx context.Context, c *caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf returns who makes the call; nobody, who may do nothing, outside of calls.
func callerOf(ctx context.Context) *caller {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c
	}
	return &caller{scope: store.Scope{Nothing: true}}
}

// actorOf returns who makes the call, for the audit.
func actorOf(ctx context.Context) store.Actor {
	c := callerOf(ctx)
	return store.Actor{Method: c.method, Key: c.Key, Member: c.Member, Role: c.Role, Source: c.source, RequestID: c.requestID}
}

// authorize returns how far a principal may reach with a method.
func authorize(p *store.Principal, method string) (store.Scope, error) {
	column := slices.Index(roles, p.Role)
	reach := none
	if column >= 0 {
		reach = access[method][column]
	}
	switch reach {
	case all:
		return store.Scope{}, nil
	case team:
		if p.Team == 0 {
			// A viewer of no team is one of the whole installation.
			return store.Scope{Nothing: p.Role != logos.RoleViewer}, nil
		}
		return store.Scope{Team: int64(p.Team)}, nil
	case own:
		if p.Member != 0 {
			return store.Scope{Member: int64(p.Member)}, nil
		}
		return store.Scope{Project: int64(p.Project)}, nil
	}
	return store.Scope{}, logos.Errorf(logos.Denied, "not_allowed", "the role %q may not use %s: GET /admin/v1/whoami lists what it may", p.Role, method)
}

// methods lists what a role may use.
func methods(r logos.Role) (names []string) {
	column := slices.Index(roles, r)
	for name, spans := range access {
		if column >= 0 && spans[column] != none {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
