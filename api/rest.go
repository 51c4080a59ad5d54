package api

import (
	"bufio"
	"context"
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
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ls1intum/edutelligence/logos"
)

// routes are the paths of the admin API. grpc-gateway ignores parameters that it does not know, reads numbers
// and truth in many ways, and answers other methods without saying which there are: these are checked before.
type routes []route

// A route is one method on one path.
type route struct {
	verb     string
	segments []string // of the path; empty: a parameter
	action   string   // after the colon
	params   []protoreflect.FieldDescriptor
	query    map[string]protoreflect.FieldDescriptor
	body     bool // must be there; of actions, which have defaults for all, it may be left out
}

// newRoutes reads the HTTP rules of the services that a server has.
func newRoutes(s *grpc.Server) (routes, error) {
	var out routes
	for name := range s.GetServiceInfo() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("find the service %s: %w", name, err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			out = append(out, routeOf(methods.Get(i)))
		}
	}
	return out, nil
}

func routeOf(m protoreflect.MethodDescriptor) (r route) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	path := ""
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		r.verb, path = http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		r.verb, path = http.MethodPost, p.Post
	case *annotations.HttpRule_Patch:
		r.verb, path = http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		r.verb, path = http.MethodDelete, p.Delete
	}
	path, r.action, _ = strings.Cut(path, ":")
	bound := map[string]bool{rule.GetBody(): true}
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(segment, "{") {
			name := strings.Trim(segment, "{}")
			bound[name] = true
			r.params = append(r.params, fieldAt(m.Input(), name))
			segment = ""
		}
		r.segments = append(r.segments, segment)
	}
	r.segments, r.body = r.segments[1:], rule.GetBody() != "" && rule.GetBody() != "*"
	r.query = make(map[string]protoreflect.FieldDescriptor)
	for i := range m.Input().Fields().Len() {
		f := m.Input().Fields().Get(i)
		if rule.GetBody() != "*" && !bound[string(f.Name())] {
			r.query[string(f.Name())], r.query[f.JSONName()] = f, f
		}
	}
	return r
}

// fieldAt returns the field at a path like project.id.
func fieldAt(m protoreflect.MessageDescriptor, path string) protoreflect.FieldDescriptor {
	name, rest, deeper := strings.Cut(path, ".")
	f := m.Fields().ByName(protoreflect.Name(name))
	if deeper {
		return fieldAt(f.Message(), rest)
	}
	return f
}

// values returns the parameters in a path, if it is one of the route's.
func (r *route) values(path string) (values []string, ok bool) {
	path, action, _ := strings.Cut(path, ":")
	parts := strings.Split(path, "/")[1:]
	if len(parts) != len(r.segments) || action != r.action {
		return nil, false
	}
	for i, segment := range r.segments {
		switch {
		case segment == "" && parts[i] != "":
			values = append(values, parts[i])
		case segment != parts[i] || segment == "":
			return nil, false
		}
	}
	return values, true
}

// check refuses a request whose path or query is wrong. Of a method that is not there it answers which are.
func (rs routes) check(w http.ResponseWriter, r *http.Request) error {
	if !utf8.ValidString(r.URL.Path) {
		return invalid("path", "must be UTF-8")
	}
	var allowed []string
	for i := range rs {
		values, ok := rs[i].values(r.URL.Path)
		if ok && rs[i].verb == r.Method {
			if rs[i].body && empty(r) {
				return invalid("body", "must be given, as JSON")
			}
			return rs[i].checkValues(values, r.URL.RawQuery)
		}
		if ok {
			allowed = append(allowed, rs[i].verb)
		}
	}
	if len(allowed) == 0 {
		return logos.Errorf(logos.NotFound, "no_such_path", "there is nothing at this path: see /openapi.json")
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return errMethod
}

// empty says whether a request has no body. It is still there to be read.
func empty(r *http.Request) bool {
	body := bufio.NewReader(r.Body)
	_, err := body.Peek(1)
	r.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
	return errors.Is(err, io.EOF)
}

func (r *route) checkValues(values []string, rawQuery string) error {
	for i, f := range r.params {
		if err := checkParameter(f, values[i]); err != nil {
			return err
		}
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return invalid("query", "can't be read: escape what is not a letter or digit, as in %%20")
	}
	for name, values := range query {
		f := r.query[name]
		switch {
		case f == nil:
			return invalid("query", "there is no parameter %.64q here: there are %s", name, strings.Join(r.names(), ", "))
		case len(values) != 1:
			return invalid(string(f.Name()), "must be given once")
		}
		if err := checkParameter(f, values[0]); err != nil {
			return err
		}
	}
	return nil
}

// names are those of the parameters in the query, for people.
func (r *route) names() []string {
	names := []string{}
	for name, f := range maps.All(r.query) {
		if name == string(f.Name()) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	slices.Sort(names)
	return names
}

// checkParameter refuses what is of another type than its field.
func checkParameter(f protoreflect.FieldDescriptor, value string) error {
	switch f.Kind() {
	case protoreflect.BoolKind:
		if value != "true" && value != "false" {
			return invalid(string(f.Name()), "must be true or false")
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		bits := 64
		if f.Kind() == protoreflect.Int32Kind {
			bits = 32
		}
		if n, err := strconv.ParseInt(value, 10, bits); err != nil || strconv.FormatInt(n, 10) != value {
			return invalid(string(f.Name()), "must be a whole number")
		}
	case protoreflect.StringKind:
		if !utf8.ValidString(value) {
			return invalid(string(f.Name()), "must be UTF-8")
		}
	}
	return nil
}

// errMethod refuses a method that a path does not have.
var errMethod = logos.Errorf(logos.Unsupported, "no_such_method", "this path has no such method: the header Allow names those that it has")

// writeRefusal answers with an error of the admin API.
func writeRefusal(w http.ResponseWriter, err error) {
	s := status.Convert(statusOf(err))
	code := httpStatus(s.Code())
	switch {
	case err == errMethod:
		code = http.StatusMethodNotAllowed
	case s.Code() == codes.Unauthenticated:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	text, err := restJSON.Marshal(s.Proto())
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"code":13,"message":"the gateway failed: see its log","details":[]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text)
}

// restError answers what a service or grpc-gateway itself refuses. The latter refuses bodies that it can't read.
func restError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	if s := status.Convert(err); s.Code() == codes.InvalidArgument && len(s.Details()) == 0 {
		message := strings.TrimLeft(strings.TrimPrefix(s.Message(), "proto:"), " \u00a0")
		err = withDetails(codes.InvalidArgument, "body: "+message, &errdetails.ErrorInfo{Reason: "INVALID_BODY", Domain: errorDomain},
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "body", Description: message}}})
	}
	writeRefusal(w, err)
}
