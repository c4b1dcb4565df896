package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

func newPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// What is handed over arrives byte by byte, and the error of the launch comes back as it was.
func TestHandover(t *testing.T) {
	want := handover{Run: scope.NewRunID(), Args: toBytes([]string{"run", "-d", "--", "echo", "\xff\n\x1b", ""}),
		Env: toBytes([]string{"A=b=c", "BYTES=\xfe\xff", "BIG=" + strings.Repeat("x", 1<<20)}), Dir: []byte("/tm\xff")}
	answers := []struct {
		name string
		err  error
		code int
		hint string
	}{
		{"started", nil, 0, ""},
		{"refused", withHint(withCode(exitRefused, errors.New("no")), "try this"), exitRefused, "try this"},
		{"not found", withCode(127, errors.New("not there")), 127, ""},
		{"plain", errors.New("plain"), exitFailure, ""},
		{"above the quota", explainProblem(client.NewProblem(429, "too many", "wait")), exitFailure, "wait"},
	}
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := newPair(t)
			go func() {
				h, err := receive(theirs)
				if err != nil {
					t.Error(err)
					return
				}
				if diff := cmp.Diff(want, h.handover, cmp.AllowUnexported(handover{})); diff != "" {
					t.Errorf("handed over: -want +got\n%s", diff)
				}
				h.answer(tt.err)
				h.answer(errors.New("a second answer"))
			}()
			err := converse(t.Context(), ours, want)
			if (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil && (err.Error() != tt.err.Error() || codeOf(err) != tt.code || hintOf(err) != tt.hint) {
				t.Errorf("got %v, code %d, hint %q; want %v, %d, %q", err, codeOf(err), hintOf(err), tt.err, tt.code, tt.hint)
			}
			was, refused := errors.AsType[*client.Problem](tt.err)
			if is, ok := errors.AsType[*client.Problem](err); ok != refused || ok && is.Status != was.Status {
				t.Errorf("got the problem %+v, want %+v", is, was)
			}
		})
	}
}

// A service that dies is noticed at once, before and after it has read the handover, and one that hangs in time.
func TestHandoverWithoutAnswer(t *testing.T) {
	h := handover{Run: scope.NewRunID(), Env: toBytes([]string{strings.Repeat("x", 1<<20)})}
	t.Run("dead before", func(t *testing.T) {
		ours, theirs := newPair(t)
		theirs.Close()
		if err := converse(t.Context(), ours, h); !errors.Is(err, errNoAnswer) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("dead after", func(t *testing.T) {
		ours, theirs := newPair(t)
		go func() {
			_, _ = receive(theirs)
			theirs.Close()
		}()
		if err := converse(t.Context(), ours, h); !errors.Is(err, errNoAnswer) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		ours, _ := newPair(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := converse(ctx, ours, h); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReceiveRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", "no json", `{"run":"../../etc"}`} {
		ours, theirs := newPair(t)
		if _, err := io.WriteString(ours, text); err != nil {
			t.Fatal(err)
		}
		ours.Close()
		if h, err := receive(theirs); err == nil {
			t.Errorf("%q: got %+v, want an error", text, h)
		}
	}
}

func TestParseRlimits(t *testing.T) {
	const header = "Limit                     Soft Limit           Hard Limit           Units     \n"
	tests := []struct {
		name, text string
		want       []scope.Rlimit
		bad        bool
	}{
		{name: "empty"},
		{name: "usual", text: header +
			"Max cpu time              unlimited            unlimited            seconds   \n" +
			"Max open files            1024                 524288               files     \n" +
			"Max nice priority         0                    0                    \n",
			want: []scope.Rlimit{{Name: "CPU", Soft: scope.NoLimit, Hard: scope.NoLimit}, {Name: "NOFILE", Soft: 1024, Hard: 524288}, {Name: "NICE"}}},
		{name: "unknown", text: header + "Max new things            7                    8                    things    \n"},
		{name: "cut", text: header + "Max open files            1024\n", bad: true},
		{name: "no number", text: header + "Max open files            many                 524288               files     \n", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRlimits(strings.NewReader(tt.text))
			if (err != nil) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// Every limit of this kernel has a name, and a process inherits the same whether it is looked at from within or from elsewhere.
func TestInherit(t *testing.T) {
	var own, other scope.ServiceSpec
	if err := inherit(&own); err != nil || len(own.Limits) != len(limitNames) {
		t.Errorf("got %d limits, %v; want %d", len(own.Limits), err, len(limitNames))
	}
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	if err := likeChildOf(&other, child.Process.Pid, uint32(os.Getuid())); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(own, other); diff != "" {
		t.Errorf("-own +other\n%s", diff)
	}
	if err := likeChildOf(&other, child.Process.Pid, 12345); err == nil {
		t.Error("somebody else's process")
	}
}

// A process that is somebody else's in any way gives nothing away, and one that says no umask has none to give.
func TestParseStatus(t *testing.T) {
	for _, tt := range []struct {
		text string
		mask os.FileMode
		bad  bool
	}{
		{"Name:\tx\nUmask:\t0027\nUid:\t7\t7\t7\t7\n", 0o027, false},
		{"Umask:\t0027\nUid:\t7\t0\t7\t7\n", 0, true},
		{"Umask:\t0027\nUid:\t7\t7\t7\n", 0, true},
		{"Umask:\t0027\n", 0, true},
		{"Uid:\t7\t7\t7\t7\n", 0, true},
		{"Umask:\t9\nUid:\t7\t7\t7\t7\n", 0, true},
	} {
		mask, err := parseStatus([]byte(tt.text), 7)
		if mask != tt.mask || (err != nil) != tt.bad {
			t.Errorf("%q: %o, %v", tt.text, mask, err)
		}
	}
}

// The descriptors of an attached run arrive with the handover, however long that is; what does not come in the right number is refused.
func TestHandoverDescriptors(t *testing.T) {
	h := handover{Run: scope.NewRunID(), Args: toBytes([]string{strings.Repeat("x", 1<<20)}), Files: client.Descriptors}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range client.Descriptors {
		h.fds = append(h.fds, int(w.Fd()))
	}
	ours, theirs := newPair(t)
	go func() { _ = send(ours, h) }()
	got, err := receive(theirs)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for i, fd := range got.streams {
		if _, err := unix.Write(fd, []byte{byte('0' + i)}); err != nil {
			t.Error(err)
		}
		_ = unix.Close(fd)
	}
	got.record(&events.Run{Run: "aaaaaaaaaaaa"})
	if said, err := io.ReadAll(r); err != nil || !strings.HasPrefix(string(said), "012{") || !strings.Contains(string(said), "aaaaaaaaaaaa") {
		t.Errorf("%q, %v", said, err)
	}
	for _, wrong := range []handover{{Run: h.Run, Files: client.Descriptors}, {Run: h.Run, Files: 1}} {
		ours, theirs := newPair(t)
		go func() { _ = send(ours, wrong) }()
		if _, err := receive(theirs); err == nil {
			t.Errorf("%d of %d descriptors: accepted", len(wrong.fds), wrong.Files)
		}
	}
}
