package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var apiKeys = resource[*adminv1.ApiKey]{
	kind:    store.APIKeys,
	columns: keyColumns,
	mayChange: func(ctx context.Context, before *adminv1.ApiKey) error {
		if before.GetState() == "revoked" {
			return logos.Errorf(logos.Conflict, "revoked", "the API key is revoked, for good: make another one")
		}
		return notAbove(ctx, "it", before.GetRole())
	},
	settle: func(ctx context.Context, c *change, before, after *adminv1.ApiKey) error {
		if after.GetRole() == "" {
			after.Role = before.GetRole()
		}
		if strings.EqualFold(after.GetMember(), before.GetMember()) {
			after.Member = before.GetMember()
		}
		if after.GetExpireTime().IsValid() {
			after.ExpireTime = timestamppb.New(after.GetExpireTime().AsTime().Truncate(time.Microsecond)) // as it is stored
		}
		settleScopes(after)
		return settleSecret(ctx, c, before, after)
	},
	shown: func(c *change, answer *adminv1.ApiKey) {
		if c.secret != "" {
			answer.Secret = proto.String(string(c.secret))
		}
	},
}

// settleScopes writes scopes as they are shown.
func settleScopes(m *adminv1.ApiKey) {
	if m.Scopes == nil {
		m.Scopes = &adminv1.Scopes{}
	}
	slices.Sort(m.Scopes.Models)
	for i, text := range m.Scopes.GetSourceCidrs() {
		if p, err := logos.ParseSource(text); err == nil {
			m.Scopes.SourceCidrs[i] = p.String()
		}
	}
}

// settleSecret leaves a declared secret out that the key has already.
func settleSecret(ctx context.Context, c *change, before, after *adminv1.ApiKey) error {
	if after.GetSecret() == "" && after.GetSecretSha256() == "" {
		return nil
	}
	known, err := c.SameKeySecret(ctx, logos.APIKeyID(before.GetId()), logos.Secret(after.GetSecret()), after.GetSecretSha256())
	if known {
		after.Secret, after.SecretSha256 = nil, nil
	}
	return err
}

func keyColumns(ctx context.Context, c *change, m, before *adminv1.ApiKey) (store.Columns, error) {
	owner, err := c.keyOwner(ctx, m, before)
	if err != nil {
		return nil, err
	}
	columns := store.Columns{
		"project_id": owner.project, "profile_id": orNull(owner.profile), "member_id": orNull(owner.member), "role": string(owner.role),
	}
	if err := c.keyName(ctx, columns, owner.project, m); err != nil {
		return nil, err
	}
	if err := c.keyExpiry(ctx, columns, m, before); err != nil {
		return nil, err
	}
	if err := c.keyScopes(ctx, columns, m.GetScopes()); err != nil {
		return nil, err
	}
	return columns, c.keySecret(ctx, columns, m, before)
}

// A keyOwner is whose an API key is, and what it stands for.
type keyOwner struct {
	project, profile, member int64
	role                     logos.Role
}

func (c *change) keyOwner(ctx context.Context, m, before *adminv1.ApiKey) (o keyOwner, err error) {
	if o.project, err = c.need(ctx, reference{
		kind: store.Projects, field: "project", id: m.GetProjectId(), name: m.GetProject(), kept: before.GetProjectId(),
	}); err != nil {
		return o, err
	}
	if err := same("project", before != nil, before.GetProjectId(), o.project); err != nil {
		return o, err
	}
	if o.profile, err = c.find(ctx, reference{
		kind: store.AccessProfiles, field: "access_profile", id: m.GetAccessProfileId(), name: m.GetAccessProfile(), kept: before.GetAccessProfileId(),
		within: store.Columns{"project_id": o.project},
	}); err != nil {
		return o, err
	}
	if o.member, err = c.find(ctx, reference{
		kind: store.Members, field: "member", id: m.GetMemberId(), name: m.GetMember(), called: "email", kept: before.GetMemberId(),
	}); err != nil {
		return o, err
	}
	if c.scope.Member != 0 { // a member's keys are its own
		if o.member != 0 && o.member != c.scope.Member {
			return o, invalid("member", "members make keys for themselves: leave it out")
		}
		o.member = c.scope.Member
	}
	if err := same("member", before != nil, before.GetMemberId(), o.member); err != nil {
		return o, err
	}
	o.role, err = c.keyRole(ctx, m, o)
	return o, err
}

