//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// signalFlood is a program that sends signals to a connection of the system bus: argv is its name, a unit, how many.
const signalFlood = `import os, socket, struct, sys
to, unit, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_UNIX)
s.connect("/run/dbus/system_bus_socket")
s.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
assert s.recv(4096).startswith(b"OK")
s.sendall(b"BEGIN\r\n")
def pad(b, n): return b + b"\0" * (-len(b) % n)
def text(v): v = v.encode(); return struct.pack("<I", len(v)) + v + b"\0"
def field(code, sig, v): return bytes([code, 1]) + sig + b"\0" + (bytes([len(v)]) + v.encode() + b"\0" if sig == b"g" else text(v))
serial = 0
def message(kind, fields, sig="", body=b""):
    global serial
    serial += 1
    if sig: fields = fields + [(8, b"g", sig)]
    array = b""
    for f in fields: array = pad(array, 8) + field(*f)
    s.sendall(pad(b"l" + bytes([kind, 1, 1]) + struct.pack("<III", len(body), serial, len(array)) + array, 8) + body)
bus = [(1, b"o", "/org/freedesktop/DBus"), (2, b"s", "org.freedesktop.DBus"), (6, b"s", "org.freedesktop.DBus")]
message(1, bus + [(3, b"s", "Hello")])
manager = [(1, b"o", "/org/freedesktop/systemd1"), (2, b"s", "org.freedesktop.systemd1.Manager"), (6, b"s", to)]
props = [(1, b"o", "/org/freedesktop/systemd1/unit/x"), (2, b"s", "org.freedesktop.DBus.Properties"), (6, b"s", to)]
removed = pad(pad(struct.pack("<I", 1) + text("/org/freedesktop/systemd1/job/1"), 4) + text(unit), 4) + text("done")
for i in range(count):
    message(4, manager + [(3, b"s", "JobRemoved")], "uoss", removed)   # the copy of a real one
    message(4, manager + [(3, b"s", "JobRemoved")])                    # empty
    message(4, manager + [(3, b"s", "UnitRemoved")], "s", text(unit))  # of another type
    message(4, props + [(3, b"s", "PropertiesChanged")], "s", text(unit))
`

// TestD6Daemon: an ordinary user sends the daemon signals as systemd does, and such as nobody does. It counts them, and knows no
// other end of the run than the true one. It has to be kept from systemd's own socket for that: where it has that, it is on no bus,
// and nobody can send it anything.
func TestD6Daemon(t *testing.T) {
	asRoot(t, func(b *bed) {
		usual := b.daemon()
		if names := b.busNames(usual); len(names) > 0 {
			b.Errorf("the daemon of the system is on the bus as %v", names)
		}
		b.end(usual, syscall.SIGTERM)
		d := b.daemonUnder("2s", "unshare", "--mount", "sh", "-c", `mount --bind /dev/null /run/systemd/private && exec "$0" "$@"`)
		defer b.end(d, syscall.SIGTERM)
		id := b.leave(launches{"watched": {"--on-owner-exit", "keep", "-m", "12M", "--", "sh", "-c",
			"while ! test -e " + b.dir + "/go; do sleep 0.2; done; exec tail /dev/zero"}})["watched"]
		b.eventually("the daemon keeps it", func() bool { return strings.Contains(d.said(), "msg=keeping") })
		names := b.busNames(d)
		if len(names) == 0 {
			b.Fatal("the daemon is not on the system bus")
		}
		before := b.usage(d)
		const each = 2000
		alice := newUserBed(b.T, ModeUser, "alice")
		for _, name := range names {
			cmd := alice.command("python3", "-c", signalFlood, name, id.Scope(), strconv.Itoa(each))
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("flood: %v: %s", err, out)
			}
		}
		b.eventually("it has counted them", func() bool {
			_, rest, _ := strings.Cut(d.said(), "forged_signals=")
			n, _, _ := strings.Cut(rest, " ")
			for strings.Contains(rest, "forged_signals=") { // the last time that it said so
				_, rest, _ = strings.Cut(rest, "forged_signals=")
				n, _, _ = strings.Cut(rest, " ")
			}
			counted, _ := strconv.Atoi(n)
			return counted >= 4*each
		})
		if run := b.run(id); run.State.Final() || len(b.members(id)) == 0 {
			b.Errorf("the run is %s", run.State)
		}
		now := b.usage(d)
		b.Logf("before %+v, after %d forged signals %+v", before, 4*each*len(names), now)
		if now.anon > before.anon+16<<10 || now.files > before.files+4 || now.goroutines > before.goroutines+4 {
			b.Errorf("before %+v, after the flood %+v", before, now)
		}
		start := time.Now()
		must(os.WriteFile(b.dir+"/go", nil, 0o644))
		b.wantRun(b.ended(id), events.StateKilled, events.ReasonOOM, "kernel")
		b.Logf("recorded %v later", time.Since(start))
		b.eventually("it is released", b.released)
	})
}

// busNames are the names of a process's connections to the system bus.
func (b *bed) busNames(p *process) (names []string) {
	b.Helper()
	out, err := exec.Command("busctl", "--system", "list", "--unique", "--no-legend", "--no-pager").Output()
	must(err)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == fmt.Sprint(p.Process.Pid) {
			names = append(names, f[0])
		}
	}
	return names
}
