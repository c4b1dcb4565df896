package scope

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/scidex/lictor/cgroup"
)

// started runs a shell script and returns it when it has said something, with what it said.
func started(t *testing.T, script string) (root relative, said string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	said, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	st, err := cgroup.ReadStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return relative{Stat: st}, strings.TrimSpace(said)
}

func needChildren(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		t.Skip("this kernel has no CONFIG_PROC_CHILDREN")
	}
}

func pidsOf(all []cgroup.Stat) (pids []int) {
	for _, st := range all {
		pids = append(pids, st.PID)
	}
	slices.Sort(pids)
	return pids
}

// The descent finds who a look at the whole table finds: children, and theirs.
func TestDescend(t *testing.T) {
	needChildren(t)
	root, said := started(t, `sh -c 'sleep 60 & sh -c "sleep 60 & echo \$\$; wait" & wait' & wait`)
	inner, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	f := family{root.PID: root}
	table, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	want := append(pidsOf(f.newcomers(table)), root.PID)
	slices.Sort(want)
	got, err := f.descend()
	if err != nil {
		t.Fatal(err)
	}
	if pids := pidsOf(got); len(pids) < 4 || !slices.Equal(pids, want) || !slices.Contains(pids, inner) {
		t.Errorf("got %v, want %v, with %d", pids, want, inner)
	}
	other := root
	other.StartTicks++
	if got, err := (family{root.PID: other}).descend(); err != nil || len(got) != 0 {
		t.Errorf("the number was given to another: got %v, %v", got, err)
	}
}

// A child that stays is never missed, however fast others come and go beside it.
func TestDescendWhileChildrenEnd(t *testing.T) {
	needChildren(t)
	root, said := started(t, `sleep 60 & echo $!; while :; do true & true & true & wait %2 %3 %4 2>/dev/null; done`)
	stays, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	f := family{root.PID: root}
	whole := 0
	for range 500 {
		all, err := f.descend()
		if err != nil { // below reads the whole table then
			whole++
			continue
		}
		if !slices.Contains(pidsOf(all), stays) {
			t.Fatalf("%d is missing in %v", stays, pidsOf(all))
		}
	}
	if whole > 250 {
		t.Errorf("%d of 500 looks had to read the whole table", whole)
	}
}

func TestReadChildrenOfNobody(t *testing.T) {
	if kids, err := childrenOf(1 << 30); err == nil || len(kids) != 0 {
		t.Errorf("got %v, %v", kids, err)
	}
}
