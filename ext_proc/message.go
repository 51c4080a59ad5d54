package extproc

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// A message is what decisions read of a ProcessingRequest. It is received with RecvMsg, by a server that
// has this package's [ServerOptions].
type message struct {
	hasHeaders, hasBody bool
	request             request
	body                []byte // until the message is freed

	buffer mem.Buffer // holds the body
}

// receive takes the next message of the stream. What it was before is freed.
func (m *message) receive(stream grpc.ServerStream) error {
	m.free()
	return stream.RecvMsg(m)
}

// free gives the memory back for other calls.
func (m *message) free() {
	if m.buffer != nil {
		m.buffer.Free()
	}
	*m = message{}
}

// A codec decodes a message where it came, for the general decoder copies each body twice and makes an
// object of each header. What else a gRPC server reads and writes it leaves to that one.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// bodies has a size for each power of two, as a buffer is cleared whole before it is used again. In gRPC's
// own pool the one for a body of 33 KB has a megabyte.
var bodies = newPool()

func newPool() mem.BufferPool {
	var exponents []uint8
	for e := uint8(10); e <= 25; e++ {
		exponents = append(exponents, e)
	}
	pool, err := mem.NewBinaryTieredBufferPool(exponents...)
	if err != nil {
		panic(err) // only of sizes that no slice can have
	}
	return pool
}

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	m.buffer = data.MaterializeToBuffer(bodies)
	return m.decode(m.buffer.ReadOnlyData())
}

// decode reads a ProcessingRequest.
func (m *message) decode(raw []byte) error {
	return eachField(raw, func(n protowire.Number, v []byte) error {
		switch n {
		case 2: // request_headers
			m.hasHeaders = true
			return m.request.decode(v)
		case 4: // request_body
			m.hasBody = true
			return eachField(v, func(n protowire.Number, v []byte) error {
				if n == 1 { // body
					m.body = v
				}
				return nil
			})
		}
		return nil
	})
}

// eachField calls visit with the fields of an encoded protobuf message, in their order: with the content of
// texts, bytes and messages, and with numbers as they are encoded.
func eachField(raw []byte, visit func(n protowire.Number, v []byte) error) error {
	for len(raw) > 0 {
		number, kind, length := protowire.ConsumeTag(raw)
		if length < 0 {
			return protowire.ParseError(length)
		}
		raw = raw[length:]
		var v []byte
		if kind == protowire.BytesType {
			v, length = protowire.ConsumeBytes(raw)
		} else if length = protowire.ConsumeFieldValue(number, kind, raw); length >= 0 {
			v = raw[:length]
		}
		if length < 0 {
			return protowire.ParseError(length)
		}
		raw = raw[length:]
		if err := visit(number, v); err != nil {
			return err
		}
	}
	return nil
}
