package api

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// Names of what setup creates.
const (
	defaultProject = "default"
	defaultProfile = "default"
	rootKeyName    = "root"
)

const (
	maxName   = 256  // bytes
	maxSecret = 8192 // bytes
	maxURL    = 2048 // bytes
	maxHost   = 253  // bytes, of any name in the DNS; with more Envoy refuses the cluster, and is never ready
)

// A Service changes the configuration, for every face of the admin API. It checks what it is given and
// refuses with errors of the domain.
type Service struct {
	store *store.Store
	// inForce returns when this gateway uses a revision, or soon.
	inForce func(ctx context.Context, revision int64)
	// egress knows where providers may be.
	egress    *egress.Book
	validator protovalidate.Validator
}

// NewService makes a service. inForce returns when the gateway uses a revision, or after a bounded time.
func NewService(s *store.Store, inForce func(ctx context.Context, revision int64), where *egress.Book) *Service {
	return &Service{store: s, inForce: inForce, egress: where, validator: protovalidate.GlobalValidator}
}

// validate checks a message against the rules of its proto.
func (s *Service) validate(m proto.Message, options ...protovalidate.ValidationOption) error {
	err := s.validator.Validate(m, options...)
	if v, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return violations(v)
	}
	return err
}

// validateGiven checks the fields of a change that are set: the others stay as they are. Those that its mask
// does not name must be right, too.
func (s *Service) validateGiven(m proto.Message) error {
	return s.validate(m, protovalidate.WithFilter(protovalidate.FilterFunc(func(m protoreflect.Message, d protoreflect.Descriptor) bool {
		f, ok := d.(protoreflect.FieldDescriptor)
		return !ok || f.ContainingMessage() != m.Descriptor() || m.Has(f)
	})))
}

// change makes a change and returns when it is in force here, so that what it allows works at once.
func (s *Service) change(ctx context.Context, do func(context.Context, *store.Tx) error) error {
	revision, err := s.store.Change(ctx, actorOf(ctx), do)
	if err == nil {
		s.inForce(ctx, revision)
	}
	return err
}

// Setup makes the root key with its project and profile, which passes calls through to the first provider
// with the callers' own credentials. It works once.
func (s *Service) Setup(ctx context.Context, providerName, baseURL string) (key logos.Secret, err error) {
	p, err := provider(providerName, baseURL, "", "")
	if err != nil {
		return "", err
	}
	allow, err := s.vouch(ctx, p.BaseURL)
	if err != nil {
		return "", err
	}
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.MarkSetUp(ctx); err != nil {
			return err
		}
		if err := allow(ctx, tx); err != nil {
			return err
		}
		project, err := tx.AddProject(ctx, defaultProject, false)
		if err != nil {
			return err
		}
		profile, err := tx.AddProfile(ctx, project, defaultProfile, true)
		if err != nil {
			return err
		}
		provider, err := tx.AddProvider(ctx, p)
		if err != nil {
			return err
		}
		if err := tx.GrantProvider(ctx, profile, provider, 0); err != nil {
			return err
		}
		key, err = tx.AddAPIKey(ctx, project, logos.RoleRoot, rootKeyName)
		return err
	})
	return key, err
}

// AddProvider adds a provider with a credential, or a credential to a provider that is there.
func (s *Service) AddProvider(ctx context.Context, name, baseURL, authName, authFormat string, secret logos.Secret) (id logos.ProviderID, credential logos.CredentialID, err error) {
	if err := checkSecret("api_key", secret); err != nil {
		return 0, 0, err
	}
	p, err := provider(name, baseURL, authName, authFormat)
	if err != nil {
		return 0, 0, err
	}
	allow, err := s.vouch(ctx, p.BaseURL)
	if err != nil {
		return 0, 0, err
	}
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := allow(ctx, tx); err != nil {
			return err
		}
		if id, err = tx.AddProvider(ctx, p); err != nil {
			return err
		}
		credential, err = tx.AddCredential(ctx, id, secret)
		return err
	})
	return id, credential, err
}

