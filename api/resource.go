package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// message is a resource's message.
type message interface {
	proto.Message
	comparable
	GetId() int64
	GetEtag() string
	GetLabels() map[string]string
}

// A resource says how a message of the admin API is stored.
type resource[M message] struct {
	kind *store.Kind
	// columns returns the values of a message to be stored. before is the present state; nil: it is new.
	columns func(ctx context.Context, c *change, m, before M) (store.Columns, error)
	// also stores what is not in the resource's own row; nil: nothing.
	also func(ctx context.Context, c *change, id int64, m M) error
	// mayChange refuses changes that depend on the resource's state; nil: none.
	mayChange func(ctx context.Context, before M) error
	// settle makes a wanted state comparable with the present one, where a declaration may say a thing in
	// several ways; nil: it says it in one.
	settle func(ctx context.Context, c *change, before, after M) error
	// name gives one that a declaration leaves without a name the one that it would get; nil: it must have one.
	name func(m M) error
	// shown adds what the answer to a creation shows beside the document; nil: nothing.
	shown func(c *change, answer M)
}

// A change is the transaction of one call.
type change struct {
	*store.Tx
	service *Service
	*caller
	// secret is one that the call has made, to be shown once.
	secret logos.Secret
}

// do makes a change and returns when it is in force here.
func (s *Service) do(ctx context.Context, f func(context.Context, *change) error) error {
	return s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		c := &change{Tx: tx, service: s, caller: callerOf(ctx)}
		if err := f(ctx, c); err != nil {
			return err
		}
		return c.touchesNobodyAbove(ctx)
	})
}

// touchesNobodyAbove refuses a change that reaches, by whatever way, keys or members above the caller's role.
func (c *change) touchesNobodyAbove(ctx context.Context) error {
	if public[c.method] {
		return nil
	}
	for _, k := range []*store.Kind{store.APIKeys, store.Members} {
		for _, doc := range c.Before(k) {
			var x struct {
				ID   int64  `json:"id"`
				Role string `json:"role"`
			}
			if err := json.Unmarshal(doc, &x); err != nil {
				return fmt.Errorf("read a document: %w", err)
			}
			if err := notAbove(ctx, k.Words()+" "+strconv.FormatInt(x.ID, 10), x.Role); err != nil {
				return err
			}
		}
	}
	return nil
}

var unmarshal = protojson.UnmarshalOptions{DiscardUnknown: true}

// decode makes a message of a document.
func decode[M proto.Message](doc json.RawMessage) (M, error) {
	var zero M
	m := zero.ProtoReflect().New().Interface().(M)
	if err := unmarshal.Unmarshal(doc, m); err != nil {
		return m, fmt.Errorf("decode a document: %w", err)
	}
	return m, nil
}

// get returns a resource that the caller may see.
func get[M message](ctx context.Context, s *Service, k *store.Kind, id int64) (m M, err error) {
	doc, err := s.store.Get(ctx, k, callerOf(ctx).scope, id)
	if err != nil {
		return m, err
	}
	return decode[M](doc)
}

type listRequest interface {
	GetPageSize() int32
	GetPageToken() string
	GetFilter() string
}

const defaultPage = 50

// list returns a page of the resources that the caller may see.
func list[M proto.Message](ctx context.Context, s *Service, k *store.Kind, r listRequest) (items []M, next string, err error) {
	q := store.Query{Filter: r.GetFilter(), Size: int(r.GetPageSize()), Token: r.GetPageToken()}
	if q.Size == 0 {
		q.Size = defaultPage
	}
	if o, ok := r.(interface{ GetOrderBy() string }); ok {
		q.OrderBy = o.GetOrderBy()
	}
	if d, ok := r.(interface{ GetShowDeleted() bool }); ok {
		q.Deleted = d.GetShowDeleted()
	}
	page, err := s.store.List(ctx, k, callerOf(ctx).scope, q)
	if err != nil {
		return nil, "", aboutList(err)
	}
	for _, doc := range page.Documents {
		m, err := decode[M](doc)
		if err != nil {
			return nil, "", err
		}
		items = append(items, m)
	}
	return items, page.Next, nil
}

// aboutList says which field of a list's request is wrong.
func aboutList(err error) error {
	if e, ok := errors.AsType[*logos.Error](err); ok {
		if field, ok := strings.CutPrefix(e.Code, "invalid_"); ok {
			return &fieldError{field, e}
		}
	}
	return err
}

// create adds a resource. A request id that was seen before gets the first answer, without its secret.
func (r resource[M]) create(ctx context.Context, s *Service, m M, requestID string) (answer M, err error) {
	again := store.Repeat{RequestID: requestID, Digest: digest(m)}
	err = s.do(ctx, func(ctx context.Context, c *change) error {
		if err := c.repeated(ctx, again); err != nil {
			return err
		}
		id, err := r.add(ctx, c, m)
		if err != nil {
			return inside(r.kind.Name, err)
		}
		doc, err := c.Get(ctx, r.kind, store.Scope{}, id)
		if err != nil {
			return err
		}
		if answer, err = decode[M](doc); err != nil {
			return err
		}
		if r.shown != nil {
			r.shown(c, answer)
		}
		return c.Remember(ctx, again, doc)
	})
	if first, ok := store.AsRepeated(err); ok {
		return decode[M](first)
	}
	return answer, err
}

