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

// An image is the directory of a built image.
type image string

func (i image) disk() string   { return filepath.Join(string(i), "root.img") }
func (i image) kernel() string { return filepath.Join(string(i), "vmlinux") }
func (i image) initrd() string { return filepath.Join(string(i), "initrd.img") }

func runImage(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("image: one suite wanted")
	}
	img, err := ensureImage(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Println(string(img))
	return nil
}

// ensureImage returns the image of a suite and builds it first when the cache has none for the present recipe.
func ensureImage(ctx context.Context, suite string) (image, error) {
	if err := checkSuite(suite); err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	_, public, err := sshKey(ctx, cache)
	if err != nil {
		return "", err
	}
	key, err := imageKey(suite, public)
	if err != nil {
		return "", err
	}
	img := image(filepath.Join(cache, "images", key))
	unlock, err := lock(ctx, string(img)+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(img.disk()); err == nil {
		return img, nil
	}
	if err := needTools(ctx, guestTools...); err != nil {
		return "", err
	}
	p := startProgress(suite + " image")
	err = buildImage(ctx, p, suite, public, img)
	took := p.stop()
	if err != nil {
		return "", fmt.Errorf("image %q: %w\n%s", key, err, p.tail(20))
	}
	say("%s image: built in %.0fs", suite, took.Seconds())
	return img, nil
}

// buildImage makes the image in a temporary directory beside its place and renames it there when it is complete.
func buildImage(ctx context.Context, p *progress, suite, publicKey string, img image) error {
	tmp, err := os.MkdirTemp(filepath.Dir(string(img)), ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, recipe, out := filepath.Join(tmp, "root"), filepath.Join(tmp, "recipe"), image(filepath.Join(tmp, "image"))
	if err := os.CopyFS(tmp, recipeFS); err != nil {
		return err
	}
	p.setStage("mmdebstrap")
	if err := os.Mkdir(string(out), 0o700); err != nil {
		return err
	}
	if err := debstrap(ctx, p, suite, root, "LICTOR_RECIPE="+recipe, "LICTOR_PUBKEY="+publicKey, "LICTOR_OUT="+string(out)); err != nil {
		return err
	}
	p.setStage("mkfs.ext4")
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-L", "root", "-m", "0", "-d", root, out.disk(), imageSize)
	mkfs.Stdout, mkfs.Stderr = p, p
	if err := mkfs.Run(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w", err)
	}
	return os.Rename(string(out), string(img))
}

func debstrap(ctx context.Context, p *progress, suite, root string, env ...string) error {
	packages, err := recipePackages()
	if err != nil {
		return err
	}
	args := append(slices.Clone(debstrapOptions), "--include="+strings.Join(packages, ","), suite, root)
	args = append(args, mirror(ctx)...)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mmdebstrap: %w", err)
	}
	return nil
}
