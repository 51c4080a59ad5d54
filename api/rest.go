package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ls1intum/edutelligence/logos"
)

// A route is what a request of the REST face is made into.
type route struct {
	input protoreflect.MessageType
	body  string // the field that the body holds; "*": all of them; "": none
}

// routes are the HTTP bindings of all methods, by HTTP method and pattern. The gateway that they lead to
// ignores what it does not know, and quotes values in its errors; so requests are checked before.
type routes map[string]route

// routesOf reads the bindings of services off their protos.
func routesOf(services []string) (routes, error) {
	out := make(routes)
	for _, name := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("find the service %s: %w", name, err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			rule, _ := proto.GetExtension(methods.Get(i).Options(), annotations.E_Http).(*annotations.HttpRule)
			input, err := protoregistry.GlobalTypes.FindMessageByName(methods.Get(i).Input().FullName())
			if err != nil {
				return nil, fmt.Errorf("find the request of %s: %w", methods.Get(i).FullName(), err)
			}
			out[pattern(rule)] = route{input, rule.GetBody()}
		}
	}
	return out, nil
}

// pattern writes a binding as the gateway does.
func pattern(rule *annotations.HttpRule) string {
	method, path := "", ""
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		method, path = http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		method, path = http.MethodPost, p.Post
	case *annotations.HttpRule_Patch:
		method, path = http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		method, path = http.MethodDelete, p.Delete
	}
	return method + " " + strings.ReplaceAll(path, "}", "=*}")
}

// check refuses a request that the gateway would read in part, or wrongly.
func (t routes) check(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		p, _ := runtime.HTTPPattern(r.Context())
		x, ok := t[r.Method+" "+p.String()]
		// What follows a colon is an action, also where the gateway takes it for a part of an id.
		if !ok || slices.ContainsFunc(slices.Collect(maps.Values(params)), func(v string) bool { return v == "" || strings.Contains(v, ":") }) {
			t.notRouted(w, r)
			return
		}
		err := errors.Join(x.checkPath(params), x.checkQuery(r.URL.RawQuery, params))
		if err == nil && x.body != "" {
			err = x.checkBody(r)
		}
		if err != nil {
			writeRefusal(w, err)
			return
		}
		next(w, r, params)
	}
}

func (x route) checkPath(params map[string]string) error {
	for name, value := range params {
		m := x.input.Descriptor()
		var f protoreflect.FieldDescriptor
		for part := range strings.SplitSeq(name, ".") {
			if f = m.Fields().ByName(protoreflect.Name(part)); f.Message() != nil {
				m = f.Message()
			}
		}
		if err := checkScalar(name, f, value); err != nil {
			return err
		}
	}
	return nil
}

func (x route) checkQuery(raw string, params map[string]string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return logos.Errorf(logos.Invalid, "invalid_query", "the query must be parameters like ?page_size=10&filter=…, escaped where needed")
	}
	fields := x.parameters(params)
	for name, v := range values {
		i := slices.IndexFunc(fields, func(f protoreflect.FieldDescriptor) bool { return string(f.Name()) == name || f.JSONName() == name })
		switch {
		case i < 0 && len(fields) == 0:
			return invalid(short(name), "there is no such query parameter: there are none here")
		case i < 0:
			return invalid(short(name), "there is no such query parameter: there are %s", names(fields))
		case len(v) != 1:
			return invalid(short(name), "must be given once")
		}
		if err := checkScalar(name, fields[i], v[0]); err != nil {
			return err
		}
	}
	return nil
}

// parameters are the fields that the query may hold: those that are neither in the path nor in the body.
func (x route) parameters(params map[string]string) (out []protoreflect.FieldDescriptor) {
	fields := x.input.Descriptor().Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		if _, inPath := params[name]; !inPath && x.body != name && x.body != "*" {
			out = append(out, fields.Get(i))
		}
	}
	return out
}

func names(fields []protoreflect.FieldDescriptor) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = string(f.Name())
	}
	return strings.Join(out, ", ")
}

