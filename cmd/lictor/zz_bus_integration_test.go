//go:build integration

package main

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

// TestD1: daemon-reload, daemon-reexec and restarts of dbus in a loop while runs start and end.
func TestD1(t *testing.T) {
	asRoot(t, func(b *bed) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				switch i % 4 {
				case 0, 2:
					_ = exec.Command("systemctl", "daemon-reload").Run()
				case 1:
					_ = exec.Command("systemctl", "daemon-reexec").Run()
				case 3:
					_ = exec.Command("systemctl", "restart", "dbus").Run()
				}
				time.Sleep(300 * time.Millisecond)
			}
		})
		var mu sync.Mutex
		started, refused := 0, 0
		var runners sync.WaitGroup
		for i := range 4 {
			runners.Go(func() {
				for j := range 10 {
					args, code := []string{"--", "sh", "-c", "cat /proc/self/cgroup; exit 7"}, 7
					if j%3 == 1 {
						args, code = []string{"-m", "6M", "--", "tail", "/dev/zero"}, 137
					}
					p := b.prepare(append([]string{"run", "-q", "--analysis-id", fmt.Sprintf("d1-%d-%d", i, j)}, args...)...)
					_ = p.Run()
					mu.Lock()
					switch p.ProcessState.ExitCode() {
					case code:
						started++
						if code == 7 && !strings.Contains(p.out.String(), "/lictor.slice/lictor-") {
							b.Errorf("it ran unconfined: %s", p.out.String())
						}
					case exitRefused:
						refused++
						b.Logf("refused: %s", p.err.String())
						if p.out.Len() > 0 {
							b.Errorf("refused, but something ran: %s", p.out.String())
						}
					default:
						b.Errorf("exit status %d: %s", p.ProcessState.ExitCode(), p.err.String())
					}
					mu.Unlock()
				}
			})
		}
		runners.Wait()
		close(stop)
		wg.Wait()
		// logind and the user managers stay without a bus after dbus was restarted.
		for _, unit := range []string{"systemd-logind", "user@1000", "user@1001"} {
			if out, err := exec.Command("systemctl", "restart", unit).CombinedOutput(); err != nil {
				b.Errorf("restart %s: %v: %s", unit, err, out)
			}
		}
		b.Logf("%d confined, %d refused", started, refused)
		if started == 0 {
			b.Error("no launch succeeded")
		}
		b.lictor("watch", "--once")
		for _, run := range b.runs() {
			if run.State == events.StateLost {
				b.Errorf("lost: %+v", run)
			}
			if run.Reason == events.ReasonStartFailed {
				continue
			}
			if len(run.Command) == 2 {
				b.wantRun(run, events.StateKilled, events.ReasonOOM, "kernel")
			} else {
				b.wantRun(run, events.StateFailed, events.ReasonNone, "")
			}
		}
	})
}
