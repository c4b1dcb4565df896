package main

import (
	"errors"
	"net/http"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/scope"
)

// What a caller asks for over HTTP becomes a command line of lictor, or is refused.
func TestLaunchArgs(t *testing.T) {
	app, _ := configApp(t, map[string]string{etc: "[ceiling]\nmemory_max = '1G'\n"}, nil)
	b := &backend{daemon: &daemon{app: app}}
	args, grace, err := b.launchArgs(&client.Launch{Command: []string{"sh", "-c", "--x"}, AnalysisID: "-a b", Name: "n", Labels: map[string]string{"k": "v", "a": "=b"},
		Limits: map[string]client.Amount{"memory_max": "512M", "grace": "3"}, Properties: []string{"IOWeight=10"}, Env: map[string]string{"A": "b=c"}}, 77)
	want := []string{"--system", "run", "--quiet", "--on-owner-exit=kill", "--grace=3", "--memory-max=512M", "--property=IOWeight=10", "--analysis-id=-a b",
		"--name=n", "--label=a==b", "--label=k=v", "--", "sh", "-c", "--x"}
	if err != nil || !slices.Equal(args, want) || grace != 3*time.Second {
		t.Errorf("%q, %v, %v; want %q", args, grace, err, want)
	}
	for _, o := range []struct {
		attached bool
		policy   string
		owned    bool
	}{{false, "", false}, {false, "keep", false}, {false, "kill", true}, {true, "", true}, {true, "kill", true}, {true, "keep", false}} {
		args, _, err := b.launchArgs(&client.Launch{Command: []string{"true"}, Attached: o.attached, OnOwnerExit: o.policy}, 77)
		if err != nil || slices.Contains(args, "--owner-pid=77") != o.owned {
			t.Errorf("%+v: %q, %v", o, args, err)
		}
	}
	for what, l := range map[string]client.Launch{
		"memory_max":    {Limits: map[string]client.Amount{"memory_max": "lots"}},
		"ceiling":       {Limits: map[string]client.Amount{"memory_max": "2G"}},
		"is no limit":   {Limits: map[string]client.Amount{"analysis_id": "x"}},
		"is no variabl": {Env: map[string]string{"A=B": "c"}},
		`env: "A"`:      {Env: map[string]string{"A": "b\x00"}},
	} {
		l.Command = []string{"true"}
		_, _, err := b.launchArgs(&l, 77)
		if err == nil || !strings.Contains(err.Error()+hintOf(err), strings.ReplaceAll(what, "_", "-")) && !strings.Contains(err.Error()+hintOf(err), what) {
			t.Errorf("%+v: %v, want an error about %s", l, err, what)
		}
	}
}

// The caller's variables go before ours, and nothing of the daemon's own environment is there.
func TestLaunchEnv(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	got := launchEnv(&user.User{Uid: "4294967294", Username: "alice", HomeDir: "/home/alice"}, map[string]string{"PATH": "/opt/bin", "X": "y"})
	want := []string{"HOME=/home/alice", "LANG=C.UTF-8", "LOGNAME=alice", "PATH=/opt/bin", "USER=alice", "X=y"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// F1: who is above the quota is refused before anything is started, with a status that says to wait; what the launcher is refused by the
// daemon that it hands its run over to is told with the same one.
func TestF1LaunchQuota(t *testing.T) {
	app, _ := configApp(t, nil, nil)
	app.newID, app.Now = scope.NewRunID, func() time.Time { return time.Unix(1e9, 0) }
	b := &backend{daemon: &daemon{app: app, started: quota{live: 3, perMinute: 2, launched: map[uint32]*bucket{}}}}
	nonsense := &client.Launch{Command: []string{"true"}, Limits: map[string]client.Amount{"memory_max": "lots"}} // goes no further
	launch := func(uid uint32) int {
		_, _, err := b.Launch(t.Context(), api.Peer{PID: 7, UID: uid}, nonsense, nil)
		p, ok := errors.AsType[*client.Problem](err)
		if !ok || p.Hint == "" {
			t.Fatalf("%v", err)
		}
		return p.Status
	}
	const nobody = 65534
	for i, want := range []int{http.StatusBadRequest, http.StatusBadRequest, http.StatusTooManyRequests, http.StatusTooManyRequests} {
		if got := launch(nobody); got != want {
			t.Errorf("launch %d: %d, want %d", i, got, want)
		}
	}
	for range 4 {
		if got := launch(0); got != http.StatusBadRequest {
			t.Errorf("root: %d", got)
		}
	}
	late := answerOf(refused(explainProblem(client.NewProblem(http.StatusTooManyRequests, "3 runs of yours are alive", "lictor ps")))).err()
	var p *client.Problem
	if err := launchProblem(late); !errors.As(err, &p) || p.Status != http.StatusTooManyRequests || p.Detail != "3 runs of yours are alive" || p.Hint != "lictor ps" {
		t.Errorf("refused by the daemon: %+v", p)
	}
}
