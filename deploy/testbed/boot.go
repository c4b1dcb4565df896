package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bootDeadline is far above the 20 to 60 seconds a boot takes on a busy host: past it something is broken.
const bootDeadline = 5 * time.Minute

// boot starts a new guest and returns when it can be used: systemd has finished booting, and the managers of alice
// and bob answer.
func boot(ctx context.Context, name, suite string, h hardware, kept bool) (*guest, error) {
	img, err := ensureImage(ctx, suite)
	if err != nil {
		return nil, err
	}
	if err := needTools(ctx, guestTools...); err != nil { // the image may have come with a cache
		return nil, err
	}
	if err := sweepGuests(); err != nil {
		return nil, err
	}
	g, err := newGuest(ctx, name, suite, h, kept)
	if err != nil {
		return nil, err
	}
	p := startProgress(name + " boot")
	err = bootAndWait(ctx, p, g, img)
	took := p.stop()
	if err != nil {
		err = fmt.Errorf("guest %q: boot: %w\n%w", name, err, g.gone())
		g.kill()
		return nil, err
	}
	say("%s: up after %.0fs", name, took.Seconds())
	return g, nil
}

var errEnded = errors.New("ended early")

func bootAndWait(ctx context.Context, p *progress, g *guest, img image) error {
	ctx, cancel := context.WithTimeout(ctx, bootDeadline)
	defer cancel()
	p.setStage("kernel")
	exited, err := startQEMU(g, img)
	if err != nil {
		return err
	}
	ready := make(chan error, 1) // one slot: an early end of qemu leaves nobody to read
	go func() { ready <- waitReady(ctx, p, g) }()
	select {
	case err := <-ready:
		return err
	case err := <-exited:
		return fmt.Errorf("qemu: %w", errors.Join(errEnded, err))
	}
}

// readyScript ends when the guest is ready, and prints the failed units.
const readyScript = `
systemctl is-system-running --wait >/dev/null
until systemctl is-active --quiet user@1000.service user@1001.service; do sleep 0.2; done
systemctl --failed --no-legend --plain`

func waitReady(ctx context.Context, p *progress, g *guest) error {
	if err := waitSSHD(ctx, g.Port); err != nil {
		return err
	}
	p.setStage("systemd")
	if err := g.startMaster(ctx); err != nil {
		return err
	}
	out, err := g.output(ctx, readyScript)
	if err != nil {
		return err
	}
	if out != "" {
		say("%s: degraded: %s", g.Name, out)
	}
	return nil
}

// waitSSHD returns when the guest's sshd greets. qemu accepts a connection to the forwarded port from the start, so
// a connection alone says nothing.
func waitSSHD(ctx context.Context, port int) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if greets(ctx, port) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("sshd does not greet: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func greets(ctx context.Context, port int) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return false
	}
	b := make([]byte, 4)
	_, err = conn.Read(b)
	return err == nil && string(b) == "SSH-"
}

// errPanicked is why a guest is gone whose kernel has panicked.
var errPanicked = errors.New("its kernel panicked")

// gone is what is to be said of a guest that is gone, or will not come up: its last words and, if they say so, errPanicked.
func (g *guest) gone() error {
	if g.panicked() {
		return fmt.Errorf("%w\n%s", errPanicked, g.lastWords())
	}
	return errors.New(g.lastWords())
}

// lastWords is what qemu and the guest's console said at the end.
func (g *guest) lastWords() string {
	var words []string
	for _, path := range []string{g.qemuLog(), g.console()} {
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
			words = append(words, tailLines(b, 60))
		}
	}
	return strings.Join(words, "\n")
}

// keptGuest returns the kept guest of that name, and boots it when there is none.
func keptGuest(ctx context.Context, name, suite string, h hardware) (*guest, error) {
	dir, err := guestsDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(dir, name+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	g, err := findGuest(ctx, name)
	if errors.Is(err, errNoGuest) {
		return boot(ctx, name, suite, h, true)
	}
	if err == nil && suite != "" && suite != g.Suite {
		return nil, &hintError{fmt.Errorf("guest %q: runs %s, not %s", name, g.Suite, suite), "testbed down --name " + name}
	}
	return g, err
}
