package extproc

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

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
	probe                                    string // the ticket of one
	proxy                                    bool
}

// A credential is what a header holds that may be an API key, or the caller's own for a provider.
type credential struct {
	header, value string
	whole         string // of the header; the value may be a part of it
	claimed       bool   // it can be for Logos alone, known or not
}

// decode reads HttpHeaders. Nothing of it keeps the encoded bytes.
func (r *request) decode(raw []byte) error {
	r.contentLength = -1
	err := eachField(raw, func(n protowire.Number, v []byte) error {
		switch n {
		case 1: // headers, a HeaderMap
			return eachField(v, func(n protowire.Number, v []byte) error {
				if n == 1 { // headers, each a HeaderValue
					return r.decodeHeader(v)
				}
				return nil
			})
		case 3: // end_of_stream
			ends, _ := protowire.ConsumeVarint(v)
			r.endStream = ends != 0
		}
		return nil
	})
	r.route = dialect.ParsePath(r.path)
	return err
}

func (r *request) decodeHeader(raw []byte) error {
	var key, value, rawValue []byte
	err := eachField(raw, func(n protowire.Number, v []byte) error {
		switch n {
		case 1:
			key = v
		case 2:
			value = v
		case 3:
			rawValue = v
		}
		return nil
	})
	if len(rawValue) > 0 { // Envoy sends this one, for values that are not UTF-8
		value = rawValue
	}
	r.header(string(key), string(value))
	return err
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
		r.credentials = append(r.credentials, credential{name, strings.TrimSpace(v), v, true})
	case "authorization":
		key, _ := logos.HeaderKey(v) // none: a scheme that is not for Logos
		r.addCredential(name, key, v)
	case "x-api-key", "api-key", "x-goog-api-key":
		r.addCredential(name, strings.TrimSpace(v), v)
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

// addCredential notes what the headers hold that providers know too.
func (r *request) addCredential(header, value, whole string) {
	r.credentials = append(r.credentials, credential{header, value, whole, strings.HasPrefix(value, logos.KeyPrefix)})
}