// keyRole returns the role to store. That of a member's key is its member's, whatever is stored.
func (c *change) keyRole(ctx context.Context, m *adminv1.ApiKey, o keyOwner) (logos.Role, error) {
	role := logos.Role(m.GetRole())
	if o.member != 0 {
		doc, err := c.Get(ctx, store.Members, store.Scope{}, o.member)
		if err != nil {
			return "", err
		}
		member, err := decode[*adminv1.Member](doc)
		if err != nil {
			return "", err
		}
		if role != "" && string(role) != member.GetRole() {
			return "", invalid("role", "the key of a member has its member's role, %q: leave it out", member.GetRole())
		}
		role = logos.Role(member.GetRole())
	}
	if role == "" {
		role = logos.RoleService
	}
	if rank(role) > rank(c.Role) {
		return "", &fieldError{"role", logos.Errorf(logos.Denied, "role_too_high", "nobody gives a role above their own, which is %q", c.Role)}
	}
	return role, nil
}

func (c *change) keyName(ctx context.Context, columns store.Columns, project int64, m *adminv1.ApiKey) error {
	if m.GetName() == "" {
		return nil // the database makes one
	}
	if err := named("name", m.GetName()); err != nil {
		return err
	}
	taken, err := c.KeyNameTaken(ctx, project, m.GetName(), logos.APIKeyID(m.GetId()))
	if err == nil && taken {
		err = &fieldError{"name", logos.Errorf(logos.Exists, "exists", "the project has an API key with this name already")}
	}
	columns["name"] = m.GetName()
	return err
}

// keyExpiry sets when a key ends. Members are bound to their team's limits.
func (c *change) keyExpiry(ctx context.Context, columns store.Columns, m, before *adminv1.ApiKey) error {
	var expires *time.Time
	if m.GetExpireTime() != nil {
		if err := m.GetExpireTime().CheckValid(); err != nil {
			return invalid("expire_time", "must be a time like 2027-01-31T12:00:00Z")
		}
		t := m.GetExpireTime().AsTime()
		expires = &t
	}
	changed := before == nil || m.GetExpireTime().AsTime() != before.GetExpireTime().AsTime()
	if expires != nil && changed && !expires.After(time.Now()) {
		return invalid("expire_time", "is in the past: to end a key now, revoke it")
	}
	columns["expires_at"] = expires
	if c.scope.Member == 0 {
		return nil
	}
	has, limit, age, err := c.MemberKeys(ctx, logos.MemberID(c.scope.Member))
	if err != nil {
		return err
	}
	if (before == nil || before.GetState() == "expired") && has >= limit {
		return logos.Errorf(logos.Exhausted, "key_limit", "your team allows %d keys for each member, and you have %d: revoke one first", limit, has)
	}
	latest := time.Now().Add(age)
	switch {
	case expires == nil:
		columns["expires_at"] = latest
	case changed && expires.After(latest):
		return invalid("expire_time", "your team allows keys of at most %s: choose a time before %s", age, latest.UTC().Format(time.RFC3339))
	}
	return nil
}

func (c *change) keyScopes(ctx context.Context, columns store.Columns, s *adminv1.Scopes) error {
	models := []int64{}
	for i, name := range s.GetModels() {
		id, err := c.need(ctx, reference{kind: store.Models, field: item("scopes.models", i), name: name})
		if err != nil {
			return err
		}
		models = append(models, id)
	}
	ranges := []string{}
	for i, text := range s.GetSourceCidrs() {
		prefix, err := logos.ParseSource(text)
		if err != nil {
			return at(item("scopes.source_cidrs", i), err)
		}
		ranges = append(ranges, prefix.String())
	}
	columns["allowed_apis"], columns["allowed_models"], columns["allowed_cidrs"] = textArray(s.GetApis()), models, ranges
	return nil
}

// keySecret makes or takes the secret of a new key. That of a present one changes by rotation.
func (c *change) keySecret(ctx context.Context, columns store.Columns, m, before *adminv1.ApiKey) error {
	given := m.GetSecret() != "" || m.GetSecretSha256() != ""
	switch {
	case before != nil && given:
		return invalid("secret", "the secret of a key does not change: rotate the key")
	case before != nil:
		return nil
	case m.GetSecret() != "" && m.GetSecretSha256() != "":
		return invalid("secret_sha256", "give it, or the secret itself")
	case given && c.scope.Member != 0:
		return &fieldError{"secret", logos.Errorf(logos.Denied, "not_allowed", "existing secrets are brought along by admins and team owners: leave it out")}
	case m.GetSecretSha256() != "":
		return within("secret_sha256", c.ImportSHA256(ctx, columns, m.GetSecretSha256()))
	case m.GetSecret() != "":
		return within("secret", c.ImportSecret(ctx, columns, logos.Secret(m.GetSecret())))
	}
	c.secret = c.NewSecret(columns)
	return nil
}

type apiKeyServer struct {
	adminv1.UnimplementedApiKeyServiceServer
	*Service
}

