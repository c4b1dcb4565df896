package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// powerInit is /init of a machine whose only program is the test binary of ./events, which writes to a store on its disk, and says so
// on the console, until the power fails. The binary is process 1.
const powerInit = `#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev
while read -r module; do
	busybox insmod "/modules/$module"
done </order
busybox mount -t ext4 /dev/vda /new
busybox mkdir -p /tmp
export LICTOR_TEST_STORE=/new/state/lictor.db LICTOR_TEST_FOREVER=1 LICTOR_TEST_LIST=1
exec /events.test
`

// longestWriting is how long after its first record a machine lives at most.
const longestWriting = 3 * time.Second

// bootTime is how long a machine may take until it has written its first record.
const bootTime = 2 * time.Minute

// A powerTest is one disk, and what was acknowledged to be on it.
type powerTest struct {
	img          image
	disk, initrd string
	acknowledged map[string]bool
}

// runPower kills machines while they write records. Whatever was acknowledged has to be there at the next boot, in a database that is
// sound.
func runPower(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("power", flag.ExitOnError)
	suite := fs.String("suite", "trixie", "the suite whose kernel it is")
	rounds := fs.Int("rounds", 50, "how often the power fails")
	_ = fs.Parse(args)
	if err := needTools(ctx, "qemu-system-x86_64", "mkfs.ext4"); err != nil {
		return err
	}
	img, err := ensureImage(ctx, *suite)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "testbed-power-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := &powerTest{img: img, disk: filepath.Join(dir, "disk"), initrd: filepath.Join(dir, "initrd"), acknowledged: map[string]bool{}}
	if err := p.prepare(ctx, dir); err != nil {
		return err
	}
	start := time.Now()
	for round := range *rounds + 1 { // the last machine tells what its predecessor left
		before := len(p.acknowledged)
		if err := p.round(ctx, fmt.Sprintf("r%02d", round)); err != nil {
			return fmt.Errorf("power: after %d failures: %w", round, err)
		}
		say("power: %d failures: all %d acknowledged records were there; %d more", round, before, len(p.acknowledged)-before)
	}
	say("power: failed %d times in %.0fs", *rounds, time.Since(start).Seconds())
	return nil
}

// prepare makes the disk and an initrd that is the image's and the test binary.
func (p *powerTest) prepare(ctx context.Context, dir string) error {
	listed, err := listPackages(ctx, "./events")
	if err != nil {
		return err
	}
	b := &build{pkg: listed[0]}
	if b.compile(ctx, dir); b.err != nil {
		return b.err
	}
	binary, err := os.ReadFile(b.binary)
	if err != nil {
		return err
	}
	base, err := os.ReadFile(p.img.initrd())
	if err != nil {
		return err
	}
	// The kernel unpacks what follows an archive over it (Documentation/driver-api/early-userspace/buffer-format.rst).
	var archive bytes.Buffer
	archive.Write(base)
	for archive.Len()%4 != 0 {
		archive.WriteByte(0)
	}
	for _, f := range []struct {
		name string
		mode int
		data []byte
	}{{"init", 0o100755, []byte(powerInit)}, {"events.test", 0o100755, binary}, {"TRAILER!!!", 0, nil}} {
		cpioEntry(&archive, f.name, f.mode, f.data)
	}
	if err := os.WriteFile(p.initrd, archive.Bytes(), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", p.disk, "128M").CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

// cpioEntry appends a file in the format "newc", which is cpio(5)'s and the kernel's.
func cpioEntry(w *bytes.Buffer, name string, mode int, data []byte) {
	fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	w.WriteString(name + "\x00")
	for w.Len()%4 != 0 {
		w.WriteByte(0)
	}
	w.Write(data)
	for w.Len()%4 != 0 {
		w.WriteByte(0)
	}
}

// round boots a machine, which says what its disk has and begins to write records whose names begin with name. A moment after the first
// the power fails.
func (p *powerTest) round(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	runtime.LockOSThread() // the parent-death signal is this thread's
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", accel(), "-cpu", "max", "-m", "512", "-display", "none", "-no-reboot", "-nodefaults",
		"-kernel", p.img.kernel(), "-initrd", p.initrd, "-append", "console=ttyS0 mitigations=off quiet panic=-1 LICTOR_TEST_NAME="+name,
		"-drive", "file="+p.disk+",if=virtio,format=raw", "-serial", "stdio", "-nic", "user,model=virtio-net-pci")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var failed atomic.Bool
	var missing []string
	has, wrote, said := map[string]bool{}, []string{}, ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, id, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch {
		case word == "has":
			has[id] = true
		case word == "sound":
			for id := range p.acknowledged {
				if !has[id] {
					missing = append(missing, id)
				}
			}
		case strings.HasPrefix(word, name+"-"):
			if wrote = append(wrote, word); len(wrote) == 1 {
				time.AfterFunc(rand.N(longestWriting), func() {
					failed.Store(true)
					_ = cmd.Process.Kill()
				})
			}
		default:
			said += lines.Text() + "\n"
		}
	}
	_ = cmd.Wait()
	switch {
	case len(missing) > 0:
		return fmt.Errorf("%d records were acknowledged and are not there: %s", len(missing), strings.Join(missing, " "))
	case !failed.Load():
		return fmt.Errorf("the machine ended by itself, or wrote nothing in %v:\n%s", bootTime, tailLines([]byte(said), 20))
	}
	for _, id := range wrote {
		p.acknowledged[id] = true
	}
	return nil
}