// AddModel adds a model. endpoint is the relative path of the API that it is known by.
func (s *Service) AddModel(ctx context.Context, name, endpoint string) (id logos.ModelID, err error) {
	if err := checkName("name", name); err != nil {
		return 0, err
	}
	if err := checkEndpoint(endpoint); err != nil {
		return 0, err
	}
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		id, err = tx.AddModel(ctx, name, endpoint)
		return err
	})
	return id, err
}

// AddProfile adds an access profile to a project.
func (s *Service) AddProfile(ctx context.Context, project logos.ProjectID, name string) (id logos.ProfileID, err error) {
	if err := checkName("profile_name", name); err != nil {
		return 0, err
	}
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		id, err = tx.AddProfile(ctx, project, name, true)
		return err
	})
	return id, err
}

// ConnectProfileCredential lets a profile use a credential.
func (s *Service) ConnectProfileCredential(ctx context.Context, profile logos.ProfileID, credential logos.CredentialID) error {
	return s.change(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.GrantCredential(ctx, profile, credential) })
}

// ConnectProfileModel lets a profile use a model. first says that the project had none before, so that its
// calls go by model from now on.
func (s *Service) ConnectProfileModel(ctx context.Context, profile logos.ProfileID, model logos.ModelID) (grant int64, first bool, err error) {
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		grant, first, err = tx.GrantModel(ctx, profile, model)
		return err
	})
	return grant, first, err
}

// ConnectModelProvider makes a deployment of a model at a provider.
func (s *Service) ConnectModelProvider(ctx context.Context, model logos.ModelID, provider logos.ProviderID) (id logos.DeploymentID, err error) {
	err = s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		id, err = tx.AddDeployment(ctx, model, provider)
		return err
	})
	return id, err
}

// ConnectModelCredential gives a model's deployment at the credential's provider that credential.
func (s *Service) ConnectModelCredential(ctx context.Context, model logos.ModelID, credential logos.CredentialID) error {
	return s.change(ctx, func(ctx context.Context, tx *store.Tx) error {
		return tx.SetDeploymentCredential(ctx, model, credential)
	})
}

// vouch returns what allows the host of a base URL that root, or the gateway itself, adds: their word is
// enough, so nothing is left to do beside.
func (s *Service) vouch(ctx context.Context, base *url.URL) (allow func(context.Context, *store.Tx) error, err error) {
	p := logos.Provider{BaseURL: base}
	host, port := p.Address()
	needed, err := s.egress.Vouch(ctx, host, port)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *store.Tx) error {
		if !needed {
			return nil
		}
		return tx.AllowEgress(ctx, egress.Normal(host))
	}, nil
}

// provider checks what makes a provider, but where it is.
func provider(name, baseURL, authName, authFormat string) (*logos.Provider, error) {
	if err := checkName("provider_name", name); err != nil {
		return nil, err
	}
	base, err := parseBaseURL(baseURL)
	if err != nil {
		return nil, err
	}
	header, err := authHeader("auth_name", authName)
	if err != nil {
		return nil, err
	}
	if authFormat == "" {
		authFormat = "{}"
	}
	if err := checkAuthFormat(authFormat); err != nil {
		return nil, err
	}
	return &logos.Provider{Name: name, BaseURL: base, Dialect: guessDialect(name, base), AuthHeader: header, AuthFormat: authFormat}, nil
}

func checkAuthFormat(format string) error {
	if strings.Count(format, "{}") != 1 || len(format) > 256 || !printable(format) {
		return logos.Errorf(logos.Invalid, "invalid_auth_format", "auth_format must hold {} once, where the key goes: \"Bearer {}\" for OpenAI, \"{}\" for Azure")
	}
	return nil
}

// guessDialect reads a provider's dialect off its host, else off its name.
func guessDialect(name string, base *url.URL) logos.Dialect {
	host, name := strings.ToLower(base.Hostname()), strings.ToLower(name)
	for _, g := range []struct {
		dialect      logos.Dialect
		suffix, word string
	}{
		{logos.DialectAzure, ".azure.com", "azure"},
		{logos.DialectAnthropic, ".anthropic.com", "anthropic"},
		{logos.DialectGemini, "generativelanguage.googleapis.com", "gemini"},
		{logos.DialectOpenAI, "api.openai.com", ""},
	} {
		if strings.HasSuffix(host, g.suffix) || g.word != "" && strings.Contains(name, g.word) {
			return g.dialect
		}
	}
	return logos.DialectCompatible
}

