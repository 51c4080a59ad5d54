package store

import (
	"context"
	"encoding/json"
	"fmt"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// readPolicies reads policies. One that can't be read, since a newer program wrote it, say, allows nothing
// where it stands; everything else goes on.
func (s *Store) readPolicies(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedPolicies(ctx, since)
	for i := range rows {
		x := &rows[i]
		if x.Gone {
			c.Gone.Policies = append(c.Gone.Policies, logos.PolicyID(x.ID))
			continue
		}
		p, err := s.readPolicy(x)
		if err != nil {
			return err
		}
		c.Policies = append(c.Policies, p)
	}
	return err
}

func (s *Store) readPolicy(x *db.ChangedPoliciesRow) (*logos.Policy, error) {
	p := &logos.Policy{ID: logos.PolicyID(x.ID), Name: x.Name, Revision: x.Revision, Owner: x.Owner, OnRequest: x.OnRequest}
	var err error
	if p.Level, err = logos.ParsePolicyLevel(x.Level); err != nil {
		return nil, fmt.Errorf("policy %d has an unknown level", x.ID) // whom it would be about can't be told
	}
	if p.Labels, err = labels("policy", x.ID, x.Labels); err != nil {
		return nil, err
	}
	if err := readSpec(x.Spec, p); err != nil {
		s.log.Error("a policy can't be read; it allows nothing", zap.Int64("policy", x.ID), zap.Int64("revision", x.Revision), zap.Error(err))
		return p.Closed(), nil
	}
	return p, nil
}

// ReadablePolicy refuses a policy that this program does not understand whole: to change it would lose what it
// does not.
func (t *Tx) ReadablePolicy(ctx context.Context, id logos.PolicyID) error {
	spec, err := t.q.PolicySpec(ctx, int64(id))
	if err != nil {
		return fmt.Errorf("read policy %d: %w", id, err)
	}
	if readSpec(spec, new(logos.Policy)) != nil {
		return logos.Errorf(logos.Conflict, "newer_policy", "a newer version of the gateway wrote this policy, and it holds what this one does not know: change it there, or delete it")
	}
	return nil
}

// StandingPolicies counts the policies of an owner that apply to calls which do not name them.
func (t *Tx) StandingPolicies(ctx context.Context, level logos.PolicyLevel, owner int64) (int64, error) {
	n, err := t.q.StandingPolicies(ctx, db.StandingPoliciesParams{Level: level.String(), Owner: owner})
	if err != nil {
		return 0, fmt.Errorf("count policies: %w", err)
	}
	return n, nil
}

// readMap decodes a JSON object; null is nil.
func readMap[V any](text []byte) (m map[string]V, err error) {
	if text == nil {
		return nil, nil
	}
	err = json.Unmarshal(text, &m)
	return m, err
}

// A taskMatcher is one of the settings' task matchers, as it is stored.
type taskMatcher struct {
	Name     string   `json:"name"`
	System   bool     `json:"system,omitempty"`
	Keywords []string `json:"keywords,omitempty"`
	Patterns []string `json:"patterns,omitempty"`
}

// TaskMatchers returns task matchers as they are stored.
func TaskMatchers(list []logos.TaskMatcher) (json.RawMessage, error) {
	out := make([]taskMatcher, len(list))
	for i, m := range list {
		out[i] = taskMatcher(m)
	}
	return json.Marshal(out)
}

// readMatchers decodes the settings' task matchers. Those that can't be read become one that can't be used, so
// that policies which depend on tasks do not count for less.
func (s *Store) readMatchers(text []byte) (out []logos.TaskMatcher) {
	var list []taskMatcher
	if err := json.Unmarshal(text, &list); err != nil {
		s.log.Error("the task matchers can't be read", zap.Error(err))
		return []logos.TaskMatcher{{}}
	}
	for _, m := range list {
		out = append(out, logos.TaskMatcher(m))
	}
	return out
}
