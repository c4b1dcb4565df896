package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A tree is a checkout's files that tests read: everything git knows or would add, but for Go source, which is in
// the test binaries already. Go files in a testdata directory are data.
type tree struct {
	root string // of the checkout
	tar  []byte
	hash string
}

// largestTreeFile keeps things that are no test data (a core file, a disk image) out of the guest.
const largestTreeFile = 16 << 20

// treeAround reads the tree of the checkout that dir is in.
func treeAround(ctx context.Context, dir string) (*tree, error) {
	root, err := checkoutRoot(ctx, dir)
	if err != nil {
		return nil, err
	}
	return readTree(ctx, root)
}

func readTree(ctx context.Context, root string) (*tree, error) {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("tree %q: git ls-files: %w", root, err)
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(names)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Compact(names) {
		if filepath.Ext(name) == ".go" && !strings.Contains(name, "testdata/") {
			continue
		}
		if err := addFile(w, root, name); err != nil {
			return nil, fmt.Errorf("tree %q: %w", root, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("tree %q: %w", root, err)
	}
	return &tree{root, b.Bytes(), hashOf(b.Bytes())}, nil
}

// addFile adds a file unless it has gone since git listed it. Times and owners are left out: equal trees have equal
// hashes.
func addFile(w *tar.Writer, root, name string) error {
	path := filepath.Join(root, name)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (info.IsDir() || info.Size() > largestTreeFile) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	mode := int64(0o644 | info.Mode()&0o111)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(b)), Mode: mode}); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// checkoutRoot returns the top of the checkout that dir is in.
func checkoutRoot(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("checkout of %q: git rev-parse: %w", dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}
