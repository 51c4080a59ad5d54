package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// A plan is what applying a configuration does.
type plan struct {
	*change
	changes []*adminv1.Change
	prune   bool
}

func (p *plan) apply(ctx context.Context, c *adminv1.Configuration) error {
	if c.GetSettings() != nil {
		if err := p.applySettings(ctx, c.GetSettings()); err != nil {
			return within("configuration.settings", err)
		}
	}
	for _, x := range sections {
		if err := x.apply(ctx, p, c); err != nil {
			return err
		}
	}
	if !p.prune {
		return nil
	}
	for _, x := range slices.Backward(sections) {
		if err := p.pruneSection(ctx, x, c); err != nil {
			return within("configuration."+x.kind.Plural(), err)
		}
	}
	return p.noteDeleted()
}

func (p *plan) applySettings(ctx context.Context, wanted *adminv1.Settings) error {
	before, err := decodeSettings(p.Settings(ctx))
	if err != nil {
		return err
	}
	after := proto.CloneOf(before)
	if err := replace(after, wanted); err != nil {
		return err
	}
	if after.ClaimLifetime == nil {
		after.ClaimLifetime = before.ClaimLifetime
	}
	fields := differences(before, after)
	if len(fields) == 0 {
		return nil
	}
	if p.Role != logos.RoleRoot {
		return logos.Errorf(logos.Denied, "not_allowed", "only root changes them: leave them out, or as they are")
	}
	p.changes = append(p.changes, &adminv1.Change{Action: "update", Kind: "settings", Name: "settings", Fields: fields})
	return p.setSettings(ctx, after)
}

// applySection makes the resources of a kind what is given.
func applySection[M message](ctx context.Context, p *plan, r resource[M], names []string, wanted []M) error {
	seen := make(map[string]bool, len(wanted))
	for i, m := range wanted {
		path := "configuration." + item(r.kind.Plural(), i)
		if r.name != nil {
			if err := r.name(m); err != nil {
				return inside(path, err)
			}
		}
		if err := byName(m, names); err != nil {
			return inside(path, err)
		}
		name := nameOf(m, names)
		if seen[r.kind.Key(name)] {
			return invalid(path, "%q is there twice", name)
		}
		seen[r.kind.Key(name)] = true
		if err := applyOne(ctx, p, r, names, name, m); err != nil {
			return within(path, err)
		}
	}
	return nil
}

// byName refuses a declaration that names something by id, or not at all: ids are others elsewhere.
func byName(m proto.Message, names []string) error {
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); isTwin(f) && m.ProtoReflect().Has(f) {
			return invalid(string(f.Name()), "declarations name things: give %s instead", strings.TrimSuffix(string(f.Name()), "_id"))
		}
	}
	for _, n := range names {
		if textField(m, n) == "" && !mayLack(m, n) {
			return invalid(n, "must be given: it is what tells declarations apart")
		}
	}
	return nil
}

// mayLack says whether a part of what tells declarations apart may be empty.
func mayLack(m proto.Message, name string) bool {
	switch m := m.(type) {
	case *adminv1.Deployment:
		return name == "name"
	case *adminv1.Policy:
		level, err := logos.ParsePolicyLevel(m.GetLevel())
		return err == nil && name != "level" && name != "name" && !slices.Contains(ownerFields[level], name)
	}
	return false
}

func applyOne[M message](ctx context.Context, p *plan, r resource[M], names []string, name string, m M) error {
	if err := p.service.validate(m); err != nil {
		return err
	}
	by := store.Columns{}
	for _, n := range names {
		by[n] = textField(m, n)
	}
	doc, err := p.Declared(ctx, r.kind, by)
	if logos.KindOf(err) == logos.NotFound {
		if k, ok := any(m).(*adminv1.ApiKey); ok && k.GetSecret() == "" && k.GetSecretSha256() == "" {
			return invalid("secret", "an API key that is declared needs its secret, or its SHA-256: nobody would know one made here")
		}
		if _, err := r.add(ctx, p.change, m); err != nil {
			return err
		}
		p.changes = append(p.changes, &adminv1.Change{Action: "create", Kind: r.kind.Name, Name: name, Fields: differences(nil, m)})
		return nil
	}
	if err != nil {
		return err
	}
	before, err := decode[M](doc)
	if err != nil {
		return err
	}
	after := proto.CloneOf(before)
	if err := replace(after, m); err != nil {
		return err
	}
	if r.settle != nil {
		if err := r.settle(ctx, p.change, before, after); err != nil {
			return err
		}
	}
	fields := differences(before, after)
	if len(fields) == 0 {
		return nil
	}
	p.changes = append(p.changes, &adminv1.Change{Action: "update", Kind: r.kind.Name, Name: name, Fields: fields})
	return r.set(ctx, p.change, before, after)
}

