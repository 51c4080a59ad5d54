package probe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/egress"
)

// maxWords bounds what is told of a provider's or Envoy's own words, in bytes.
const maxWords = 300

// A verdict is reached from all that is known of a call.
type verdict struct {
	target   *logos.Target
	question dialect.Question
	model    string
	where    egress.Finding
	answer   answer
	record   *logos.Call // nil: not needed, or there is none
}

// reach says what failed first. An error means that the call did not get as far as the provider's door.
func (v *verdict) reach() (outcome, error) {
	switch {
	case v.record != nil && len(v.record.Attempts) == 0:
		return outcome{}, v.gatewayFailed()
	case v.ours():
		return v.envoy()
	case v.answer.late:
		return v.fail(Timeout, "it did not answer in time: check whether it is overloaded, or still loads the model")
	case v.answer.broken != nil:
		return v.fail(Provider, "its answer broke off, or is larger than %d bytes", maxAnswer)
	case v.answer.status >= http.StatusMultipleChoices:
		return v.provider()
	}
	return v.answered()
}

// ours says whether the answer is Envoy's own, in the place of one of the provider.
func (v *verdict) ours() bool {
	if v.record != nil {
		return v.record.Attempts[0].Status == 0
	}
	_, requestID := readError(v.answer.body)
	return v.answer.status >= http.StatusBadRequest && requestID != "" && requestID == string(v.answer.id)
}

func (v *verdict) fail(f Failure, format string, args ...any) (outcome, error) {
	return outcome{Result: Result{Failed: f, Status: v.status(), Message: fmt.Sprintf(format, args...)}}, nil
}

// status is the provider's, not what Envoy answers in its place.
func (v *verdict) status() int {
	if v.ours() {
		return 0
	}
	return v.answer.status
}

func (v *verdict) gatewayFailed() error {
	e, _ := readError(v.answer.body)
	if e.Message == "" {
		e.Message = "the gateway did not send the call: see /readyz, and try again"
	}
	return logos.Errorf(logos.Unavailable, "gateway_unavailable", "%s", e.Message)
}

// envoy reads Envoy's words: response flags, and the reason of a transport's failure.
func (v *verdict) envoy() (outcome, error) {
	host, port := v.target.Provider.Address()
	flags, why, late := v.trace()
	switch {
	case strings.Contains(why, "TLS_error"):
		return v.fail(TLS, "%s:%s %s", host, port, v.tls(host, why))
	case strings.Contains(flags, "UF"):
		return v.fail(Connect, "%s:%s at %s can't be connected to%s: check the port of the base URL, that the provider runs, and that no firewall is between", host, port, addresses(v.where.Addresses), v.words(strings.ReplaceAll(why, "_", " ")))
	case late:
		return v.fail(Timeout, "%s:%s did not answer in time: check whether it is overloaded, or still loads the model", host, port)
	case flags != "":
		return v.fail(Provider, "%s:%s took the call and gave no answer in HTTP%s: check that it is the port of the API", host, port, v.words(flags+" "+why))
	}
	return outcome{}, v.gatewayFailed()
}

// trace returns what the record of the call, or Envoy's answer where there is no record, tells of its attempt.
func (v *verdict) trace() (flags, why string, late bool) {
	if v.record != nil {
		flags, why, _ = strings.Cut(v.record.Attempts[0].Detail, " ")
		return flags, why, v.record.End == logos.EndTimeout
	}
	switch e, _ := readError(v.answer.body); e.Code {
	case "upstream_timeout":
		return "", "", true
	case "upstream_unavailable":
		return "UF", "", false // most often
	}
	return "", "", false
}

// tls says what is wrong with TLS, in the terms of who can mend it.
func (v *verdict) tls(host, detail string) string {
	lower := strings.ToLower(detail)
	switch {
	case strings.Contains(lower, "wrong_version_number"):
		return "does not speak TLS: write http:// in the base URL, or another port"
	case strings.Contains(lower, "san"):
		return fmt.Sprintf("has a certificate that is not for %s: use the name that the certificate has", host)
	case strings.Contains(lower, "expired"):
		return "has a certificate that has expired"
	case strings.Contains(lower, "certificate_verify_failed"), strings.Contains(lower, "self"), strings.Contains(lower, "issuer"):
		return "has a certificate that no trusted authority has signed" + v.words(detail) + ": add its authority to the file that LOGOS_CA_FILE names"
	}
	return "fails in TLS" + v.words(detail)
}

