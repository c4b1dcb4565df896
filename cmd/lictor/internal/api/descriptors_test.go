package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// launching is a launch as it goes over the wire.
func launching(body string) string {
	return fmt.Sprintf("POST /api/v1/runs HTTP/1.1\r\nHost: lictor\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// say writes a request with n descriptors of a pipe, and returns the status, the answer, and what was read from the pipe until nobody had
// its other end any more.
func say(t *testing.T, conn *net.UnixConn, text string, n int) (status int, answer, piped string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fds := make([]int, n)
	for i := range fds {
		fds[i] = int(w.Fd())
	}
	_ = os.WriteFile(os.DevNull, []byte{0}, 0) // see afterIO
	_, _, err = conn.WriteMsgUnix([]byte(text), unix.UnixRights(fds...), nil)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 300 && n > 0 {
		conn.Close() // a request that is no launch leaves them to the connection
	}
	said, err := io.ReadAll(r) // for ever, if a descriptor stays open
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), string(said)
}

func dial(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// An attached launch has four descriptors with its first byte: no more, no fewer, no later. None stays open here.
func TestAttached(t *testing.T) {
	f, _, path := start(t, 1000)
	for _, c := range []struct {
		body   string
		n      int
		status int
		says   string
	}{
		{`{"command":["a"],"attached":true}`, 4, 201, `"run":"aaaaaaaaaaaa"`},
		{`{"command":["a"],"attached":true,"on_owner_exit":"keep"}`, 4, 201, `"run":"aaaaaaaaaaaa"`},
		{`{"command":["a"],"on_owner_exit":"kill"}`, 0, 201, `"run":"aaaaaaaaaaaa"`},
		{`{"command":["a"],"attached":true}`, 0, 400, "0 descriptors"},
		{`{"command":["a"],"attached":true}`, 3, 400, "3 descriptors"},
		{`{"command":["a"],"attached":true}`, 5, 400, " descriptors came"},
		{`{"command":["a"],"attached":true}`, 250, 400, " descriptors came"},
		{`{"command":["a"]}`, 4, 400, "4 descriptors"},
		{`{"command":["a"],"attached":true,"on_owner_exit":"what"}`, 4, 400, "on_owner_exit"},
		{`{"command":[],"attached":true}`, 4, 400, "command: empty"},
		{`{"command":["a"],"attached":1}`, 4, 400, "body: "},
	} {
		f.asked = nil
		status, answer, piped := say(t, dial(t, path), launching(c.body), c.n)
		if status != c.status || !strings.Contains(answer, c.says) {
			t.Errorf("%s with %d: %d %s, want %d %s", c.body, c.n, status, answer, c.status, c.says)
		}
		if want := map[bool]string{true: "a"}[status == 201 && c.n > 0]; piped != want || (f.asked != nil) != (status == 201) {
			t.Errorf("%s with %d: %q in the pipe, want %q; asked %q", c.body, c.n, piped, want, f.asked)
		}
	}

	conn := dial(t, path) // what comes later is closed by the kernel
	if status, _, _ := say(t, conn, launching(`{"command":["a"]}`), 0); status != 201 {
		t.Error(status)
	}
	if status, answer, _ := say(t, conn, launching(`{"command":["a"],"attached":true}`), 4); status != 400 || !strings.Contains(answer, "0 descriptors") {
		t.Errorf("the second request: %d %s", status, answer)
	}
}

// Nobody can fill the daemon with descriptors: what a user passes above the quota is closed, and free again when the others are.
func TestDescriptorsQuota(t *testing.T) {
	_, _, path := start(t, 1000)
	attached := launching(`{"command":["a"],"attached":true}`)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	above := func() int {
		status, _, _ := say(t, dial(t, path), attached, client.Descriptors)
		return status
	}
	var idle []*net.UnixConn
	for above() != 400 {
		if len(idle) == 2*filesPerUser/client.Descriptors {
			t.Fatal("more than the quota is taken")
		}
		conn := dial(t, path)
		fd := int(w.Fd())
		if _, _, err := conn.WriteMsgUnix([]byte(attached[:10]), unix.UnixRights(fd, fd, fd, fd), nil); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	for _, conn := range idle {
		conn.Close()
	}
	for deadline := 1000; above() != 201; deadline-- {
		if deadline == 0 {
			t.Fatal("the quota is not given back")
		}
	}
}

// Over TCP there is no process to be attached to.
func TestAttachedTCP(t *testing.T) {
	for _, l := range []client.Launch{{Attached: true}, {OnOwnerExit: "kill"}} {
		if err := checkAttached(&l, Peer{TCP: true}, 0); err == nil || !strings.Contains(err.Error(), "over TCP") {
			t.Errorf("%+v: %v", l, err)
		}
	}
	if err := checkAttached(&client.Launch{OnOwnerExit: "keep"}, Peer{TCP: true}, 0); err != nil {
		t.Error(err)
	}
}
