package extproc

import (
	"bytes"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func encode(t *testing.T, m *extprocv3.ProcessingRequest) []byte {
	t.Helper()
	m.Attributes = map[string]*structpb.Struct{"x": {Fields: map[string]*structpb.Value{"y": structpb.NewNumberValue(1)}}}
	m.ObservabilityMode = true
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// frames cuts a message as HTTP/2 may.
func frames(raw []byte, size int) (out mem.BufferSlice) {
	for len(raw) > size {
		out, raw = append(out, mem.SliceBuffer(raw[:size])), raw[size:]
	}
	return append(out, mem.SliceBuffer(raw))
}

func TestReadsMessages(t *testing.T) {
	text := strings.Repeat("ü\x00\"", 30_000)
	body := encode(t, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{
		RequestBody: &extprocv3.HttpBody{Body: []byte(text), EndOfStream: true}}})
	headers := encode(t, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extprocv3.HttpHeaders{EndOfStream: true, Headers: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: ":path", RawValue: []byte("/v1/messages")}, {Key: "x-logos-user", Value: "ada"},
			{Key: "x-logos-session", Value: "old", RawValue: []byte("\xff")}, {Key: "x-logos-policy"},
		}}}}})
	for _, size := range []int{1 << 20, 16 << 10, 7} {
		var m message
		// Twice: what is read in a buffer that another message had is the same.
		for range 2 {
			m.free()
			if err := newCodec().Unmarshal(frames(body, size), &m); err != nil || !m.hasBody || m.hasHeaders || string(m.body) != text {
				t.Fatalf("in frames of %d bytes: a body of %d bytes, %v", size, len(m.body), err)
			}
			m.free()
			if err := newCodec().Unmarshal(frames(headers, size), &m); err != nil || m.hasBody || !m.hasHeaders {
				t.Fatalf("in frames of %d bytes: %+v, %v", size, m, err)
			}
		}
		r := m.request
		m.free()
		if r.path != "/v1/messages" || r.route.API == "" || r.user != "ada" || r.session != "\xff" || r.policy != "" || !r.endStream || r.contentLength != -1 {
			t.Errorf("in frames of %d bytes: %+v", size, r)
		}
	}
	for cut := range headers {
		var m message
		err := newCodec().Unmarshal(frames(headers[:cut], 16<<10), &m)
		if want := proto.Unmarshal(headers[:cut], &extprocv3.ProcessingRequest{}); (err == nil) != (want == nil) {
			t.Errorf("cut after %d bytes: %v, want %v", cut, err, want)
		}
		m.free()
	}
}

func TestReadsOtherMessagesAsUsual(t *testing.T) {
	want := &corev3.HeaderValue{Key: "a", RawValue: bytes.Repeat([]byte("b"), 5000)}
	data, err := newCodec().Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got corev3.HeaderValue
	if err := newCodec().Unmarshal(data, &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("%v, %v", &got, err)
	}
}
