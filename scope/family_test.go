package scope

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/scidex/lictor/cgroup"
)

func TestAdopterRefuses(t *testing.T) {
	const own = RunID("abcdefghjkmn")
	user := adopter{pid: 500, ancestors: map[int]bool{400: true}, uid: 1000, manager: User, run: own}
	root := adopter{pid: 500, ancestors: map[int]bool{400: true}, uid: 0, manager: System, run: own}
	rootUser := adopter{pid: 500, uid: 0, manager: User, run: own}
	fine := relative{Stat: cgroup.Stat{PID: 100, State: 'S'}, UID: 1000, Tgid: 100, Cgroup: "/user.slice/user-1000.slice/session-3.scope"}
	with := func(change func(*relative)) relative {
		r := fine
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name string
		who  adopter
		r    relative
		why  string // empty: adoptable
	}{
		{"own process", user, fine, ""},
		{"somebody's, by root", root, fine, ""},
		{"root's own user manager, somebody's", rootUser, fine, "it belongs to uid 1000"},
		{"another's", user, with(func(r *relative) { r.UID = 1001 }), "it belongs to uid 1001"},
		{"root's", user, with(func(r *relative) { r.UID = 0 }), "it belongs to uid 0"},
		{"init", root, with(func(r *relative) { r.PID, r.Tgid = 1, 1 }), "it is the init"},
		{"kernel thread", root, with(func(r *relative) { r.KernelThread = true }), "it is a thread of the kernel"},
		{"lictor itself", root, with(func(r *relative) { r.PID, r.Tgid = 500, 500 }), "that is lictor itself"},
		{"an ancestor of it", user, with(func(r *relative) { r.PID, r.Tgid = 400, 400 }), "lictor runs below it"},
		{"a thread", user, with(func(r *relative) { r.Tgid = 99 }), "it is a thread of process 99"},
		{"a zombie", user, with(func(r *relative) { r.State = 'Z' }), "it has ended"},
		{"in another run", user, with(func(r *relative) { r.Cgroup = "/lictor.slice/lictor-000000000000.slice/lictor-000000000000.scope" }),
			"it is in run 000000000000 already"},
		{"below the scope of another run", user, with(func(r *relative) { r.Cgroup = "/a/lictor-000000000000.slice/x/y" }), "it is in run"},
		{"in the run that is being made", user, with(func(r *relative) { r.Cgroup = "/lictor.slice/" + own.Ledger() + "/" + own.Scope() }), ""},
		{"a slice that looks like ours", user, with(func(r *relative) { r.Cgroup = "/lictor-exp.slice/x.scope" }), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.who.refuses(tt.r)
			var refused *AdoptError
			switch {
			case tt.why == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case tt.why != "" && (!errors.As(err, &refused) || !strings.HasPrefix(refused.Why, tt.why) || refused.PID != tt.r.PID):
				t.Errorf("got %v, want %q", err, tt.why)
			}
		})
	}
}

func TestFamilyNewcomers(t *testing.T) {
	st := func(pid, ppid int, ticks uint64) cgroup.Stat {
		return cgroup.Stat{PID: pid, PPID: ppid, StartTicks: ticks, State: 'S'}
	}
	zombie := st(13, 10, 5)
	zombie.State = 'Z'
	known := family{10: {Stat: st(10, 1, 3)}}
	for _, tt := range []struct {
		name string
		f    family
		all  []cgroup.Stat
		want []int
	}{
		{"nobody else", known, []cgroup.Stat{st(1, 0, 1), st(10, 1, 3), st(20, 1, 4)}, nil},
		{"children and theirs, in any order", known, []cgroup.Stat{st(12, 11, 9), st(11, 10, 7), st(10, 1, 3), st(20, 1, 4)}, []int{11, 12}},
		{"a zombie is not wanted", known, []cgroup.Stat{st(10, 1, 3), zombie}, nil},
		{"the number was given to another", known, []cgroup.Stat{st(10, 1, 99), st(11, 10, 100)}, nil},
		{"known already", family{10: {Stat: st(10, 1, 3)}, 11: {Stat: st(11, 10, 7)}}, []cgroup.Stat{st(10, 1, 3), st(11, 10, 7)}, nil},
		{"its parent ended, it is still family", family{10: {Stat: st(10, 1, 3)}, 11: {Stat: st(11, 10, 7)}},
			[]cgroup.Stat{st(11, 1, 7), st(12, 11, 8)}, []int{12}},
		{"a circle, torn by reading one after the other", known, []cgroup.Stat{st(30, 31, 1), st(31, 30, 1)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []int
			for _, st := range tt.f.newcomers(tt.all) {
				got = append(got, st.PID)
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if uid, tgid, err := parseStatus(own); err != nil || uid != uint32(os.Getuid()) || tgid != os.Getpid() {
		t.Errorf("own: got %d, %d, %v", uid, tgid, err)
	}
	for _, text := range []string{"", "Name:\tx\n", "Tgid:\t7\n", "Uid:\t1\t1\t1\t1\n", "Tgid:\tx\nUid:\t1\n", "Tgid:\t7\nUid:\t-1\t0\n"} {
		if _, _, err := parseStatus([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
