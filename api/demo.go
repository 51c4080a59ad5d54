package api

import (
	"context"
	"fmt"
	"net/url"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// demoName is the name of the demo's project, profile, provider and key.
const demoName = "demo"

// demoMethod stands in the audit for what the gateway does by itself for the demo.
const demoMethod = "demo"

// Demo seeds a database that is not set up with the demo provider, a model, a project and a key, and keeps
// the provider's base URL up to date. It returns the key that works: the one given if it is the project's,
// else a new one; "" if there is no demo, or somebody removed it.
func (s *Service) Demo(ctx context.Context, baseURL, model string, key logos.Secret) (logos.Secret, error) {
	ctx = withCaller(ctx, &caller{method: demoMethod})
	base, err := url.Parse(baseURL)
	if err != nil {
		return "", fmt.Errorf("demo provider: %w", err)
	}
	allow, err := s.vouch(ctx, base)
	if err != nil {
		return "", fmt.Errorf("demo provider: %w", err)
	}
	present, err := s.store.Demo(ctx)
	if err != nil {
		return "", fmt.Errorf("look for the demo: %w", err)
	}
	if present == nil {
		done, err := s.store.IsSetUp(ctx)
		if err != nil || done {
			return "", err
		}
		return s.addDemo(ctx, base, allow, model)
	}
	known, err := s.store.OwnsKey(ctx, present.Project, key)
	if err != nil || known && present.BaseURL == baseURL {
		return key, err
	}
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := allow(ctx, tx); err != nil {
			return err
		}
		if present.BaseURL != baseURL {
			if err := tx.SetProviderURL(ctx, present.Provider, baseURL); err != nil {
				return err
			}
		}
		if known {
			return nil
		}
		name, err := freeName(ctx, tx, present.Project)
		if err != nil {
			return err
		}
		key, err = tx.AddAPIKey(ctx, present.Project, logos.RoleService, name)
		return err
	})
	return key, err
}

// freeName is a name for another key of the demo; the one before may still work for whoever has it.
func freeName(ctx context.Context, tx *store.Tx, project logos.ProjectID) (string, error) {
	taken, err := tx.KeyNameTaken(ctx, int64(project), demoName, 0)
	if err != nil || !taken {
		return demoName, err
	}
	return fmt.Sprintf("%s-%d", demoName, tx.Revision()), nil
}

func (s *Service) addDemo(ctx context.Context, base *url.URL, allow func(context.Context, *store.Tx) error, model string) (key logos.Secret, err error) {
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := allow(ctx, tx); err != nil {
			return err
		}
		project, err := tx.AddProject(ctx, demoName, true)
		if err != nil {
			return err
		}
		profile, err := tx.AddProfile(ctx, project, demoName, false)
		if err != nil {
			return err
		}
		provider, err := tx.AddProvider(ctx, &logos.Provider{Name: demoName, BaseURL: base, Dialect: logos.DialectCompatible, AuthFormat: "{}"})
		if err != nil {
			return err
		}
		credential, err := tx.AddCredential(ctx, provider, "") // it wants none
		if err != nil {
			return err
		}
		if err := tx.GrantProvider(ctx, profile, provider, credential); err != nil {
			return err
		}
		id, err := tx.AddModel(ctx, model, "")
		if err != nil {
			return err
		}
		if _, err := tx.AddDeployment(ctx, id, provider); err != nil {
			return err
		}
		if _, _, err := tx.GrantModel(ctx, profile, id); err != nil {
			return err
		}
		key, err = tx.AddAPIKey(ctx, project, logos.RoleService, demoName)
		return err
	})
	return key, err
}