// provider reads the provider's own refusal.
func (v *verdict) provider() (outcome, error) {
	e, _ := readError(v.answer.body)
	said := v.words(e.Message)
	text := strings.ToLower(e.Code + " " + e.Type + " " + e.Message)
	path, _, _ := strings.Cut(v.question.Path, "?")
	aboutModel := v.model != "" && (strings.Contains(text, "model") || strings.Contains(text, "deployment"))
	switch status := v.answer.status; {
	case status < http.StatusBadRequest:
		return v.fail(Path, "%s is redirected, which calls do not follow: check the base URL and its scheme", path)
	case v.model != "" && strings.Contains(text, "output limit was reached"):
		return v.answered() // a model that thinks before it speaks took the one token for that
	case strings.Contains(text, "http request") && strings.Contains(text, "https"):
		return v.fail(TLS, "the port speaks TLS: write https:// in the base URL")
	case status == http.StatusUnauthorized, status == http.StatusForbidden && !aboutModel:
		return v.fail(Auth, "the credential is refused%s: check the key, and the provider's auth_header (%s) and auth_format (%s)", said, orNone(v.target.Provider.AuthHeader), v.target.Provider.AuthFormat)
	case status == http.StatusTooManyRequests:
		return v.fail(RateLimit, "the provider takes no more calls for now, or the account has no quota%s", said)
	case status >= http.StatusInternalServerError:
		return v.fail(Provider, "the provider fails with status %d%s", status, said)
	case aboutModel:
		return v.fail(Model, "the provider has no model %q for this credential%s: :discover lists those that it has", v.model, said)
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return v.fail(Path, "there is no API at %s%s: check the path of the base URL, and the endpoint of the model", path, said)
	}
	return v.fail(Provider, "the provider refuses the call with status %d%s", v.answer.status, said)
}

// answered checks that what looks like success is an answer of the API that was asked.
func (v *verdict) answered() (outcome, error) {
	path, _, _ := strings.Cut(v.question.Path, "?")
	if v.model != "" {
		var object map[string]json.RawMessage
		if json.Unmarshal(v.answer.body, &object) != nil {
			return v.fail(Path, "what is at %s is no API of models, since its answer is no JSON object: check the path of the base URL", path)
		}
		return outcome{Result: Result{Status: v.answer.status, Message: fmt.Sprintf("the model %q answers", v.model)}}, nil
	}
	names, next, err := dialect.ReadModels(v.target.Provider.Dialect, v.answer.body)
	if err != nil {
		return v.fail(Path, "what is at %s is no list of models: check the path of the base URL", path)
	}
	return outcome{Result: Result{Status: v.answer.status, Message: "the provider lists its models"}, models: names, next: next}, nil
}

// readError reads an error in the shapes that providers, and this gateway, have for it.
func readError(body []byte) (e logos.CallError, requestID string) {
	var shape struct {
		Error   json.RawMessage
		Message string
		Detail  json.RawMessage
	}
	if json.Unmarshal(body, &shape) != nil {
		return logos.CallError{Message: string(body)}, ""
	}
	var inner struct {
		Code      json.RawMessage
		Type      string
		Message   string
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(shape.Error, &inner) == nil && inner.Message != "" {
		return logos.CallError{Code: text(inner.Code), Type: inner.Type, Message: inner.Message}, inner.RequestID
	}
	for _, m := range []string{text(shape.Error), shape.Message, text(shape.Detail)} {
		if m != "" {
			return logos.CallError{Message: m}, ""
		}
	}
	return logos.CallError{}, ""
}

func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s) // what is no text is not shown
	return s
}

// words quotes what somebody else wrote, in one line and not too much of it; "" if there is nothing. Some
// providers repeat the credential, which is left out.
func (v *verdict) words(s string) string {
	if c := v.target.Credential; c != nil && c.Secret != "" {
		s = strings.ReplaceAll(s, string(c.Secret), c.Secret.String())
	}
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if s == "" {
		return ""
	}
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "…"
	}
	return " (" + s + ")"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
