package cgroup_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cgroup/cgrouptest"
)

func TestXattrs(t *testing.T) {
	tree := cgrouptest.New(t)
	g := tree.Open("/a")
	if err := g.SetXattr("user.lictor.run", "7f3k9q2a"); errors.Is(err, cgroup.ErrUnsupported) {
		t.Skipf("the temporary directory has no extended attributes: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	testXattrs(t, g)
}

// testXattrs is what holds in a temporary directory and in the kernel.
func testXattrs(t *testing.T, g *cgroup.Group) {
	t.Helper()
	long := strings.Repeat("x", 3000)
	want := map[string]string{
		"user.lictor.run":      "7f3k9q2a",
		"user.lictor.analysis": "näme with\nnewline\x00and NUL",
		"user.lictor.empty":    "",
		"user.lictor.long":     long,
	}
	for name, value := range want {
		if err := g.SetXattr(name, value); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := g.Xattr(name); got != value || !ok || err != nil {
			t.Errorf("Xattr(%q) = %q, %t, %v", name, got, ok, err)
		}
	}
	if err := g.SetXattr("user.other", "1"); err != nil {
		t.Fatal(err)
	}
	got, err := g.Xattrs("user.lictor.")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := g.SetXattr("user.lictor.run", "changed"); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := g.Xattr("user.lictor.run"); got != "changed" {
		t.Errorf("after a change: %q", got)
	}
	for range 2 { // removing what is not there is no error
		if err := g.RemoveXattr("user.lictor.run"); err != nil {
			t.Error(err)
		}
	}
	if got, ok, err := g.Xattr("user.lictor.run"); got != "" || ok || err != nil {
		t.Errorf("after removal: %q, %t, %v", got, ok, err)
	}
	if got, err := g.Xattrs("user.none."); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v; want none", got, err)
	}
}
