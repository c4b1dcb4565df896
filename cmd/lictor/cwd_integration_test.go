//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestX7: the directory of a run is swapped with a symbolic link to one that only root may enter, all the time while runs are
// launched. A run is where its user may be, or it is not.
func TestX7(t *testing.T) {
	eachWay(t, func(b *bed) {
		secret, err := os.MkdirTemp("/root", "lictor-test-")
		must(err)
		b.Cleanup(func() { _ = os.RemoveAll(secret) })
		must(os.WriteFile(filepath.Join(secret, "which"), []byte("ROOT'S\n"), 0o600))
		if b.uid() == 0 { // who may enter it
			must(os.WriteFile(filepath.Join(secret, "which"), []byte("linked\n"), 0o600))
		}
		own, at := filepath.Join(b.dir, "own"), filepath.Join(b.dir, "at")
		must(os.Mkdir(own, 0o755))
		must(os.WriteFile(filepath.Join(own, "which"), []byte("own\n"), 0o644))
		must(os.Symlink(own, at))
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				next := at + ".next"
				_ = os.Symlink([]string{secret, own}[i%2], next)
				_ = os.Rename(next, at)
			}
		}()
		ran, refused := 0, 0
		for range 8 {
			r := b.lictor("run", "-C", at, "--", "sh", "-c", "cat which; cat "+at+"/which 2>/dev/null; exit 0")
			switch {
			case strings.Contains(r.stdout, "ROOT'S"):
				b.Errorf("the user was in root's directory: %+v", r)
			case r.code == 0 && strings.Contains(r.stdout, "own"), r.code == 0 && b.uid() == 0:
				ran++
			case r.code == exitRefused && strings.Contains(r.stderr, "permission denied"):
				refused++
			default:
				b.Errorf("neither run nor refused: %+v", r)
			}
		}
		for range 3 {
			r := b.lictor("run", "-d", "-C", at, "--", "sh", "-c", "cat which > "+b.dir+"/found")
			if r.code == 0 {
				b.lictor("wait", strings.TrimSpace(r.stdout))
			}
			if text, _ := os.ReadFile(b.dir + "/found"); strings.Contains(string(text), "ROOT'S") {
				b.Errorf("a detached run was in root's directory: %+v", r)
			}
		}
		close(stop)
		<-stopped
		b.Logf("%d ran, %d were refused", ran, refused)
	})
}
