package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Providers of the table of ends charge as real ones do: the prompt once they have read it, and each token of an
// answer as they make it, whether or not somebody gets it. Their tokens are words.

// prompt is what the caller says.
func (a asked) prompt() string {
	messages, _ := a.json()["messages"].([]any)
	if len(messages) == 0 {
		return ""
	}
	first, _ := messages[0].(object)
	text, _ := first["content"].(string)
	return text
}

// prefill charges the prompt.
func prefill(p *provider, a asked) usage {
	return p.charge(usage{input: int64(len(strings.Fields(a.prompt())))})
}

var vocabulary = strings.Fields("the quick brown fox jumps over a lazy dog and then explains at considerable length why it did so")

// words is a text of so many words.
func words(n int) string {
	return strings.Join(slices.Repeat(vocabulary, n/len(vocabulary)+1)[:n], " ")
}

// chunk is an event of a chat's stream, as OpenAI sends them.
func chunk(token string) object {
	return object{"id": "chatcmpl-C0ffeeC0ffeeC0ffeeC0ffeeC0ff", "object": "chat.completion.chunk", "created": 1795486584, "model": "gpt-4o-2024-08-06",
		"service_tier": "default", "system_fingerprint": "fp_44709d6fcb", "usage": nil,
		"choices": []object{{"index": 0, "delta": object{"content": token}, "logprobs": nil, "finish_reason": nil}}}
}

// speak makes n tokens, one an event.
func (p *provider) speak(e events, n int) {
	for i := range n {
		p.charge(usage{output: 1})
		e.send(chunk(" " + vocabulary[i%len(vocabulary)]))
	}
}

// report is the last event with usage.
func report(u usage) object {
	o := chunk("")
	o["choices"], o["usage"] = []object{}, u.chat()
	return o
}

const spoken = 25 // tokens in the answers of the table

// speaks streams an answer; last does what follows the tokens.
func speaks(name string, last func(p *provider, e events, a asked, u usage)) act {
	return act{name, func(p *provider, w http.ResponseWriter, a asked) {
		u, e := prefill(p, a), openEvents(w)
		p.speak(e, spoken)
		u.output = spoken
		last(p, e, a, u)
	}}
}

// whole ends a stream as it should.
func whole(_ *provider, e events, _ asked, u usage) {
	e.send(report(u))
	e.text(done)
}

// waits leaves a stream open until the caller, or the gateway, has gone.
func waits(_ *provider, _ events, a asked, _ usage) { <-a.gone }

// says answers at once with n tokens; reports is what it says of them, nil: nothing.
func says(name string, n int64, reports func(usage) object) act {
	return act{name, func(p *provider, w http.ResponseWriter, a asked) {
		u := prefill(p, a)
		u.output = p.charge(usage{output: n}).output
		o := object{"id": "c", "object": "chat.completion", "choices": []object{{"index": 0, "finish_reason": "stop",
			"message": object{"role": "assistant", "content": words(int(n))}}}}
		if reports != nil {
			o["usage"] = reports(u)
		}
		answerJSON(w, 200, o)
	}}
}

// charging is an error that the provider charges, with the usage in its body.
func charging(status int) act {
	return act{fmt.Sprintf("%d, charged", status), func(p *provider, w http.ResponseWriter, a asked) {
		u := prefill(p, a)
		answerJSON(w, status, object{"error": object{"message": "no", "type": "some_error", "code": "some_code"}, "usage": u.chat()})
	}}
}

// reads takes the prompt and makes some tokens that nobody gets, until the attempt is given up.
func reads(unseen int64, reached chan<- struct{}) act {
	return act{"silence", func(p *provider, _ http.ResponseWriter, a asked) {
		prefill(p, a)
		p.charge(usage{output: unseen})
		if reached != nil {
			close(reached)
		}
		<-a.gone
	}}
}

// warmed answers calls that only warm up, streamed or not, and leaves others to the act.
func warmed(x act) act {
	return act{x.name, func(p *provider, w http.ResponseWriter, a asked) {
		switch {
		case a.header.Get("content-type") != warmType:
			x.do(p, w, a)
		case strings.HasSuffix(a.uri, "/messages"):
			claudes("", func(e events, _ asked) {
				e.text("event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":25}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
			}).do(p, w, a)
		case a.streams():
			speaks("", whole).do(p, w, a)
		default:
			says("", spoken, usage.chat).do(p, w, a)
		}
	}}
}

// warmType tells calls that warm up to the provider; it is JSON to everybody else.
const warmType = "application/json; warm=yes"

// claudes streams as Anthropic does: the prompt is reported as the stream begins, the answer as it ends.
func claudes(name string, last func(e events, a asked)) act {
	return act{name, func(p *provider, w http.ResponseWriter, a asked) {
		u, e := prefill(p, a), openEvents(w)
		e.text(fmt.Sprintf("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01XFDUDYJgAACzvnptvVoYEL\",\"type\":\"message\",\"role\":\"assistant\",\"usage\":{\"input_tokens\":%d,\"output_tokens\":1}}}\n\n", u.input))
		for i := range spoken {
			p.charge(usage{output: 1})
			e.text(fmt.Sprintf("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":%q}}\n\n", " "+vocabulary[i%len(vocabulary)]))
		}
		last(e, a)
	}}
}

// deaf listens and takes no connection: its queue is full, so that connecting to it takes for ever.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 { // the queue holds one or two
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a full queue takes connections")
	return ""
}
