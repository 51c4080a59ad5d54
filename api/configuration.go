package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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
	sectionOf(prices, []string{"name"}, func(c *adminv1.Configuration) *[]*adminv1.Price { return &c.Prices }),
	sectionOf(accessProfiles, []string{"project", "name"}, func(c *adminv1.Configuration) *[]*adminv1.AccessProfile { return &c.AccessProfiles }),
	sectionOf(apiKeys, []string{"project", "name"}, func(c *adminv1.Configuration) *[]*adminv1.ApiKey { return &c.ApiKeys }),
	sectionOf(budgets, []string{"name"}, func(c *adminv1.Configuration) *[]*adminv1.Budget { return &c.Budgets }),
	sectionOf(policies, []string{"level", "team", "project", "access_profile", "api_key", "name"}, func(c *adminv1.Configuration) *[]*adminv1.Policy { return &c.Policies }),
}

func sectionOf[M message](r resource[M], names []string, of func(*adminv1.Configuration) *[]M) section {
	return section{
		kind: r.kind, names: names,
		export: func(c *adminv1.Configuration, doc json.RawMessage) error {
			m, err := decode[M](doc)
			if err != nil {
				return err
			}
			if k, ok := any(m).(*adminv1.ApiKey); ok && !declarable(k) {
				return nil
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

// declarable says whether a key is one to declare elsewhere: it works, or will when it is claimed. Root keys
// are made by setting up.
func declarable(k *adminv1.ApiKey) bool {
	unusable := k.GetAccessProfileId() != 0 && k.GetAccessProfile() == "" // its profile was deleted
	return k.GetRole() != string(logos.RoleRoot) && !unusable && (k.GetState() == "active" || k.GetState() == "unclaimed")
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
	return out, nil
}

func (s *configurationServer) ApplyConfiguration(ctx context.Context, r *adminv1.ApplyConfigurationRequest) (*adminv1.ApplyConfigurationResponse, error) {
	answer := &adminv1.ApplyConfigurationResponse{}
	err := s.do(ctx, func(ctx context.Context, c *change) error {
		p := &plan{change: c, prune: r.GetPrune()}
		if err := p.apply(ctx, r.GetConfiguration()); err != nil {
			return err
		}
		answer.Changes = p.changes
		if err := errors.Join(c.touchesNobodyAbove(ctx), c.KeepRoot(ctx)); err != nil {
			return err
		}
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
