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

	keys       []string // Logos keys presented, each once
	keyHeaders []string // the headers that hold them
	ownHeaders bool     // the caller sends provider headers of its own

	profile, policy, provider, user, session string
	probe                                    string // the ticket of one
	proxy                                    bool
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
		r.addKey(name, strings.TrimSpace(v))
	case "authorization":
		if key, ok := logos.HeaderKey(v); ok {
			r.addKey(name, key)
		} else {
			r.ownHeaders = true
		}
	case "x-api-key", "api-key":
		if strings.HasPrefix(v, logos.KeyPrefix) {
			r.addKey(name, v)
		} else {
			r.ownHeaders = true
		}
	case "x-goog-api-key":
		r.ownHeaders = true
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
	case ProbeHeader:
		r.probe = v
	case "x-logos-proxy", "proxy":
		r.proxy = v != "" && v != "0" && !strings.EqualFold(v, "false")
	}
}

func (r *request) addKey(header, key string) {
	r.keyHeaders = append(r.keyHeaders, header)
	for _, k := range r.keys {
		if k == key {
			return
		}
	}
	r.keys = append(r.keys, key)
}
