package main

import (
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed all:recipe
var recipeFS embed.FS

// suites are the Debian releases that guests are made of, with the major version of systemd each has; zero where
// it moves.
var suites = map[string]int{
	"bookworm": 252,
	"trixie":   257,
	"sid":      0,
}

func checkSuite(suite string) error {
	if _, ok := suites[suite]; ok {
		return nil
	}
	var names []string
	for name := range suites {
		names = append(names, name)
	}
	slices.Sort(names)
	return &hintError{fmt.Errorf("suite %q: unknown", suite), "suites are " + strings.Join(names, ", ")}
}

// recipePackages returns the packages of a guest.
func recipePackages() ([]string, error) {
	f, err := recipeFS.Open("recipe/packages.txt")
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	defer f.Close()
	var packages []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			packages = append(packages, line)
		}
	}
	return packages, nil
}

// imageSize is the size of the root file system; the file is sparse.
const imageSize = "6G"

// debstrapOptions are part of the recipe.
var debstrapOptions = []string{
	"--variant=minbase", "--format=directory",
	// It would empty /etc/machine-id, and systemd take each boot for the first one.
	"--skip=cleanup/reproducible",
	// The Release file of sid, and of a mirror's snapshot, may have expired.
	`--aptopt=Acquire::Check-Valid-Until "false"`,
	"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*",
	// boot.sh makes the initrd.
	"--dpkgopt=path-exclude=/etc/kernel/postinst.d/initramfs-tools",
	// No test uses the database server's own cluster, and making it takes as long as all the rest.
	`--essential-hook=mkdir -p "$1/etc/postgresql-common" && echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"`,
	`--customize-hook=sh "$LICTOR_RECIPE/customize.sh" "$1"`,
}

// imageKey names an image by everything that goes into it but the state of the archive.
func imageKey(suite, publicKey string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%q\n", suite, publicKey, imageSize, debstrapOptions)
	err := fs.WalkDir(recipeFS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipeFS.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("recipe: %w", err)
	}
	return suite + "-" + hex.EncodeToString(h.Sum(nil))[:12], nil
}
