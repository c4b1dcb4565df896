//go:build integration

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/scidex/lictor/events"
)

// TestW16: the host goes down while runs live. Whoever looks after the boot, the daemon, watch --once or a listing, records each as
// lost, once. The boot before is played: those runs found another boot id, and their units are gone.
func TestW16(t *testing.T) {
	const earlier = "00000000-1111-2222-3333-444444444444\n"
	looks := map[string]func(*bed){
		"ps":           func(b *bed) { b.lictor("ps") },
		"watch --once": func(b *bed) { b.lictor("watch", "--once") },
		"watch": func(b *bed) {
			d := b.daemonUnder("1s")
			b.eventually("the run is lost", func() bool { return len(b.alive()) == 0 })
			b.end(d, syscall.SIGTERM)
		},
	}
	for name, look := range looks {
		t.Run(name, func(t *testing.T) {
			eachManager(t, func(b *bed) {
				id := filepath.Join(b.dir, "boot_id")
				must(os.WriteFile(id, []byte(earlier), 0o644))
				p := b.prepare("run", "--on-owner-exit", "keep", "--", "sleep", "600")
				uid := b.user.Uid
				under := b.command("setpriv", append([]string{"--reuid=" + uid, "--regid=" + b.user.Gid, "--init-groups", installed()}, p.Args[1:]...)...)
				unshare := append([]string{"unshare", "--mount", "sh", "-c",
					"mount --bind " + id + " /proc/sys/kernel/random/boot_id && exec \"$@\"", "sh"}, under.Args...)
				p.Path, p.Args, p.SysProcAttr = "/usr/bin/unshare", unshare, nil
				if err := p.Start(); err != nil {
					b.Fatal(err)
				}
				run := b.live()
				if boot := b.record(run).BootID; boot+"\n" != earlier {
					b.Fatalf("boot id %q", boot)
				}
				b.signal(p, syscall.SIGKILL)
				b.finishCommand(p)
				b.systemctl("stop", run.Scope(), run.Ledger())
				b.eventually("its units are gone", b.released)
				for range 2 {
					look(b)
				}
				b.wantRun(b.record(run), events.StateLost, events.ReasonNone, "unknown")
				if e := b.record(run).Evidence; len(e) != 1 || e[0].Why != "the host went down while it ran" {
					b.Errorf("evidence %+v", e)
				}
				if n := len(b.events(events.RunID(run), events.KindEnded)); n != 1 {
					b.Errorf("%d ends on record", n)
				}
			})
		})
	}
}