// replace makes all of a message that can be changed what is wanted: what is not mentioned gets its default.
func replace(m, wanted proto.Message) error {
	mask, err := cleanMask(&fieldmaskpb.FieldMask{Paths: []string{"*"}}, m)
	if err == nil {
		merge(mask, m, wanted)
	}
	return err
}

// pruneSection deletes what is not mentioned, of kinds that are. API keys that work stay.
func (p *plan) pruneSection(ctx context.Context, x section, c *adminv1.Configuration) error {
	mentioned := mentionedIn(c, x)
	if len(mentioned) == 0 || x.kind == store.APIKeys {
		return nil
	}
	gone := make(map[int64]string)
	var ids []int64
	err := p.Each(ctx, x.kind, func(doc json.RawMessage) error {
		id, name, err := identify(doc, x.names)
		if err == nil && !mentioned[x.kind.Key(name)] {
			gone[id], ids = name, append(ids, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := p.pruneOne(ctx, x.kind, id); err != nil {
			return p.about(gone[id], err)
		}
	}
	return nil
}

func (p *plan) pruneOne(ctx context.Context, k *store.Kind, id int64) error {
	before := len(p.Deleted())
	if err := p.Delete(ctx, k, id); err != nil {
		return err
	}
	for _, x := range p.Deleted()[before:] {
		if x.Kind != store.APIKeys {
			continue
		}
		key, err := decode[*adminv1.ApiKey](x.Before)
		if err != nil {
			return err
		}
		if key.GetState() == "active" || key.GetState() == "unclaimed" {
			return logos.Errorf(logos.Conflict, "in_use", "the %s has API keys that work (%d): revoke them first, or mention it", k.Words(), key.GetId())
		}
	}
	return nil
}

// about says of which resource an error is that no field of the request stands for.
func (p *plan) about(name string, err error) error {
	if e, ok := errors.AsType[*logos.Error](err); ok {
		return logos.Errorf(e.Kind, e.Code, "%q is not mentioned, and can't be deleted: %s", name, e.Message)
	}
	return err
}

// noteDeleted adds what was deleted, with all that belonged to it, to the changes.
func (p *plan) noteDeleted() error {
	for _, gone := range p.Deleted() {
		i := slices.IndexFunc(sections, func(x section) bool { return x.kind == gone.Kind })
		_, name, err := identify(gone.Before, sections[i].names)
		if err != nil {
			return err
		}
		p.changes = append(p.changes, &adminv1.Change{Action: "delete", Kind: gone.Kind.Name, Name: name})
	}
	return nil
}

// identify returns the id and the name in a document.
func identify(doc json.RawMessage, names []string) (id int64, name string, err error) {
	var row map[string]any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&row); err != nil {
		return 0, "", fmt.Errorf("read a document: %w", err)
	}
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i], _ = row[n].(string)
	}
	number, _ := row["id"].(json.Number)
	id, err = number.Int64()
	return id, joinName(parts), err
}

// mentionedIn holds the names of the resources of a section in a configuration.
func mentionedIn(c *adminv1.Configuration, x section) map[string]bool {
	out := make(map[string]bool)
	list := c.ProtoReflect().Get(c.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(x.kind.Plural()))).List()
	for i := range list.Len() {
		out[x.kind.Key(nameOf(list.Get(i).Message().Interface(), x.names))] = true
	}
	return out
}

func nameOf(m proto.Message, names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = textField(m, n)
	}
	return joinName(parts)
}

// joinName writes the name of a declaration; owners that it does not have are left out.
func joinName(parts []string) string {
	last := len(parts) - 1
	owners := slices.DeleteFunc(slices.Clone(parts[:last]), func(part string) bool { return part == "" })
	return strings.Join(append(owners, parts[last]), "/")
}

func textField(m proto.Message, name string) string {
	f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
	return m.ProtoReflect().Get(f).String()
}
