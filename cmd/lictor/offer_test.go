package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
	"github.com/scidex/lictor/watcher"
)

// F1: a user has so many live runs, and so many launches in a minute, and no more; others are not touched by that.
func TestF1Quota(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := quota{live: 3, perMinute: 4, launched: map[uint32]*bucket{}}
	steps := []struct {
		uid   uint32
		live  int
		after time.Duration
		want  bool
	}{
		{1000, 0, 0, true}, {1000, 1, 0, true}, {1000, 2, 0, true},
		{1000, 3, 0, false}, // alive
		{1000, 0, 0, true},
		{1000, 0, 0, false}, // the fifth in a minute
		{1001, 0, 0, true},
		{0, 900, 0, true},
		{1000, 0, 10 * time.Second, false},
		{1000, 0, 10 * time.Second, true}, // a quarter of a minute brings one
		{1000, 0, 0, false},
		{1000, 0, time.Hour, true}, {1000, 0, 0, true}, {1000, 0, 0, true}, {1000, 0, 0, true}, {1000, 0, 0, false}, // never more than a minute's
	}
	for i, s := range steps {
		now = now.Add(s.after)
		err := q.admit(s.uid, s.live, now)
		var p *client.Problem
		if (err == nil) != s.want || err != nil && (!errors.As(err, &p) || p.Status != http.StatusTooManyRequests || p.Hint == "") {
			t.Errorf("%d: uid %d with %d live: %v", i, s.uid, s.live, err)
		}
	}
}

func offerOf(change func(*api.Offer)) *api.Offer {
	memory, zero, seconds := uint64(1<<30), uint64(0), 60.0
	o := &api.Offer{Run: &events.Run{Run: "7f3k7m1d2c5h", Command: []string{"sleep"}, UID: 0, Manager: "user", State: events.StateDone,
		Reason: events.ReasonOOM, Unit: "ssh.service", Host: "elsewhere", Keeper: events.Keeper{PID: 1}, Service: "ssh.service",
		Limits: events.Limits{MemoryMaxBytes: &memory, MemorySwapMaxBytes: &zero, RuntimeMaxSeconds: &seconds, GraceSeconds: 10, OOMPolicy: "kill"}}}
	if change != nil {
		change(o)
	}
	return o
}

// X16: whatever in an offer is not the caller's to say is ours.
func TestX16OfferSaysWhatItMay(t *testing.T) {
	a := testApp(&bytes.Buffer{})
	a.system = true
	run, offer, err := a.readOffer(offerOf(nil), api.Peer{PID: 7, UID: 1000}, scope.ProcessID{PID: 7, StartTicks: 8})
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	if run.UID != 1000 || run.Manager != "system" || run.State != events.StateStarting || run.Reason != "" || run.Host != host ||
		run.Unit != "lictor-7f3k7m1d2c5h.scope" || run.Keeper != (events.Keeper{}) || run.Service != "lictor-launch-7f3k7m1d2c5h.service" {
		t.Errorf("record %+v", run)
	}
	if offer.UID != 1000 || offer.Launcher.PID != 7 || offer.Spec.MemoryMax != 1<<30 || offer.Spec.RuntimeMax != time.Minute {
		t.Errorf("offer %+v", offer)
	}
}

func TestOfferRefused(t *testing.T) {
	a := testApp(&bytes.Buffer{})
	a.system = true
	a.EtcDir = t.TempDir()
	if err := os.WriteFile(filepath.Join(a.EtcDir, "lictor.toml"), []byte("[ceiling]\nmemory_max = \"2G\"\nruntime_max = \"1h\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*api.Offer)
		want   string
	}{
		"no run":              {func(o *api.Offer) { o.Run = nil }, "no run"},
		"no command":          {func(o *api.Offer) { o.Run.Command = nil }, "command"},
		"run id":              {func(o *api.Offer) { o.Run.Run = "../../etc/x" }, "run id"},
		"above the ceiling":   {func(o *api.Offer) { *o.Run.Limits.MemoryMaxBytes = 3 << 30 }, "ceiling of 2G"},
		"no limit":            {func(o *api.Offer) { o.Run.Limits.MemoryMaxBytes = nil }, "ceiling of 2G"},
		"no time limit":       {func(o *api.Offer) { o.Run.Limits.RuntimeMaxSeconds = nil }, "ceiling of 1h"},
		"policy":              {func(o *api.Offer) { o.Run.Limits.OOMPolicy = "maybe" }, "maybe"},
		"owner policy":        {func(o *api.Offer) { o.OnOwnerExit = "maybe" }, "maybe"},
		"property":            {func(o *api.Offer) { o.Properties = []string{"ExecStart=/bin/sh"} }, "ExecStart"},
		"name with a newline": {func(o *api.Offer) { o.Run.Name = "a\nb" }, "name"},
		"label":               {func(o *api.Offer) { o.Run.Labels = map[string]string{"a": "\x1b[2J"} }, "label"},
		"analysis id":         {func(o *api.Offer) { o.Run.AnalysisID = strings.Repeat("x", 300) }, "analysis id"},
		"grace":               {func(o *api.Offer) { o.Run.Limits.GraceSeconds = -1 }, "grace"},
	} {
		_, _, err := a.readOffer(offerOf(tt.change), api.Peer{PID: 7, UID: 1000}, scope.ProcessID{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tt.want)
		}
	}
}

// The exit status comes from the launcher, if it lives to tell.
func TestCallerWait(t *testing.T) {
	sleeper := func() (*exec.Cmd, scope.ProcessID) {
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		ticks, err := cgroup.StartTicks(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return cmd, scope.ProcessID{PID: cmd.Process.Pid, StartTicks: ticks}
	}
	t.Run("told", func(t *testing.T) {
		_, leader := sleeper()
		_, launcher := sleeper()
		c := newCaller(launcher, 1000)
		go c.exited(api.Exit{Code: 3})
		if x, err := c.wait(t.Context(), leader); err != nil || x.Code != 3 {
			t.Errorf("%+v, %v", x, err)
		}
		c.exited(api.Exit{Code: 4}) // the first word counts
		if x, err := c.wait(t.Context(), leader); err != nil || x.Code != 3 {
			t.Errorf("%+v, %v", x, err)
		}
	})
	t.Run("launcher dead", func(t *testing.T) {
		main, leader := sleeper()
		parent, launcher := sleeper()
		c := newCaller(launcher, 1000)
		_ = main.Process.Kill()
		_ = parent.Process.Kill()
		if _, err := c.wait(t.Context(), leader); !errors.Is(err, watcher.ErrNotParent) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("called off", func(t *testing.T) {
		_, leader := sleeper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := newCaller(leader, 1000).wait(ctx, leader); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
