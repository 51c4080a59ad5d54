package api

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// A claimer hands an API key over to whoever has the token of its claim link, once.
type claimer interface {
	Claim(ctx context.Context, token string) (logos.Secret, error)
}

//go:embed claim.html
var claimHTML string

var claimTemplate = template.Must(template.New("claim").Parse(claimHTML))

// A claimView is what the page shows: the key, else why there is none, else a button.
type claimView struct {
	Key     string
	BaseURL string // of the data plane, for a client of OpenAI's
	Error   string
	Nonce   string // of the page's own style and script
}

// claimPage serves GET and POST /claim/{token}. Opening the link changes nothing, for mail programs open links
// to look at them; pressing the button makes the key, shows it, and uses the link up. base is where the data
// plane answers.
func claimPage(c claimer, base *url.URL, log *zap.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /claim/{token}", func(w http.ResponseWriter, _ *http.Request) {
		showClaim(w, http.StatusOK, claimView{}, log)
	})
	mux.HandleFunc("POST /claim/{token}", func(w http.ResponseWriter, r *http.Request) {
		source, _, _ := net.SplitHostPort(r.RemoteAddr)
		key, err := c.Claim(withCaller(r.Context(), &caller{method: "ClaimApiKey", source: source}), r.PathValue("token"))
		if err != nil {
			status, text := claimError(err, log)
			showClaim(w, status, claimView{Error: text}, log)
			return
		}
		showClaim(w, http.StatusOK, claimView{Key: string(key), BaseURL: clientURL(base, r.Host)}, log)
	})
	return mux
}

// claimError returns what the page says of an error. Nothing that is logged holds the link.
func claimError(err error, log *zap.Logger) (status int, text string) {
	if e, ok := errors.AsType[*logos.Error](err); ok {
		return dialect.Status(e.Kind), e.Message
	}
	log.Error("an API key could not be handed over", zap.Error(err))
	return http.StatusInternalServerError, "the gateway failed: try again, and tell its administrator if it goes on"
}

// showClaim writes the page. Nobody may keep it, frame it, or learn its address; it loads nothing.
func showClaim(w http.ResponseWriter, status int, v claimView, log *zap.Logger) {
	v.Nonce = rand.Text()
	var page bytes.Buffer
	if err := claimTemplate.Execute(&page, v); err != nil {
		log.Error("the claim page could not be made", zap.Error(err))
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+v.Nonce+"'; script-src 'nonce-"+v.Nonce+"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w)
}

// clientURL returns the base URL for a client: the data plane's, at the host of the page where the data
// plane's address means something on the gateway's own machine alone.
func clientURL(base *url.URL, pageHost string) string {
	u := *base
	u.Path = "/v1"
	name := (&url.URL{Host: pageHost}).Hostname()
	if ip, err := netip.ParseAddr(base.Hostname()); name != "" && (base.Hostname() == "" || err == nil && (ip.IsUnspecified() || ip.IsLoopback())) {
		u.Host = net.JoinHostPort(name, base.Port())
	}
	return u.String()
}
