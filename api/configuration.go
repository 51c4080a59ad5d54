package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// configurationServer reads and writes all resources at once.
type configurationServer struct {
	adminv1.UnimplementedConfigurationServiceServer
	*Service
}

// errDryRun ends a change that was made only to see what it does.
var errDryRun = errors.New("dry run")

// A section is the resources of one kind in a configuration.
type section struct {
	kind *store.Kind
	// names are the fields that tell the resources of the kind apart, the owner's first.
	names  []string
	export func(*adminv1.Configuration, json.RawMessage) error
	apply  func(context.Context, *plan, *adminv1.Configuration) error
}

// sections are in the order in which resources need one another.
var sections = []section{
	sectionOf(teams, []string{"name"}, func(c *adminv1.Configuration) *[]*adminv1.Team { return &c.Teams }),
	sectionOf(projects, []string{"name"}, func(c *adminv1.Configuration) *[]*adminv1.Project { return &c.Projects }),
	sectionOf(members, []string{"email"}, func(c *adminv1.Configuration) *[]*adminv1.Member { return &c.Members }),
	sectionOf(providers, []string{"name"}, func(c *adminv1.Configuration) *[]*adminv1.Provider { return &c.Providers }),
	sectionOf(credentials, []string{"provider", "name"}, func(c *adminv1.Configuration) *[]*adminv1.Credential { return &c.Credentials }),
	sectionOf(models, []string{"name"}, func(c *adminv1.Configuration) *[]*adminv1.Model { return &c.Models }),
	sectionOf(deployments, []string{"provider", "model", "name"}, func(c *adminv1.Configuration) *[]*adminv1.Deployment { return &c.Deployments }),
	sectionOf(accessProfiles, []string{"project", "name"}, func(c *adminv1.Configuration) *[]*adminv1.AccessProfile { return &c.AccessProfiles }),
	sectionOf(apiKeys, []string{"project", "name"}, func(c *adminv1.Configuration) *[]*adminv1.ApiKey { return &c.ApiKeys }),
}

func sectionOf[M message](r resource[M], names []string, of func(*adminv1.Configuration) *[]M) section {
	return section{
		kind: r.kind, names: names,
		export: func(c *adminv1.Configuration, doc json.RawMessage) error {
			m, err := decode[M](doc)
			if err != nil {
				return err
			}
			declare(m)
			*of(c) = append(*of(c), m)
			return nil
		},
		apply: func(ctx context.Context, p *plan, c *adminv1.Configuration) error {
			return applySection(ctx, p, r, names, *of(c))
		},
	}
}

// declare leaves of a message what declares it: no ids, no times.
func declare(m proto.Message) {
	reflected := m.ProtoReflect()
	fields := reflected.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); readOnly(f) || isTwin(f) {
			reflected.Clear(f)
		}
	}
}

// isTwin says whether a field is the id of what another field names.
func isTwin(f protoreflect.FieldDescriptor) bool {
	name, ok := strings.CutSuffix(string(f.Name()), "_id")
	return ok && f.ContainingMessage().Fields().ByName(protoreflect.Name(name)) != nil
}