// parseBaseURL checks the form of a provider's base URL.
func parseBaseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case text == "" || len(text) > maxURL || err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url must be an http or https URL, like https://api.openai.com/v1")
	case u.User != nil:
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url must hold no user or password: give the key as api_key")
	case len(u.Hostname()) > maxHost:
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url has a host name of more than %d bytes", maxHost)
	case strings.Contains(u.Hostname(), "%"):
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url must hold no zone: the address of a link is another on every machine")
	case oddNumber(u.Hostname()):
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url must write an IP address in its usual form, like 10.0.0.7")
	case u.Fragment != "" || !printable(text) || strings.ContainsAny(u.Host, " \\"):
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url must hold no fragment and no spaces")
	}
	p := logos.Provider{BaseURL: u}
	_, port := p.Address()
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return nil, logos.Errorf(logos.Invalid, "invalid_base_url", "base_url has no usable port")
	}
	return u, nil
}

// oddNumber says whether a host is an address in a form that only some resolvers take, like 127.1 or 0x7f000001.
func oddNumber(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := strings.ToLower(labels[len(labels)-1])
	return strings.HasPrefix(last, "0x") || last != "" && strings.Trim(last, "0123456789") == ""
}

// reservedHeaders can't carry a credential: HTTP, Envoy or Logos itself needs them.
var reservedHeaders = []string{"host", "connection", "content-length", "content-type", "transfer-encoding", "te", "upgrade", "accept-encoding", "x-request-id", "logos-key", "logos_key", "proxy"}

func authHeader(field, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	name = strings.ToLower(strings.TrimSpace(name))
	valid := name != "" && len(name) <= 128 && !slices.Contains(reservedHeaders, name)
	for _, r := range name {
		valid = valid && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	for _, prefix := range []string{"x-logos-", "x-envoy-", "x-forwarded-"} {
		valid = valid && !strings.HasPrefix(name, prefix)
	}
	if !valid {
		return "", logos.Errorf(logos.Invalid, "invalid_auth_name", "%s must be the name of a header for credentials, like authorization or api-key", field)
	}
	return name, nil
}

func checkSecret(field string, secret logos.Secret) error {
	if len(secret) > maxSecret || !printable(string(secret)) {
		return logos.Errorf(logos.Invalid, "invalid_api_key", "%s must be printable ASCII of at most %d bytes", field, maxSecret)
	}
	if strings.HasPrefix(string(secret), logos.KeyPrefix) {
		return logos.Errorf(logos.Invalid, "invalid_api_key", "%s is a key of Logos: give the provider's own key", field)
	}
	return nil
}

func checkName(field, name string) error {
	if name == "" || len(name) > maxName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return logos.Errorf(logos.Invalid, "invalid_name", "%s must be a text of 1 to %d bytes without control characters, odd spaces or spaces around it", field, maxName)
	}
	return nil
}

func checkEndpoint(endpoint string) error {
	path, _, _ := strings.Cut(endpoint, "?")
	bad := len(endpoint) > maxURL || !printable(endpoint) || strings.ContainsAny(endpoint, " \\#") || strings.Contains(endpoint, "://")
	for segment := range strings.SplitSeq(path, "/") {
		bad = bad || segment == "." || segment == ".."
	}
	if bad {
		return logos.Errorf(logos.Invalid, "invalid_endpoint", "endpoint must be a path relative to the provider's base URL, like chat/completions")
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// authenticate finds a key, in the database itself.
func (s *Service) authenticate(ctx context.Context, secret string) (*store.Principal, error) {
	return s.store.Authenticate(ctx, secret, time.Now())
}

// requireRoot checks that a key may administer.
func (s *Service) requireRoot(ctx context.Context, secret string) (*store.Principal, error) {
	p, err := s.authenticate(ctx, secret)
	if err == nil && p.Role != logos.RoleRoot {
		err = logos.Errorf(logos.Denied, "not_root", "this API key may call models and nothing else: use the root key")
	}
	return p, err
}
