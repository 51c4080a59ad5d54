package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// maxRequest bounds a body of the admin port, in bytes.
const maxRequest = 1 << 20

// A setupCall is one of the ten calls below /logosdb. It returns what is answered with 200.
type setupCall func(ctx context.Context, f *fields) (map[string]any, error)

// logosdb serves the set-up calls of the original Logos, whose shapes are fixed.
func (h *handler) logosdb(mux *http.ServeMux) {
	mux.HandleFunc("POST /logosdb/setup", func(w http.ResponseWriter, r *http.Request) {
		h.answer(w, r, func(ctx context.Context, f *fields) (map[string]any, error) { return h.setup(ctx, r, f) })
	})
	for name, call := range map[string]setupCall{
		"add_provider": h.addProvider, "add_model": h.addModel, "add_profile": h.addProfile, "get_api_id": h.getAPIID,
		"connect_process_provider": h.connectProcessProvider, "connect_process_model": h.connectProcessModel,
		"connect_model_provider": h.connectModelProvider, "connect_model_api": h.connectModelAPI,
	} {
		mux.HandleFunc("POST /logosdb/"+name, func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, h.root(call)) })
	}
	mux.HandleFunc("POST /logosdb/get_process_id", func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, h.getProcessID) })
	mux.HandleFunc("GET /logosdb/get_process_id", func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, h.getProcessID) })
	mux.HandleFunc("GET /logosdb/get_api_id", func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, h.root(h.getAPIID)) })
	mux.HandleFunc("/logosdb/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "there is no "+r.Method+" "+r.URL.Path)
	})
}

// answer reads the fields, makes the call and writes its outcome.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, call setupCall) {
	f, err := readFields(w, r)
	var out map[string]any
	if err == nil {
		out, err = call(r.Context(), f)
	}
	if err == nil {
		writeJSON(w, http.StatusOK, out)
		return
	}
	if e, ok := errors.AsType[*logos.Error](err); ok {
		writeError(w, setupStatus(e), e.Message)
		return
	}
	h.log.Error("a set-up call failed", zap.String("path", r.URL.Path), zap.Error(err))
	writeError(w, http.StatusInternalServerError, "the gateway failed: see its log")
}

// setupStatus tells malformed JSON (400) from JSON with the wrong content (422).
func setupStatus(e *logos.Error) int {
	if e.Kind == logos.Invalid && e.Code != "invalid_json" {
		return http.StatusUnprocessableEntity
	}
	return dialect.Status(e.Kind)
}

func (h *handler) root(call setupCall) setupCall {
	return func(ctx context.Context, f *fields) (map[string]any, error) {
		if _, err := h.service.requireRoot(ctx, f.key()); err != nil {
			return nil, err
		}
		return call(ctx, f)
	}
}

// setupHeader carries the set-up token.
const setupHeader = "X-Logos-Setup-Token"

func (h *handler) setup(ctx context.Context, r *http.Request, f *fields) (map[string]any, error) {
	name, base := f.text("provider_name"), f.text("base_url")
	if f.err != nil {
		return nil, f.err
	}
	if !h.fromHere(r) && !h.token.matches(r.Header.Get(setupHeader)) {
		return nil, logos.Errorf(logos.Denied, "setup_not_allowed", "setup is answered to this machine alone, or with the set-up token that the gateway logs at its start, in the header %s", setupHeader)
	}
	key, err := h.service.Setup(ctx, name, base)
	if err != nil {
		return nil, err
	}
	return map[string]any{"logos-key": string(key)}, nil
}

// fromHere says whether a request comes from this machine, from no browser and through no proxy.
func (h *handler) fromHere(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() || r.Header.Get("Origin") != "" {
		return false
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Envoy-") || name == "Forwarded" || name == "Via" || name == "X-Real-Ip" {
			return false
		}
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.IsLoopback()
}

func (h *handler) addProvider(ctx context.Context, f *fields) (map[string]any, error) {
	name, base, key := f.text("provider_name"), f.text("base_url"), f.given("api_key")
	authName, authFormat := f.text("auth_name"), f.text("auth_format")
	if f.err != nil {
		return nil, f.err
	}
	provider, credential, err := h.service.AddProvider(ctx, name, base, authName, authFormat, logos.Secret(key))
	return map[string]any{"result": "Created Provider.", "provider-id": provider, "api-id": credential}, err
}

func (h *handler) addModel(ctx context.Context, f *fields) (map[string]any, error) {
	name, endpoint := f.text("name"), f.given("endpoint")
	if f.err != nil {
		return nil, f.err
	}
	id, err := h.service.AddModel(ctx, name, endpoint)
	return map[string]any{"result": "Created Model", "model_id": id}, err
}

func (h *handler) addProfile(ctx context.Context, f *fields) (map[string]any, error) {
	name, project := f.text("profile_name"), f.id("process_id")
	if f.err != nil {
		return nil, f.err
	}
	id, err := h.service.AddProfile(ctx, logos.ProjectID(project), name)
	return map[string]any{"result": "Added profile", "profile-id": id}, err
}

