package extproc

import (
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// forwarded holds the headers that decisions read, beside those that begin with x-logos-.
var forwarded = []string{
	":method", ":path", "x-request-id", "content-length", "upgrade", "anthropic-version", "proxy",
	"logos_key", "logos-key", "authorization", "x-api-key", "api-key", "x-goog-api-key",
}

// RequestHeaders returns the names of the headers that Envoy must send, beside all that begin with
// x-logos-; it keeps the others to itself.
func RequestHeaders() []string { return forwarded }

// A request is what the headers say.
type request struct {
	id            logos.CallID
	method, path  string
	route         dialect.Route
	contentLength int64 // -1: not given
	endStream     bool  // there is no body
	upgrade       bool
	anthropic     bool // the caller is an Anthropic client

	credentials []credential

	profile, policy, provider, user, session string
	proxy                                    bool
}

// A credential is what a header holds that may be an API key, or the caller's own for a provider.
type credential struct {
	header, value string
	claimed       bool // it can be for Logos alone, known or not
}

func readHeaders(m *extprocv3.HttpHeaders) request {
	r := request{contentLength: -1, endStream: m.GetEndOfStream()}
	for _, h := range m.GetHeaders().GetHeaders() {
		r.header(h.GetKey(), value(h))
	}
	r.route = dialect.ParsePath(r.path)
	return r
}

func value(h *corev3.HeaderValue) string {
	if raw := h.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return h.GetValue()
}

func (r *request) header(name, v string) {
	switch name {
	case ":method":
		r.method = v
	case ":path":
		r.path = v
	case "x-request-id":
		r.id = logos.CallID(v)
	case "content-length":
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			r.contentLength = n
		}
	case "upgrade":
		r.upgrade = true
	case "anthropic-version":
		r.anthropic = true
	case "logos_key", "logos-key":
		r.credentials = append(r.credentials, credential{name, strings.TrimSpace(v), true})
	case "authorization":
		key, _ := logos.HeaderKey(v) // none: a scheme that is not for Logos
		r.addCredential(name, key)
	case "x-api-key", "api-key", "x-goog-api-key":
		r.addCredential(name, strings.TrimSpace(v))
	case "x-logos-profile":
		r.profile = v
	case "x-logos-policy":
		r.policy = v
	case "x-logos-provider":
		r.provider = v
	case "x-logos-user":
		r.user = v
	case "x-logos-session":
		r.session = v
	case "x-logos-proxy", "proxy":
		r.proxy = v != "" && v != "0" && !strings.EqualFold(v, "false")
	}
}

// addCredential notes what the headers hold that providers know too.
func (r *request) addCredential(header, value string) {
	r.credentials = append(r.credentials, credential{header, value, strings.HasPrefix(value, logos.KeyPrefix)})
}
