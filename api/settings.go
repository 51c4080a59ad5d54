package api

import (
	"context"
	"encoding/json"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
	"github.com/ls1intum/edutelligence/logos/sql"
)

type settingsServer struct {
	adminv1.UnimplementedSettingsServiceServer
	*Service
}

func (s *settingsServer) GetSettings(ctx context.Context, _ *adminv1.GetSettingsRequest) (*adminv1.Settings, error) {
	if callerOf(ctx).scope != (store.Scope{}) {
		return nil, errNotForTeams
	}
	doc, err := s.store.Settings(ctx)
	return decodeSettings(doc, err)
}

func decodeSettings(doc json.RawMessage, err error) (*adminv1.Settings, error) {
	if err != nil {
		return nil, err
	}
	return decode[*adminv1.Settings](doc)
}

func (s *settingsServer) UpdateSettings(ctx context.Context, r *adminv1.UpdateSettingsRequest) (answer *adminv1.Settings, err error) {
	if r.GetSettings() == nil {
		return nil, invalid("settings", "must be given")
	}
	mask, err := cleanMask(r.GetUpdateMask(), r.GetSettings())
	if err != nil {
		return nil, err
	}
	err = s.do(ctx, func(ctx context.Context, c *change) error {
		before, err := decodeSettings(c.Settings(ctx))
		if err != nil {
			return err
		}
		if err := sameEtag(r.GetSettings().GetEtag(), before.GetEtag()); err != nil {
			return err
		}
		after := proto.CloneOf(before)
		merge(mask, after, r.GetSettings())
		if err := c.setSettings(ctx, after); err != nil {
			return inside("settings", err)
		}
		answer, err = decodeSettings(c.Settings(ctx))
		return err
	})
	return answer, err
}

func (c *change) setSettings(ctx context.Context, m *adminv1.Settings) error {
	if err := c.service.validate(m); err != nil {
		return err
	}
	if err := wholeSeconds("claim_lifetime", m.GetClaimLifetime()); err != nil {
		return err
	}
	for i, text := range m.GetEgressCidrs() {
		if _, err := egress.Parse(nil, []string{text}); err != nil {
			return at(item("egress_cidrs", i), err)
		}
	}
	for i, host := range m.GetEgressHosts() {
		if _, err := egress.Parse([]string{host}, nil); err != nil {
			return at(item("egress_hosts", i), err)
		}
	}
	matchers, err := taskMatchers(m.GetTaskMatchers())
	if err != nil {
		return err
	}
	return c.UpdateSettings(ctx, store.Columns{
		"task_matchers": matchers,
		"egress_hosts":  textArray(m.GetEgressHosts()), "egress_cidrs": textArray(m.GetEgressCidrs()),
		"call_retention_days": m.GetCallRetentionDays(), "audit_retention_days": m.GetAuditRetentionDays(),
		"unknown_line_retention_days": m.GetUnknownLineRetentionDays(), "claim_lifetime_s": m.GetClaimLifetime().GetSeconds(),
	})
}

// taskMatchers checks task matchers and returns them as they are stored.
func taskMatchers(list []*adminv1.TaskMatcher) (json.RawMessage, error) {
	out := make([]logos.TaskMatcher, len(list))
	for i, m := range list {
		out[i] = logos.TaskMatcher{Name: m.GetName(), System: m.GetSystem(), Keywords: m.GetKeywords(), Patterns: m.GetPatterns()}
		if _, err := signals.New(out[i : i+1]); err != nil {
			return nil, at(item("task_matchers", i), err)
		}
	}
	if _, err := signals.New(out); err != nil {
		return nil, at("task_matchers", err)
	}
	return store.TaskMatchers(out)
}

func (s *settingsServer) EraseEndUser(ctx context.Context, r *adminv1.EraseEndUserRequest) (*adminv1.EraseEndUserResponse, error) {
	if _, err := s.store.Get(ctx, store.Projects, store.Scope{}, r.GetProjectId()); err != nil {
		return nil, err
	}
	n, err := s.store.EraseEndUser(ctx, actorOf(ctx), logos.ProjectID(r.GetProjectId()), r.GetUser())
	return &adminv1.EraseEndUserResponse{Calls: n}, err
}

func (s *settingsServer) EraseSourceAddress(ctx context.Context, r *adminv1.EraseSourceAddressRequest) (*adminv1.EraseSourceAddressResponse, error) {
	address, err := netip.ParseAddr(r.GetAddress())
	if err != nil {
		return nil, invalid("address", "must be an IPv4 or IPv6 address")
	}
	n, err := s.store.EraseSourceAddress(ctx, actorOf(ctx), address)
	return &adminv1.EraseSourceAddressResponse{AuditEvents: n}, err
}
