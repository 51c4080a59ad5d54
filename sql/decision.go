package store

import (
	"context"
	"fmt"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// DecisionNames is what the ids in a decision are called now, also of what was deleted.
type DecisionNames struct {
	Models      map[logos.ModelID]string
	Providers   map[logos.ProviderID]string
	Policies    map[logos.PolicyID]string
	Deployments map[logos.DeploymentID]DeploymentName
}

// A DeploymentName is what a deployment is told apart by.
type DeploymentName struct{ Provider, Model, Name string }

// DecisionNames looks the names in a decision up.
func (s *Store) DecisionNames(ctx context.Context, d *logos.Decision) (*DecisionNames, error) {
	var of db.DecisionNamesParams
	for _, t := range d.Targets {
		of.Models, of.Providers = append(of.Models, int64(t.Model)), append(of.Providers, int64(t.Provider))
	}
	for _, c := range d.Candidates {
		of.Deployments = append(of.Deployments, int64(c.Deployment))
	}
	if d.Facts != nil {
		for _, p := range d.Facts.Policies {
			of.Policies = append(of.Policies, int64(p.ID))
		}
	}
	rows, err := db.New(s.pool).DecisionNames(ctx, of)
	if err != nil {
		return nil, fmt.Errorf("look up the names in a decision: %w", err)
	}
	n := &DecisionNames{
		Models: make(map[logos.ModelID]string), Providers: make(map[logos.ProviderID]string), Policies: make(map[logos.PolicyID]string),
		Deployments: make(map[logos.DeploymentID]DeploymentName),
	}
	for _, x := range rows {
		switch x.Kind {
		case "model":
			n.Models[logos.ModelID(x.ID)] = x.Name
		case "provider":
			n.Providers[logos.ProviderID(x.ID)] = x.Name
		case "policy":
			n.Policies[logos.PolicyID(x.ID)] = x.Name
		default:
			n.Deployments[logos.DeploymentID(x.ID)] = DeploymentName{Provider: x.Provider, Model: x.Model, Name: x.Name}
		}
	}
	return n, nil
}
