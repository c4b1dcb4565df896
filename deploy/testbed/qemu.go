package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// accel is how qemu runs a guest. Software emulation is the default: /dev/kvm may open and answer and still not run one.
func accel() string {
	if os.Getenv("LICTOR_TESTBED_ACCEL") == "kvm" {
		return "kvm"
	}
	return "tcg,thread=multi"
}

// processor is what a guest sees. With erms (fast strings) Linux copies and clears memory byte by byte, and emulation takes a turn for each
// byte: without it everything takes a sixth less. Supervisor access prevention and a fifth level of page tables cost a little, too.
const processor = "max,erms=off,smap=off,smep=off,la57=off"

// hardware is what a guest is made of.
type hardware struct {
	MiB  int `json:"mib"` // memory
	CPUs int `json:"cpus"`
}

var usual = hardware{MiB: 2048, CPUs: 2}

func (h *hardware) flags(fs *flag.FlagSet) {
	fs.IntVar(&h.MiB, "mem", usual.MiB, "memory of a guest in `MiB`")
	fs.IntVar(&h.CPUs, "cpus", usual.CPUs, "how many `processors` a guest has")
}

// qemuArgs is the command line of a guest.
func qemuArgs(g *guest, img image) []string {
	return []string{
		"-accel", accel(), "-cpu", processor, "-smp", strconv.Itoa(g.CPUs), "-m", strconv.Itoa(g.MiB),
		"-display", "none", "-no-reboot", "-nodefaults",
		"-kernel", img.kernel(), "-initrd", img.initrd(),
		"-append", "root=/dev/vda rw console=ttyS0 psi=1 mitigations=off quiet net.ifnames=0 panic=-1",
		"-drive", "file=" + img.disk() + ",if=virtio,format=raw,snapshot=on",
		"-serial", "file:" + g.console(),
		"-nic", fmt.Sprintf("user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:%d-:22", g.Port),
	}
}

// startQEMU starts the guest's process and records it. exited gets its end, once.
func startQEMU(g *guest, img image) (exited <-chan error, err error) {
	log, err := os.Create(g.qemuLog())
	if err != nil {
		return nil, fmt.Errorf("guest %q: %w", g.Name, err)
	}
	defer log.Close()
	cmd := exec.Command("qemu-system-x86_64", qemuArgs(g, img)...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C at the terminal is for this program, which ends the guest in its own way.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !g.Kept {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	started, ended := make(chan error, 1), make(chan error, 1) // one slot each, so the goroutine never waits
	go func() {
		// The parent-death signal comes at the end of the thread that forked: keep that thread.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("guest %q: qemu: %w", g.Name, err)
	}
	g.PID = cmd.Process.Pid
	if g.Start, _, err = processStart(g.PID); err != nil {
		return nil, fmt.Errorf("guest %q: qemu: %w", g.Name, err)
	}
	return ended, g.save()
}

// freePort returns a TCP port that was free on 127.0.0.1 a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// newGuest makes the directory of a guest. Somebody who holds a guest of that name keeps it.
func newGuest(ctx context.Context, name, suite string, h hardware, kept bool) (*guest, error) {
	dir, err := guestsDir()
	if err != nil {
		return nil, err
	}
	g := &guest{Name: name, Suite: suite, hardware: h, Kept: kept, dir: filepath.Join(dir, name)}
	if g.key, _, err = sshKey(ctx, filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if g.Port, err = freePort(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, fmt.Errorf("guest %q: %w", name, err)
	}
	if g.Sockets, err = os.MkdirTemp("", "testbed-"); err != nil {
		return nil, fmt.Errorf("guest %q: %w", name, err)
	}
	return g, nil
}