// short is a name that a stranger made up, as errors show it.
func short(name string) string { return strings.ToValidUTF8(fmt.Sprintf("%.64s", name), "") }

// checkScalar checks a value in a path or query.
func checkScalar(path string, f protoreflect.FieldDescriptor, value string) error {
	var err error
	switch f.Kind() {
	case protoreflect.Int64Kind:
		err = wholeNumber(value, 64)
	case protoreflect.Int32Kind:
		err = wholeNumber(value, 32)
	case protoreflect.BoolKind:
		if value != "true" && value != "false" {
			err = errScalar
		}
	case protoreflect.MessageKind: // a mask
		if value == "" {
			err = errScalar
		}
	default:
		if !utf8.ValidString(value) {
			return invalid(path, "must be UTF-8")
		}
	}
	if err != nil {
		return invalid(path, "must be %s", shape(f, true))
	}
	return nil
}

var errScalar = errors.New("written otherwise")

// wholeNumber refuses what the gateway would read as another number: 010 is 8 to it.
func wholeNumber(value string, bits int) error {
	n, err := strconv.ParseInt(value, 10, bits)
	if err == nil && strconv.FormatInt(n, 10) != value {
		return errScalar
	}
	return err
}

// checkBody reads a request's body as what it shall be, and leaves it to be read again.
func (x route) checkBody(r *http.Request) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return logos.Errorf(logos.TooLarge, "request_too_large", "the body is larger than %d bytes, or broke off", maxAdminRequest)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	switch empty := len(bytes.TrimSpace(data)) == 0; {
	case empty && x.body == "*": // all of an action has defaults
		return nil
	case empty: // with a mask, nothing given would clear what it names
		return invalid(x.body, "must be given, as a JSON object")
	}
	m := x.input.New()
	if x.body != "*" {
		m = m.NewField(m.Descriptor().Fields().ByName(protoreflect.Name(x.body))).Message()
	}
	err = protojson.Unmarshal(data, m.Interface())
	switch {
	case err == nil:
		return nil
	case x.body == "*":
		return malformed(data, m.Descriptor(), err)
	}
	return inside(x.body, malformed(data, m.Descriptor(), err))
}

// writeRefusal writes a refusal as a google.rpc.Status in JSON.
func writeRefusal(w http.ResponseWriter, err error) {
	s := status.Convert(statusOf(err))
	text, err := restJSON.Marshal(s.Proto())
	if err != nil {
		text = []byte(`{"code":13,"message":"the gateway failed","details":[]}`)
	}
	if s.Code() == codes.Unauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, httpStatus(s.Code()), json.RawMessage(text))
}

// allowed are the methods that a path has.
func (t routes) allowed(path string) (methods []string) {
	path, action, colon := strings.Cut(path, ":")
	if colon && action == "" {
		return nil
	}
	parts := strings.Split(path, "/")
	for key := range t {
		method, pattern, _ := strings.Cut(key, " ")
		pattern, its, _ := strings.Cut(pattern, ":")
		same := func(segment, part string) bool {
			return segment == part || strings.HasPrefix(segment, "{") && part != ""
		}
		if its == action && slices.EqualFunc(strings.Split(pattern, "/"), parts, same) {
			methods = append(methods, method)
		}
	}
	slices.Sort(methods)
	return methods
}

// notRouted answers requests that no method is for.
func (t routes) notRouted(w http.ResponseWriter, r *http.Request) {
	if methods := t.allowed(r.URL.Path); len(methods) > 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeJSON(w, http.StatusMethodNotAllowed, map[string]any{
			"code": codes.Unimplemented, "message": short(r.Method) + " is not for this path",
			"details": []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "METHOD_NOT_ALLOWED", "domain": errorDomain}},
		})
		return
	}
	writeRefusal(w, logos.Errorf(logos.NotFound, "not_found", "there is nothing at %.256q: /openapi.json lists what there is", r.URL.Path))
}