// repeated ends the change of a request that was made before.
func (c *change) repeated(ctx context.Context, r store.Repeat) error {
	err := c.Repeated(ctx, r)
	if e, ok := errors.AsType[*logos.Error](err); ok {
		return &fieldError{"request_id", e}
	}
	return err
}

// add adds a resource within a change.
func (r resource[M]) add(ctx context.Context, c *change, m M) (id int64, err error) {
	var none M
	columns, err := r.columns(ctx, c, m, none)
	if err != nil {
		return 0, err
	}
	columns["labels"] = labels(m)
	if id, err = c.Insert(ctx, r.kind, columns); err != nil {
		return 0, err
	}
	if r.also != nil {
		if err := r.also(ctx, c, id, m); err != nil {
			return 0, err
		}
	}
	return id, c.Created(ctx, r.kind, id)
}

// update changes the fields of a resource that the mask names.
func (r resource[M]) update(ctx context.Context, s *Service, m M, mask *fieldmaskpb.FieldMask) (answer M, err error) {
	if m.GetId() == 0 {
		return answer, invalid(r.kind.Name+".id", "must be the id of the %s to change", r.kind.Words())
	}
	if mask, err = cleanMask(mask, m); err != nil {
		return answer, err
	}
	if err := s.validateGiven(m); err != nil {
		return answer, inside(r.kind.Name, err)
	}
	err = s.do(ctx, func(ctx context.Context, c *change) error {
		doc, err := c.Get(ctx, r.kind, c.scope, m.GetId())
		if err != nil {
			return err
		}
		before, err := decode[M](doc)
		if err != nil {
			return err
		}
		if err := sameEtag(m.GetEtag(), before.GetEtag()); err != nil {
			return err
		}
		after := proto.CloneOf(before)
		merge(mask, after, m)
		if err := r.set(ctx, c, before, after); err != nil {
			return inside(r.kind.Name, err)
		}
		if doc, err = c.Get(ctx, r.kind, store.Scope{}, m.GetId()); err != nil {
			return err
		}
		answer, err = decode[M](doc)
		return err
	})
	return answer, err
}

// set makes a resource what is given, within a change.
func (r resource[M]) set(ctx context.Context, c *change, before, after M) error {
	if err := c.service.validate(after); err != nil {
		return err
	}
	if r.mayChange != nil {
		if err := r.mayChange(ctx, before); err != nil {
			return err
		}
	}
	columns, err := r.columns(ctx, c, after, before)
	if err != nil {
		return err
	}
	columns["labels"] = labels(after)
	return c.Audited(ctx, r.kind, before.GetId(), func(ctx context.Context) error {
		if err := c.Tx.Update(ctx, r.kind, before.GetId(), columns); err != nil {
			return err
		}
		if r.also == nil {
			return nil
		}
		return r.also(ctx, c, before.GetId(), after)
	})
}

// remove deletes a resource and returns its last state.
func (r resource[M]) remove(ctx context.Context, s *Service, id int64, etag string) (answer M, err error) {
	err = r.act(ctx, s, id, etag, func(ctx context.Context, c *change, _ M) error { return c.Delete(ctx, r.kind, id) })
	if err != nil {
		return answer, err
	}
	doc, err := s.store.Get(ctx, r.kind, store.Scope{}, id)
	if err != nil {
		return answer, err
	}
	return decode[M](doc)
}

// act does something to a resource that the caller may change.
func (r resource[M]) act(ctx context.Context, s *Service, id int64, etag string, f func(context.Context, *change, M) error) error {
	return s.do(ctx, func(ctx context.Context, c *change) error {
		doc, err := c.Get(ctx, r.kind, c.scope, id)
		if err != nil {
			return err
		}
		before, err := decode[M](doc)
		if err != nil {
			return err
		}
		if err := sameEtag(etag, before.GetEtag()); err != nil {
			return err
		}
		if r.mayChange != nil {
			if err := r.mayChange(ctx, before); err != nil {
				return err
			}
		}
		return c.Audited(ctx, r.kind, id, func(ctx context.Context) error { return f(ctx, c, before) })
	})
}

func sameEtag(given, present string) error {
	if given != "" && given != present {
		return &fieldError{"etag", logos.Errorf(logos.Conflict, "etag_mismatch", "somebody else changed it meanwhile; its etag is %s now: read it again, and repeat the change", present)}
	}
	return nil
}

func labels(m interface{ GetLabels() map[string]string }) map[string]string {
	if l := m.GetLabels(); l != nil {
		return l
	}
	return map[string]string{}
}

func digest(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil // an unencodable message fails where it is stored
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
