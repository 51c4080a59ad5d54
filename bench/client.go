package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// callTimeout bounds one call of the loader.
const callTimeout = 30 * time.Second

const callPath = "/v1/chat/completions"

// A call is what the loader sends again and again, and the body that must come back.
type call struct {
	address, key string
	body         []byte
	want         []byte // nil: whatever comes will do
}

// check is an error for any answer but 200 with the wanted body.
func (c *call) check(status int, body []byte) error {
	done := []byte("data: [DONE]\n\n")
	switch {
	case c.want == nil:
		return nil
	case status != http.StatusOK:
		return fmt.Errorf("status %d: %.300s", status, body)
	case bytes.HasSuffix(c.want, done) && !bytes.HasSuffix(body, done):
		return fmt.Errorf("a stream without [DONE] (%d bytes of %d)", len(body), len(c.want))
	case !bytes.Equal(body, c.want):
		return fmt.Errorf("the answer is not what the provider said (%d bytes of %d): %.300s", len(body), len(c.want), body)
	}
	return nil
}

// timing is how long an answer took, to the first byte of its body and to its last.
type timing struct{ first, whole time.Duration }

// A client is one keep-alive connection of the loader. It speaks HTTP/1.1 by hand, as far as Envoy does
// towards it: net/http takes several times the CPU, on the cores of what is measured.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	body    []byte // of the last answer
	status  int    // of the last answer
	of      *call  // what request was made of
	request []byte
}

// call sends the call and reads the answer to its end.
func (c *client) call(what *call) (timing, error) {
	t, err := c.exchange(what)
	if err != nil {
		c.close() // whatever is left on the connection is not the next answer
	}
	return t, err
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) exchange(what *call) (t timing, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", what.address, callTimeout); err != nil {
			return t, err
		}
		c.r = bufio.NewReaderSize(c.conn, 64<<10)
	}
	if c.of != what {
		c.of = what
		c.request = fmt.Appendf(nil, "POST "+callPath+" HTTP/1.1\r\nHost: %s\r\nUser-Agent: logos-bench\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
			what.address, what.key, len(what.body), what.body)
	}
	start := time.Now()
	if err := c.conn.SetDeadline(start.Add(callTimeout)); err != nil {
		return t, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return t, fmt.Errorf("send: %w", err)
	}
	status, length, err := c.head()
	if err != nil {
		return t, fmt.Errorf("read head: %w", err)
	}
	if length != 0 {
		if _, err := c.r.Peek(1); err != nil {
			return t, fmt.Errorf("read body: %w", err)
		}
	}
	t.first = time.Since(start)
	if err := c.readBody(length); err != nil {
		return t, fmt.Errorf("read body: %w", err)
	}
	t.whole = time.Since(start)
	c.status = status
	return t, what.check(status, c.body)
}

// chunked stands for a length that the chunks themselves say.
const chunked = -1

func (c *client) head() (status, length int, err error) {
	line, err := c.line()
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("not an HTTP/1.1 answer: %.100q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	for {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return status, length, err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return status, 0, err
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			length = chunked
		}
	}
}

// line returns the next line without its end. It is valid until the next read.
func (c *client) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

func (c *client) readBody(length int) error {
	c.body = c.body[:0]
	if length != chunked {
		return c.take(length)
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("length of a chunk: %w", err)
		}
		if err := c.take(int(size)); err != nil {
			return err
		}
		if line, err = c.line(); err != nil || len(line) > 0 {
			return fmt.Errorf("no end after a chunk: %.100q, %v", line, err)
		}
		if size == 0 {
			return nil
		}
	}
}

// take adds n bytes to the body.
func (c *client) take(n int) error {
	have := len(c.body)
	if cap(c.body) < have+n {
		c.body = append(make([]byte, 0, 2*(have+n)), c.body...)
	}
	c.body = c.body[:have+n]
	_, err := io.ReadFull(c.r, c.body[have:])
	return err
}
