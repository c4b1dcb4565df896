package main

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"path/filepath"
)

// Where things are in a guest: readable for alice and bob, because tests run their own binary and the demo
// programs as them. Both are named by their content, so a second copy costs nothing and a run in progress keeps
// the files it began with.
const (
	guestTrees    = "/srv/lictor/tree"
	guestBinaries = "/srv/lictor/bin"
)

// A shipment is a test binary with the tree it runs in, and the places of both in a guest.
type shipment struct {
	tree   *tree
	binary []byte
	name   string // of the binary
	dir    string // of the package, relative to the root of the checkout
}

func (s *shipment) guestTree() string   { return path.Join(guestTrees, s.tree.hash) }
func (s *shipment) guestBinary() string { return path.Join(guestBinaries, hashOf(s.binary), s.name) }
func (s *shipment) guestDir() string    { return path.Join(s.guestTree(), filepath.ToSlash(s.dir)) }

// ship makes sure that the guest has the tree and the binary.
func (g *guest) ship(ctx context.Context, s *shipment) error {
	has, err := g.output(ctx, fmt.Sprintf("test -e %s && printf t; test -e %s && printf b; :", quote(s.guestTree()), quote(s.guestBinary())))
	if err != nil {
		return err
	}
	if has != "t" && has != "tb" {
		if err := g.install(ctx, s.tree.tar, s.guestTree(), `tar -xf - -C "$tmp"`); err != nil {
			return err
		}
	}
	if has != "b" && has != "tb" {
		return g.install(ctx, s.binary, path.Dir(s.guestBinary()), `cd "$tmp" && cat >`+quote(s.name)+" && chmod 755 "+quote(s.name))
	}
	return nil
}

// keptInGuest is how many trees, and how many binaries, a guest that is kept for weeks collects.
const keptInGuest = 30

// install makes the directory dir, complete or not at all, and removes its oldest siblings. unpack is shell text that
// fills the directory $tmp from its standard input.
func (g *guest) install(ctx context.Context, data []byte, dir, unpack string) error {
	return g.send(ctx, bytes.NewReader(data), fmt.Sprintf(`set -e
mkdir -p %[1]s && tmp=$(mktemp -d %[1]s/.XXXXXX) && chmod 755 "$tmp"
%[2]s
mv -T "$tmp" %[3]s 2>/dev/null || rm -rf "$tmp" # another was quicker
ls -dt %[1]s/* | tail -n +%[4]d | xargs -r rm -rf`,
		quote(path.Dir(dir)), unpack, quote(dir), keptInGuest+1))
}
