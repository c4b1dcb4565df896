package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// hostTools names the Debian packages of each program of the host that the test bed, or make, calls.
var hostTools = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"mmdebstrap":         "mmdebstrap",
	"mkfs.ext4":          "e2fsprogs",
	"gcc":                "gcc libc6-dev",
	"chromium":           "chromium fonts-dejavu-core",
	"pg_ctlcluster":      "postgresql",
	"mypy":               "mypy",
	"ssh":                "openssh-client",
	"ssh-keygen":         "openssh-client",
}

func runNeed(ctx context.Context, args []string) error {
	for _, program := range args {
		if hostTools[program] == "" {
			return fmt.Errorf("need: program %q: package unknown", program)
		}
	}
	return needTools(ctx, args...)
}

// guestTools are what an image and a guest of it take.
var guestTools = []string{"mmdebstrap", "mkfs.ext4", "qemu-system-x86_64", "ssh", "ssh-keygen"}

// needTools makes sure that the programs are there. As root on a Debian it installs the packages that are missing;
// otherwise it says which they are.
func needTools(ctx context.Context, programs ...string) error {
	if len(missingPackages(programs)) == 0 {
		return nil
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(cache, "apt.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	missing := missingPackages(programs) // another testbed may have installed them while we waited
	if len(missing) == 0 {
		return nil
	}
	hint := "apt-get install --no-install-recommends " + strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return &hintError{fmt.Errorf("host: packages missing: %s", strings.Join(missing, " ")), hint}
	}
	if err := installPackages(ctx, missing); err != nil {
		return &hintError{err, hint}
	}
	return nil
}

func missingPackages(programs []string) []string {
	var missing []string
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, strings.Fields(hostTools[program])...)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func installPackages(ctx context.Context, packages []string) error {
	p := startProgress("host packages")
	defer p.stop()
	for _, args := range [][]string{
		{"update"},
		append([]string{"install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"}, packages...),
	} {
		p.setStage("apt-get " + args[0])
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = p, p
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("host: %s: %w\n%s", cmd, err, p.tail(10))
		}
	}
	return nil
}

// mirror is the Debian archive that images are made from: LICTOR_TESTBED_MIRROR, else the one that the host's own
// apt uses, else none: mmdebstrap then takes Debian's public one.
func mirror(ctx context.Context) []string {
	if m := os.Getenv("LICTOR_TESTBED_MIRROR"); m != "" {
		return []string{m}
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Origin: Debian", "Label: Debian", "Identifier: Packages").Output()
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 0 {
		return fields[:1]
	}
	return nil
}

// sshKey returns the path of the private key for the guests, made on first use, and the text of its public half.
func sshKey(ctx context.Context, cache string) (path, public string, err error) {
	path = filepath.Join(cache, "id_ed25519")
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return "", "", err
	}
	defer unlock()
	if _, err := os.Stat(path + ".pub"); errors.Is(err, os.ErrNotExist) {
		if err := needTools(ctx, "ssh-keygen"); err != nil {
			return "", "", err
		}
		out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lictor-testbed", "-f", path).CombinedOutput()
		if err != nil {
			return "", "", fmt.Errorf("ssh key: %w: %s", err, out)
		}
	}
	b, err := os.ReadFile(path + ".pub")
	if err != nil {
		return "", "", fmt.Errorf("ssh key: %w", err)
	}
	return path, strings.TrimSpace(string(b)), nil
}
