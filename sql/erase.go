package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// eraseBatch bounds the rows that one transaction changes or deletes, and so how long it keeps others from
// them.
const eraseBatch = 1000

// EraseEndUser removes an end user of a project, given as callers send it, from the records: the pseudonym and
// the sessions of its calls, which otherwise stay as they are, its counters of budgets, and lines of access logs that were kept aside
// with it. It returns of how many calls. Each batch is one audit event, which does not repeat the user.
//
// Calls that are not recorded yet keep the pseudonym: make it again when they are. So do access logs and
// intents on the gateways' disks until they are deleted, which is after at most a day, and backups.
func (s *Store) EraseEndUser(ctx context.Context, actor Actor, project logos.ProjectID, user string) (calls int64, err error) {
	pseudonym := s.hasher.EndUser(project, user)
	if pseudonym == "" {
		return 0, logos.Errorf(logos.Invalid, "invalid_user", "the user to erase is empty")
	}
	id := int64(project)
	event := erasure(actor, Projects)
	event.ResourceID, event.ProjectID = id, &id
	var since time.Time
	calls, err = s.erase(ctx, event, func(ctx context.Context, q *db.Queries) (int, error) {
		if err := q.EraseUnknownLines(ctx, []byte(pseudonym)); err != nil {
			return 0, err
		}
		if err := q.EraseCounters(ctx, "end_user:"+pseudonym); err != nil {
			return 0, err
		}
		starts, err := q.EraseEndUser(ctx, db.EraseEndUserParams{ProjectID: id, EndUser: pseudonym, Since: since, Most: eraseBatch})
		for _, at := range starts {
			if at.After(since) {
				since = at
			}
		}
		return len(starts), err
	})
	if err != nil {
		return calls, fmt.Errorf("erase an end user: %w", err)
	}
	return calls, nil
}

// EraseSourceAddress removes an address from the audit, where alone it is kept, and returns from how many
// events. The erasure is an event itself, which does not repeat the address.
func (s *Store) EraseSourceAddress(ctx context.Context, actor Actor, address netip.Addr) (events int64, err error) {
	if !address.IsValid() {
		return 0, logos.Errorf(logos.Invalid, "invalid_address", "the address to erase is none: give an IPv4 or IPv6 address")
	}
	texts := []string{address.String(), address.Unmap().String(), netip.AddrFrom16(address.As16()).String()}
	var after int64
	events, err = s.erase(ctx, erasure(actor, settings), func(ctx context.Context, q *db.Queries) (int, error) {
		ids, err := q.EraseSource(ctx, db.EraseSourceParams{Sources: texts, After: after, Most: eraseBatch})
		for _, id := range ids {
			after = max(after, id)
		}
		return len(ids), err
	})
	if err != nil {
		return events, fmt.Errorf("erase a source address: %w", err)
	}
	return events, nil
}

// erasure is the audit event of an erasure, without what is erased.
func erasure(a Actor, k *Kind) db.AuditErasureParams {
	return db.AuditErasureParams{
		Method: a.Method, Kind: k.Name, ApiKeyID: int64(a.Key), MemberID: int64(a.Member), Role: string(a.Role), Source: a.Source, RequestID: a.RequestID,
	}
}

// erase calls batch, in transactions of its own, until it changes less than a whole one, and adds an audit
// event to each.
func (s *Store) erase(ctx context.Context, event db.AuditErasureParams, batch func(context.Context, *db.Queries) (int, error)) (total int64, err error) {
	for n := eraseBatch; n == eraseBatch; total += int64(n) {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			q := db.New(tx)
			if err := q.AllowErasing(ctx); err != nil {
				return err
			}
			var err error
			if n, err = batch(ctx, q); err != nil {
				return err
			}
			event.Erased = int64(n)
			return q.AuditErasure(ctx, event)
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