func (s *apiKeyServer) GetApiKey(ctx context.Context, r *adminv1.GetApiKeyRequest) (*adminv1.ApiKey, error) {
	return get[*adminv1.ApiKey](ctx, s.Service, store.APIKeys, r.GetId())
}

func (s *apiKeyServer) ListApiKeys(ctx context.Context, r *adminv1.ListApiKeysRequest) (*adminv1.ListApiKeysResponse, error) {
	items, next, err := list[*adminv1.ApiKey](ctx, s.Service, store.APIKeys, r)
	return &adminv1.ListApiKeysResponse{ApiKeys: items, NextPageToken: next}, err
}

func (s *apiKeyServer) CreateApiKey(ctx context.Context, r *adminv1.CreateApiKeyRequest) (*adminv1.ApiKey, error) {
	return apiKeys.create(ctx, s.Service, r.GetApiKey(), r.GetRequestId())
}

func (s *apiKeyServer) UpdateApiKey(ctx context.Context, r *adminv1.UpdateApiKeyRequest) (*adminv1.ApiKey, error) {
	return apiKeys.update(ctx, s.Service, r.GetApiKey(), r.GetUpdateMask())
}

func (s *apiKeyServer) DeleteApiKey(ctx context.Context, r *adminv1.DeleteApiKeyRequest) (*adminv1.ApiKey, error) {
	return s.end(ctx, r.GetId(), r.GetEtag(), func(ctx context.Context, c *change) error {
		if err := c.Revoke(ctx, logos.APIKeyID(r.GetId())); err != nil {
			return err
		}
		return c.Delete(ctx, store.APIKeys, r.GetId())
	})
}

func (s *apiKeyServer) RevokeApiKey(ctx context.Context, r *adminv1.RevokeApiKeyRequest) (*adminv1.ApiKey, error) {
	return s.end(ctx, r.GetId(), r.GetEtag(), func(ctx context.Context, c *change) error {
		return c.Revoke(ctx, logos.APIKeyID(r.GetId()))
	})
}

// end ends a key, also one that is revoked already.
func (s *apiKeyServer) end(ctx context.Context, id int64, etag string, how func(context.Context, *change) error) (*adminv1.ApiKey, error) {
	ending := apiKeys
	ending.mayChange = func(ctx context.Context, before *adminv1.ApiKey) error { return notAbove(ctx, "it", before.GetRole()) }
	err := ending.act(ctx, s.Service, id, etag, func(ctx context.Context, c *change, _ *adminv1.ApiKey) error { return how(ctx, c) })
	if err != nil {
		return nil, err
	}
	return s.state(ctx, id)
}

func (s *apiKeyServer) state(ctx context.Context, id int64) (*adminv1.ApiKey, error) {
	doc, err := s.store.Get(ctx, store.APIKeys, store.Scope{}, id)
	if err != nil {
		return nil, err
	}
	return decode[*adminv1.ApiKey](doc)
}

func (s *apiKeyServer) RotateApiKey(ctx context.Context, r *adminv1.RotateApiKeyRequest) (*adminv1.ApiKey, error) {
	var secret logos.Secret
	err := apiKeys.act(ctx, s.Service, r.GetId(), r.GetEtag(), func(ctx context.Context, c *change, _ *adminv1.ApiKey) (err error) {
		secret, err = c.Rotate(ctx, logos.APIKeyID(r.GetId()), r.GetOverlap().AsDuration(), time.Now())
		return err
	})
	return s.withSecret(ctx, r.GetId(), secret, err)
}

// withSecret returns a key with its new secret.
func (s *apiKeyServer) withSecret(ctx context.Context, id int64, secret logos.Secret, err error) (*adminv1.ApiKey, error) {
	if err != nil {
		return nil, err
	}
	m, err := s.state(ctx, id)
	if err == nil {
		m.Secret = proto.String(string(secret))
	}
	return m, err
}

func (s *apiKeyServer) ClaimApiKey(ctx context.Context, r *adminv1.ClaimApiKeyRequest) (*adminv1.ApiKey, error) {
	id, secret, err := s.claim(ctx, logos.Secret(r.GetToken()))
	return s.withSecret(ctx, int64(id), secret, err)
}

// Claim hands the key of a claim link over, for the page.
func (s *Service) Claim(ctx context.Context, token string) (logos.Secret, error) {
	_, secret, err := s.claim(ctx, logos.Secret(token))
	return secret, err
}

func (s *Service) claim(ctx context.Context, token logos.Secret) (id logos.APIKeyID, secret logos.Secret, err error) {
	err = s.do(ctx, func(ctx context.Context, c *change) error {
		id, secret, err = c.Claim(ctx, token, time.Now())
		return err
	})
	return id, secret, err
}
