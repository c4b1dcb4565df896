//go:build integration

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// flooder asks for launches that come to nothing, as fast as one connection takes them, until one is refused for their number; then it
// goes on for a while. It prints how many were answered with what.
const flooder = `
import collections, socket, threading, time
body = b'{"command":["true"],"limits":{"memory_max":"lots"}}'
request = b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
s = socket.socket(socket.AF_UNIX)
s.connect("/run/lictor/api.sock")
count, over = collections.Counter(), threading.Event()
def send():
    while not over.is_set():
        s.sendall(request * 20)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
waits, end, answers = set(), time.time() + 240, s.makefile("rb")
for line in answers:
    if line.startswith(b"HTTP/1.1 "):
        status = line.split()[1].decode()
        count[status] += 1
        if status == "429" and count["429"] == 1:
            end = time.time() + 15
            print("refused", flush=True)
    if line.startswith(b"Retry-After: "):
        waits.add(line.split()[1].decode())
    if time.time() > end:
        over.set()
print(dict(count), "wait", *waits)
`

// TestF1LaunchFlood: a user asks for launches without end. What is above the quota is refused with the time to wait, and never gets as far
// as systemd; another user's run starts and ends meanwhile, and the one's own runs are not touched.
func TestF1LaunchFlood(t *testing.T) {
	throughDaemon(t, func(b *bed) {
		p := b.start("run", "--analysis-id", "own", "--", "sleep", "600")
		id := b.live()
		flood := b.command("python3", "-c", flooder)
		out, err := flood.StdoutPipe()
		must(err)
		flood.Stderr = os.Stderr
		must(flood.Start())
		said := ""
		for buf := make([]byte, 4096); !strings.Contains(said, "refused"); {
			n, err := out.Read(buf)
			said += string(buf[:n])
			if err != nil {
				b.Fatalf("nothing was refused: %v: %s", err, said)
			}
		}
		bob := newUserBed(b.T, ModeSystem, "bob")
		bob.host = b.host
		begun := time.Now()
		if r := bob.lictor("run", "--", "sh", "-c", "exit 4"); r.code != 4 {
			b.Errorf("a run of another user during the flood: %+v", r)
		}
		b.Logf("a run of another user took %v during the flood", time.Since(begun))
		if units := b.systemctl("list-units", "--all", "--no-legend", "--plain", "lictor-launch-*"); units != "" {
			b.Errorf("units of launches: %s", units)
		}
		for buf := make([]byte, 4096); ; {
			n, err := out.Read(buf)
			said += string(buf[:n])
			if err != nil {
				break
			}
		}
		if err := flood.Wait(); err != nil {
			b.Errorf("the flood: %v", err)
		}
		b.Logf("%s", said)
		var admitted int
		if _, rest, ok := strings.Cut(said, "'400': "); ok {
			_, _ = fmt.Sscan(rest, &admitted)
		}
		if admitted < maxLaunchesPerUser || !strings.Contains(said, "'429': ") || !strings.Contains(said, "wait 10\n") || strings.Contains(said, "'5") {
			b.Errorf("the flood was answered with %s, want at least %d admitted, and 429 with when to try again", said, maxLaunchesPerUser)
		}
		if len(b.members(id)) == 0 {
			b.Error("the own run did not outlive it")
		}
		if r := b.lictor("stop", "own"); r.code != 0 {
			b.Errorf("stop: %+v", r)
		}
		b.want(b.finishCommand(p), 143, events.StateKilled, events.ReasonStop, b.me())
	})
}
