package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"strconv"
)

// browseTag is the build tag of the tests that have a browser of this machine look at lictor in a guest.
const browseTag = "browse"

// dashboardPort is where lictor-http.socket listens.
const dashboardPort = 7717

// screenshots is where the tests leave what they saw.
const screenshots = "bin/screenshots"

// runBrowse installs lictor in a guest, as its README says, and has those tests look at it: an emulated browser would take minutes.
func runBrowse(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("browse", flag.ExitOnError)
	suite := fs.String("suite", "trixie", "the Debian `suite` of the guest")
	_ = fs.Parse(args)
	if err := checkSuite(*suite); err != nil {
		return err
	}
	if err := needTools(ctx, "chromium"); err != nil {
		return err
	}
	dieWithParent()
	r := &report{suite: *suite}
	for {
		g, err := boot(ctx, "browse-"+strconv.Itoa(os.Getpid()), *suite, usual, false)
		if err == nil {
			err = browse(ctx, g)
			if err != nil && g.panicked() {
				err = fmt.Errorf("guest %q: gone: %w", g.Name, g.gone())
			}
			g.kill()
		}
		if err == nil || !r.again(err) {
			return err
		}
	}
}

func browse(ctx context.Context, g *guest) error {
	t, err := treeAround(ctx, ".")
	if err != nil {
		return err
	}
	tree := path.Join(guestTrees, t.hash)
	if err := g.install(ctx, t.tar, tree, `tar -xf - -C "$tmp"`); err != nil {
		return err
	}
	if err := g.copyTo(ctx, "/srv/lictor/built", "bin/lictor"); err != nil {
		return err
	}
	if _, err := g.output(ctx, "LICTOR=/srv/lictor/built/lictor "+quote(tree+"/deploy/install.sh")+" install && systemctl enable -q --now lictor-http.socket lictor"); err != nil {
		return err
	}
	port, err := g.forward(ctx, dashboardPort)
	if err != nil {
		return err
	}
	shell, err := json.Marshal(g.ssh(ctx, "alice", nil).Args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-tags="+browseTag, "-count=1", "-v", "-artifacts", "-outputdir="+screenshots,
		"-run=^TestBrowserOnGuest$", "./cmd/lictor")
	cmd.Env = append(os.Environ(), fmt.Sprintf("LICTOR_TEST_SITE=http://127.0.0.1:%d", port), "LICTOR_TEST_SHELL="+string(shell))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return passExit(cmd.Run())
}

// forward makes a port of the guest's loopback interface one of the host's.
func (g *guest) forward(ctx context.Context, port int) (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	here := l.Addr().(*net.TCPAddr).Port
	l.Close() // ssh takes it; nobody else gets it so soon
	cmd := g.ssh(ctx, "root", []string{"-O", "forward", "-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:%d", here, port)})
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("guest %q: port %d: %w: %s", g.Name, port, err, out)
	}
	return here, nil
}
