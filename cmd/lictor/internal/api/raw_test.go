package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events/eventstest"
)

// rawServer serves to whoever connects, and returns the path of its socket.
func rawServer(tb testing.TB) string {
	tb.Helper()
	return serveFake(tb, &fake{store: &eventstest.Memory{}, keep: func(_ Peer, c *Conn) {
		defer c.Close()
		if _, err := c.First(); err == nil {
			_, _ = c.Next()
		}
	}}, nil)
}

// exchange sends bytes, says that there will be no more, and returns what the server says until it hangs up.
func exchange(tb testing.TB, path string, sent []byte) []byte {
	tb.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	go func() {
		_, _ = conn.Write(sent) // the server may not want all of it
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	said, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // it has hung up on something that it had not read
		tb.Errorf("%.200q: %v after %.200q", sent, err, said)
	}
	return said
}

// statuses reads the answers that a server gave on one connection.
func statuses(said []byte) (list []int, err error) {
	in := bufio.NewReader(bytes.NewReader(said))
	for {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return list, nil
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return list, err
		}
		list = append(list, answer.StatusCode)
		if answer.StatusCode == http.StatusSwitchingProtocols {
			return list, nil
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			return list, err
		}
	}
}

// stillServes fails a test if the next client is not answered.
func stillServes(tb testing.TB, path string) {
	tb.Helper()
	if got := string(exchange(tb, path, []byte("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, `"ok"`) {
		tb.Errorf("the next client hears %q", got)
	}
}

// rawRequests are requests that are none, or barely, and the statuses of what must be answered; nil: nothing, or whatever is 4xx.
var rawRequests = []struct {
	name string
	sent string
	want []int
}{
	{"nothing", "", nil},
	{"NULs", "\x00\x00\x00\x00\r\n\r\n", []int{400}},
	{"no HTTP", "HELO mail\r\n\r\n", []int{400}},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", nil},
	{"another version", "GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", []int{505}},
	{"NUL in the path", "GET /healthz\x00 HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
	{"NUL in a header", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", []int{400}},
	{"no host", "GET /healthz HTTP/1.1\r\n\r\n", []int{400}},
	{"two hosts", "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", []int{400}},
	{"space before the colon", "GET /healthz HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", []int{400}},
	{"a header without an end", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2*maxHeader), []int{431}},
	{"a huge header", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2*maxHeader) + "\r\n\r\n", []int{431}},
	{"ten thousand headers", "GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10000) + "\r\n", []int{431}},
	{"a huge path", "GET /" + strings.Repeat("a", 2*maxHeader) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431}},
	{"bad chunks", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", []int{400}},
	{"a chunk without an end", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{}", []int{400}},
	{"a chunk of a length without end", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("f", 40) + "\r\n", []int{400}},
	{"length and chunks, of which the chunks count", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 200}},
	{"two lengths", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}", []int{400}},
	{"a negative length", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", []int{400}},
	{"less than its length", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"command\"", []int{400}},
	{"another encoding", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", []int{501}},
	{"garbage behind a request", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x00\xff\xfe garbage\r\n\r\n", []int{200, 400}},
	{"a pipeline", strings.Repeat("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 50), slices.Repeat([]int{200}, 50)},
	{"garbage to keep", "POST /api/v1/keep HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\n\r\n\x00\xff{{{\n", []int{101}},
	{"an expectation", "POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nExpect: the-spanish-inquisition\r\nContent-Length: 2\r\n\r\n{}", []int{417}},
	{"a proxy's request", "CONNECT elsewhere:22 HTTP/1.1\r\nHost: elsewhere:22\r\n\r\n", nil},
	{"a method of its own", "G\x7fT /healthz HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
}

// I1: what is no HTTP is answered as such or hung up on, and the next client is served.
func TestMalformedHTTP(t *testing.T) {
	path := rawServer(t)
	for _, c := range rawRequests {
		said := exchange(t, path, []byte(c.sent))
		got, err := statuses(said)
		if err != nil {
			t.Errorf("%s: %v: %.200q", c.name, err, said)
		}
		for i, status := range got {
			if c.want == nil && status/100 != 4 || c.want != nil && (i >= len(c.want) || status != c.want[i]) {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
		if len(got) < len(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		stillServes(t, path)
	}
}

// FuzzConnection: whatever bytes arrive, the server says nothing but HTTP, has no error of its own, and serves the next client.
func FuzzConnection(f *testing.F) {
	for _, c := range rawRequests {
		f.Add([]byte(c.sent))
	}
	f.Add([]byte("POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{\"command\":[\"a\"]}GET /api/v1/runs HTTP/1.0\r\n\r\n"))
	f.Add([]byte("POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n11\r\n{\"command\":[\"a\"]}\r\n0\r\nX: y\r\n\r\n"))
	path := rawServer(f)
	f.Fuzz(func(t *testing.T, sent []byte) {
		if bytes.Contains(bytes.ToLower(sent), []byte("event-stream")) || bytes.Contains(sent, []byte("HEAD")) {
			return // a stream has no end, and the answer to HEAD no body to find the next one behind
		}
		begun := time.Now()
		said := exchange(t, path, sent)
		if took := time.Since(begun); took > answerTime/2 {
			t.Errorf("hung up on after %v", took)
		}
		got, err := statuses(said)
		if err != nil {
			t.Errorf("%v: %q", err, said)
		}
		for _, status := range got {
			if status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported {
				t.Errorf("%v: %q", got, said)
			}
		}
		stillServes(t, path)
	})
}

// A caller that hangs up in the middle of a request, or of reading the answer, ends nothing but itself.
func TestHangUp(t *testing.T) {
	path := rawServer(t)
	whole := []byte("POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{\"command\":[\"a\"]}")
	for n := range len(whole) + 1 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(whole[:n]); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	stillServes(t, path)
}
