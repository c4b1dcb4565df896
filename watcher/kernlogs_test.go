package watcher

import (
	"errors"
	"slices"
	"testing"
	"time"
)

type playedKills struct {
	kills []KernelKill
	lost  bool
	err   error
}

func (p *playedKills) Kills() ([]KernelKill, bool, error) {
	kills, lost := p.kills, p.lost
	p.kills, p.lost = nil, false
	return kills, lost, p.err
}

func killsAt(from, n int) (list []KernelKill) {
	for i := range n {
		list = append(list, KernelKill{PID: from + i, At: time.Duration(from+i) * time.Second})
	}
	return list
}

func pidsOf(kills []KernelKill) (pids []int) {
	for _, k := range kills {
		pids = append(pids, k.PID)
	}
	return pids
}

// TestKernelLogsViews: every view sees every kill since its start once, whoever reads first.
func TestKernelLogsViews(t *testing.T) {
	played := &playedKills{kills: killsAt(1, 4)}
	logs := &KernelLogs{log: played, oldest: func(d time.Duration) time.Duration { return d }}
	early, late := logs.Since(0), logs.Since(3*time.Second)
	check := func(name string, v KernelKills, want ...int) {
		t.Helper()
		kills, lost, err := v.Kills()
		if got := pidsOf(kills); !slices.Equal(got, want) || lost || err != nil {
			t.Errorf("%s: got %v, lost %v, %v; want %v", name, got, lost, err, want)
		}
	}
	check("early", early, 1, 2, 3, 4)
	check("late", late, 3, 4)
	check("early again", early)
	played.kills = killsAt(5, 1)
	check("late, something new", late, 5)
	check("early, the same", early, 5)
}

func TestKernelLogsLost(t *testing.T) {
	played := &playedKills{}
	logs := &KernelLogs{log: played, oldest: func(d time.Duration) time.Duration { return d }}
	a, b := logs.Since(0), logs.Since(0)
	played.lost, played.err = true, errors.New("broken")
	for name, v := range map[string]KernelKills{"who reads": a, "who reads next": b} {
		if _, lost, err := v.Kills(); !lost || err == nil {
			t.Errorf("%s: lost %v, %v; want both", name, lost, err)
		}
	}
	if _, lost, _ := a.Kills(); lost {
		t.Error("lost is told twice")
	}
	played.kills = killsAt(1, maxKernelKills)
	if _, lost, _ := b.Kills(); lost {
		t.Error("nothing was lost for a view that sees all that is kept")
	}
	played.kills = killsAt(1, 1)
	if kills, lost, _ := a.Kills(); len(kills) != maxKernelKills || !lost {
		t.Errorf("%d kills, lost %v; want %d and true", len(kills), lost, maxKernelKills)
	}
}