func (h *handler) getProcessID(ctx context.Context, f *fields) (map[string]any, error) {
	k, err := h.service.authenticate(ctx, f.key())
	if err != nil {
		return nil, err
	}
	return map[string]any{"result": k.ProjectID}, nil
}

func (h *handler) getAPIID(ctx context.Context, f *fields) (map[string]any, error) {
	key := f.text("api_key")
	if f.err != nil {
		return nil, f.err
	}
	id, err := h.service.store.CredentialID(ctx, logos.Secret(key))
	return map[string]any{"result": "API-ID: " + logos.FormatID(id), "api-id": id}, err
}

func (h *handler) connectProcessProvider(ctx context.Context, f *fields) (map[string]any, error) {
	profile, credential := f.id("profile_id"), f.id("api_id")
	if f.err != nil {
		return nil, f.err
	}
	err := h.service.ConnectProfileCredential(ctx, logos.ProfileID(profile), logos.CredentialID(credential))
	return map[string]any{"result": "Added connection to api."}, err
}

func (h *handler) connectProcessModel(ctx context.Context, f *fields) (map[string]any, error) {
	profile, model := f.id("profile_id"), f.id("model_id")
	if f.err != nil {
		return nil, f.err
	}
	id, first, err := h.service.ConnectProfileModel(ctx, logos.ProfileID(profile), logos.ModelID(model))
	out := map[string]any{"result": "Connected process to model. ID: " + strconv.FormatInt(id, 10)}
	if first {
		out["note"] = "This is the first model of this process: its calls now go by model. Pass-through stays allowed with the header x-logos-proxy: true."
	}
	return out, err
}

func (h *handler) connectModelProvider(ctx context.Context, f *fields) (map[string]any, error) {
	model, provider := f.id("model_id"), f.id("provider_id")
	if f.err != nil {
		return nil, f.err
	}
	id, err := h.service.ConnectModelProvider(ctx, logos.ModelID(model), logos.ProviderID(provider))
	return map[string]any{"result": "Connected Model to Provider. ID: " + logos.FormatID(id) + "."}, err
}

func (h *handler) connectModelAPI(ctx context.Context, f *fields) (map[string]any, error) {
	model, credential := f.id("model_id"), f.id("api_id")
	if f.err != nil {
		return nil, f.err
	}
	err := h.service.ConnectModelCredential(ctx, logos.ModelID(model), logos.CredentialID(credential))
	return map[string]any{"result": "Added api-connection to model."}, err
}

// fields is the body of a set-up call, or its headers on GET. The first field that is missing or of a wrong type is kept in err.
type fields struct {
	values map[string]json.RawMessage
	header http.Header
	err    error
}

func readFields(w http.ResponseWriter, r *http.Request) (*fields, error) {
	f := &fields{values: make(map[string]json.RawMessage)}
	if r.Method == http.MethodGet {
		f.header = r.Header
		return f, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, logos.Errorf(logos.Invalid, "invalid_json", "the body must be JSON, with the header Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, logos.Errorf(logos.TooLarge, "request_too_large", "the body is larger than %d bytes, or broke off", maxRequest)
	}
	if err := json.Unmarshal(body, &f.values); err != nil || f.values == nil {
		return nil, logos.Errorf(logos.Invalid, "invalid_json", "the body is not a JSON object")
	}
	return f, nil
}

// key returns the caller's Logos key: from the body, or from a header on GET.
func (f *fields) key() string {
	return f.optional("logos_key")
}

func (f *fields) refuse(name, want string) {
	if f.err == nil {
		f.err = logos.Errorf(logos.Invalid, "invalid_field", "the field %s must be %s", name, want)
	}
}

// text returns a field that must be there and not empty.
func (f *fields) text(name string) string {
	s := f.optional(name)
	if s == "" {
		f.refuse(name, "a text that is not empty")
	}
	return s
}

// given returns a text field that must be there, but may be empty.
func (f *fields) given(name string) string {
	if _, ok := f.values[name]; !ok {
		f.refuse(name, "given")
	}
	return f.optional(name)
}

// optional returns a text field, or "" where it is missing.
func (f *fields) optional(name string) string {
	raw, ok := f.values[name]
	if !ok {
		for _, spelling := range []string{name, strings.ReplaceAll(name, "_", "-")} {
			if v := f.header[http.CanonicalHeaderKey(spelling)]; len(v) == 1 && (name == "logos_key" || name == "api_key") {
				return v[0]
			}
		}
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		f.refuse(name, "a text")
	}
	return s
}

// id returns a positive integer, which may also be written as a text.
func (f *fields) id(name string) int64 {
	n, err := strconv.ParseInt(strings.Trim(string(f.values[name]), `"`), 10, 64)
	if err != nil || n <= 0 {
		f.refuse(name, "an id: a positive integer")
	}
	return n
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever is gone needs no answer
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"error": message})
}