func (s *configurationServer) ExportConfiguration(ctx context.Context, _ *adminv1.ExportConfigurationRequest) (*adminv1.Configuration, error) {
	out := &adminv1.Configuration{}
	err := s.store.View(ctx, func(ctx context.Context, v *store.View) error {
		settings, err := decodeSettings(v.Settings(ctx))
		if err != nil {
			return err
		}
		declare(settings)
		out.Settings = settings
		for _, x := range sections {
			if err := v.Each(ctx, x.kind, func(doc json.RawMessage) error { return x.export(out, doc) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.ApiKeys = slices.DeleteFunc(out.ApiKeys, func(k *adminv1.ApiKey) bool { return k.GetRole() == string(logos.RoleRoot) })
	return out, nil
}

// A plan is what applying a configuration does.
type plan struct {
	*change
	changes []*adminv1.Change
	prune   bool
}

func (s *configurationServer) ApplyConfiguration(ctx context.Context, r *adminv1.ApplyConfigurationRequest) (*adminv1.ApplyConfigurationResponse, error) {
	answer := &adminv1.ApplyConfigurationResponse{}
	err := s.do(ctx, func(ctx context.Context, c *change) error {
		p := &plan{change: c, prune: r.GetPrune()}
		if err := p.apply(ctx, r.GetConfiguration()); err != nil {
			return err
		}
		answer.Changes = p.changes
		if r.GetDryRun() || len(p.changes) == 0 {
			return errDryRun // nothing is kept, not even a revision
		}
		answer.Revision = c.Revision()
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return answer, err
}

func (p *plan) apply(ctx context.Context, c *adminv1.Configuration) error {
	if c.GetSettings() != nil {
		if err := p.applySettings(ctx, c.GetSettings()); err != nil {
			return at("configuration.settings", err)
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
			return err
		}
	}
	return nil
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
		return logos.Errorf(logos.Denied, "not_allowed", "settings: only root changes them: leave them out, or as they are")
	}
	p.changes = append(p.changes, &adminv1.Change{Action: "update", Kind: "settings", Name: "settings", Fields: fields})
	return p.setSettings(ctx, after)
}

// applySection makes the resources of a kind what is given.
func applySection[M message](ctx context.Context, p *plan, r resource[M], names []string, wanted []M) error {
	seen := make(map[string]bool, len(wanted))
	for i, m := range wanted {
		path := "configuration." + r.kind.Name + "s" + fmt.Sprintf("[%d]", i)
		name := nameOf(m, names)
		if seen[name] {
			return invalid(path, "%s is there twice", name)
		}
		seen[name] = true
		if err := applyOne(ctx, p, r, names, name, m); err != nil {
			return within(path+" ("+name+")", err)
		}
	}
	return nil
}

func applyOne[M message](ctx context.Context, p *plan, r resource[M], names []string, name string, m M) error {
	if err := p.service.validate(m); err != nil {
		return err
	}
	by := store.Columns{}
	for _, n := range names {
		by[n] = textField(m, n)
	}
	doc, err := p.Find(ctx, r.kind, store.Scope{}, by)
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

// pruneSection deletes what is not mentioned, of kinds that are. API keys stay.
func (p *plan) pruneSection(ctx context.Context, x section, c *adminv1.Configuration) error {
	mentioned := mentionedIn(c, x)
	if len(mentioned) == 0 || x.kind == store.APIKeys {
		return nil
	}
	var gone []int64
	var names []string
	err := p.Each(ctx, x.kind, func(doc json.RawMessage) error {
		var row map[string]any
		if err := json.Unmarshal(doc, &row); err != nil {
			return err
		}
		parts := make([]string, len(x.names))
		for i, n := range x.names {
			parts[i], _ = row[n].(string)
		}
		if name := strings.Join(parts, "/"); !mentioned[name] {
			id, _ := row["id"].(float64)
			gone, names = append(gone, int64(id)), append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, id := range gone {
		if err := p.Audited(ctx, x.kind, id, func(ctx context.Context) error { return p.Delete(ctx, x.kind, id) }); err != nil {
			return within(x.kind.Name+" "+names[i], err)
		}
		p.changes = append(p.changes, &adminv1.Change{Action: "delete", Kind: x.kind.Name, Name: names[i]})
	}
	return nil
}

// mentionedIn holds the names of the resources of a section in a configuration.
func mentionedIn(c *adminv1.Configuration, x section) map[string]bool {
	out := make(map[string]bool)
	list := c.ProtoReflect().Get(c.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(x.kind.Name + "s"))).List()
	for i := range list.Len() {
		out[nameOf(list.Get(i).Message().Interface(), x.names)] = true
	}
	return out
}

func nameOf(m proto.Message, names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = textField(m, n)
	}
	return strings.Join(parts, "/")
}

func textField(m proto.Message, name string) string {
	f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
	return m.ProtoReflect().Get(f).String()
}

const masked = `"***"`

// differences lists the fields that differ; before nil: all that are set.
func differences(before, after proto.Message) (out []*adminv1.FieldChange) {
	fields := after.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if readOnly(f) || isTwin(f) {
			continue
		}
		x := &adminv1.FieldChange{Field: string(f.Name()), After: fieldJSON(after, f)}
		if before != nil {
			x.Before = fieldJSON(before, f)
		}
		if x.Before == x.After {
			continue
		}
		if secretField(f) {
			x.Before, x.After = "", masked
		}
		out = append(out, x)
	}
	return out
}

// fieldJSON is the JSON of one field; "" where it is not set.
func fieldJSON(m proto.Message, f protoreflect.FieldDescriptor) string {
	if !m.ProtoReflect().Has(f) {
		return ""
	}
	one := m.ProtoReflect().New()
	one.Set(f, m.ProtoReflect().Get(f))
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(one.Interface())
	if err != nil {
		return ""
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(text, &parts) != nil {
		return ""
	}
	return string(parts[string(f.Name())])
}
