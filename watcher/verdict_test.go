package watcher

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/scidex/lictor/events"
)

const (
	testLeader = 100
	testLedger = "/lictor.slice/lictor-abc.slice"
	testScope  = testLedger + "/lictor-abc.scope"
)

func exited(code int) *Exit             { return &Exit{Code: code} }
func signaled(sig syscall.Signal) *Exit { return &Exit{Signal: sig} }

// at is a time after the start of the run.
func at(s float64) time.Duration { return 1000*time.Second + time.Duration(s*float64(time.Second)) }

// ended is the evidence of a run of 100 s limit whose main process ended after the given seconds.
func ended(after float64, x *Exit, change func(*Evidence)) Evidence {
	e := Evidence{LeaderPID: testLeader, LedgerPath: testLedger, Started: at(0), RuntimeMax: 100 * time.Second, Exit: x,
		LeaderAt: at(after), Unit: UnitState{}, KernelErr: errors.New("needs CAP_SYSLOG")}
	if change != nil {
		change(&e)
	}
	return e
}

// adopted is the evidence of a run that nobody watched and whose exit nobody was told.
func adopted(change func(*Evidence)) func(*Evidence) {
	return func(e *Evidence) {
		e.Adopted, e.LeaderAt = true, 0
		if change != nil {
			change(e)
		}
	}
}

var (
	ownKill      = Counters{MemoryMax: 90, OOM: 1, OOMKill: 2, OOMGroupKill: 1}
	singleKill   = Counters{MemoryMax: 90, OOM: 1, OOMKill: 1}
	foreignKill  = Counters{OOMKill: 1, OOMGroupKill: 1}
	timeoutState = UnitState{Known: true, ActiveState: "failed", Result: "timeout"}
)

func kernelSays(kills ...KernelKill) func(*Evidence) {
	return func(e *Evidence) { e.Kills, e.KernelErr = kills, nil }
}

func intent(after float64, reason events.Reason, by string) Intent {
	return Intent{Boottime: at(after), Reason: reason, By: by, Action: ActStop, Signal: "SIGTERM", Outcome: OutcomeSent}
}

func earlyoomSays(pid int, sig syscall.Signal, after float64) func(*Evidence) {
	return func(e *Evidence) {
		e.Killers = []KillerEntry{{By: KillerEarlyoom, PID: pid, Signal: sig, At: at(after)}}
	}
}

func TestDecide(t *testing.T) {
	killed := func(r events.Reason, by string) Verdict { return Verdict{State: events.StateKilled, Reason: r, By: by} }
	oom := func(r events.Reason, whose string) Verdict {
		return Verdict{State: events.StateKilled, Reason: r, By: "kernel", WhoseLimit: whose, TerminalOOM: true}
	}
	with := func(v Verdict, whose string, terminal bool) Verdict {
		v.WhoseLimit, v.TerminalOOM = whose, terminal
		return v
	}
	tests := []struct {
		name string
		e    Evidence
		want Verdict
	}{
		{"exit 0", ended(5, exited(0), nil), Verdict{State: events.StateDone}},
		{"exit 3", ended(5, exited(3), nil), Verdict{State: events.StateFailed}},
		{"exit 137 by itself", ended(5, exited(137), nil), Verdict{State: events.StateFailed}},
		{"segmentation fault", ended(5, signaled(syscall.SIGSEGV), nil), Verdict{State: events.StateFailed}},
		{"broken pipe", ended(5, signaled(syscall.SIGPIPE), nil), Verdict{State: events.StateFailed}},
		{"SIGKILL by a stranger", ended(5, signaled(syscall.SIGKILL), nil), killed(events.ReasonSignal, "unknown")},
		{"SIGTERM by a stranger", ended(5, signaled(syscall.SIGTERM), nil), killed(events.ReasonSignal, "unknown")},
		{"nobody saw the exit", ended(5, nil, func(e *Evidence) { e.LeaderAt = 0 }), Verdict{State: events.StateLost, By: "unknown"}},

		{"adopted, nothing forced it", ended(5, nil, adopted(nil)), Verdict{State: events.StateEnded}},
		{"adopted, its ledger cannot be read", ended(5, nil, adopted(func(e *Evidence) { e.LedgerErr = errors.New("gone") })),
			Verdict{State: events.StateLost, By: "unknown"}},
		{"adopted, own limit", ended(5, nil, adopted(func(e *Evidence) { e.Ledger = ownKill })), oom(events.ReasonOOM, LimitOwn)},
		{"adopted, a worker killed", ended(5, nil, adopted(func(e *Evidence) { e.Ledger = singleKill })),
			with(Verdict{State: events.StateEnded}, LimitOwn, false)},
		{"adopted, time limit", ended(5, nil, adopted(func(e *Evidence) { e.Unit = timeoutState })), killed(events.ReasonTimeout, "systemd")},
		{"adopted, stopped", ended(5, nil, adopted(func(e *Evidence) { e.Intents = []Intent{intent(3, events.ReasonStop, "uid 0")} })),
			killed(events.ReasonStop, "uid 0")},
		{"adopted, but its exit is known", ended(5, exited(3), adopted(func(e *Evidence) { e.LeaderAt = at(5) })), Verdict{State: events.StateFailed}},

		{"own limit, all killed", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Ledger = ownKill }), oom(events.ReasonOOM, LimitOwn)},
		{"own limit, systemd's SIGTERM is faster than the kernel's SIGKILL", ended(5, signaled(syscall.SIGTERM), func(e *Evidence) { e.Ledger = ownKill }), oom(events.ReasonOOM, LimitOwn)},
		{"the same with a single kill, and the kernel names the main process", ended(5, signaled(syscall.SIGTERM), func(e *Evidence) {
			e.Ledger = singleKill
			kernelSays(KernelKill{PID: testLeader, TaskMemcg: testScope})(e)
		}), oom(events.ReasonOOM, LimitOwn)},
		{"the same with somebody's stop before", ended(5, signaled(syscall.SIGTERM), func(e *Evidence) {
			e.Ledger, e.Intents = ownKill, []Intent{intent(4, events.ReasonStop, "uid 0")}
		}), with(killed(events.ReasonStop, "uid 0"), LimitOwn, true)},
		{"a worker killed, then somebody's SIGTERM", ended(5, signaled(syscall.SIGTERM), func(e *Evidence) { e.Ledger = singleKill }),
			with(killed(events.ReasonSignal, "unknown"), LimitOwn, false)},
		{"own limit, only the main process", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Ledger = singleKill }), oom(events.ReasonOOM, LimitOwn)},
		{"own limit, nobody saw the exit", ended(5, nil, func(e *Evidence) { e.Ledger, e.LeaderAt = ownKill, 0 }), oom(events.ReasonOOM, LimitOwn)},
		{"a worker killed, exit unknown", ended(5, nil, func(e *Evidence) { e.Ledger, e.LeaderAt = singleKill, 0 }),
			with(Verdict{State: events.StateLost, By: "unknown"}, LimitOwn, false)},
		{"a worker killed, exit 0", ended(5, exited(0), func(e *Evidence) { e.Ledger = singleKill }), with(Verdict{State: events.StateDone}, LimitOwn, false)},
		{"a worker killed, exit 1 because of it", ended(5, exited(1), func(e *Evidence) { e.Ledger = singleKill }), with(Verdict{State: events.StateFailed}, LimitOwn, false)},
		{"a worker killed long ago, then SIGKILL", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Ledger, e.Alive = singleKill, singleKill }),
			with(killed(events.ReasonSignal, "unknown"), LimitOwn, false)},
		{"a worker killed just now, the kernel names only it, then SIGKILL", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger = singleKill
			kernelSays(KernelKill{PID: 101, TaskMemcg: testScope})(e)
		}), with(killed(events.ReasonSignal, "unknown"), LimitOwn, false)},
		{"the same, but the log has a gap", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger, e.KillsLost = singleKill, true
			kernelSays(KernelKill{PID: 101, TaskMemcg: testScope})(e)
		}), oom(events.ReasonOOM, LimitOwn)},
		{"peak at the limit proves nothing", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Ledger = Counters{MemoryMax: 500} }),
			killed(events.ReasonSignal, "unknown")},
		{"oom without a kill proves nothing", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Ledger = Counters{OOM: 3} }),
			killed(events.ReasonSignal, "unknown")},
		{"ledger unreadable", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.LedgerErr = errors.New("gone") }),
			killed(events.ReasonSignal, "unknown")},

		{"a slice above, by its counter", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger, e.Ancestors = foreignKill, map[string]uint64{"/lictor.slice": 1}
		}), oom(events.ReasonOOMAncestor, LimitAncestor)},
		{"a slice above, by the kernel log", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger = foreignKill
			kernelSays(KernelKill{PID: testLeader, OOMMemcg: "/lictor.slice", TaskMemcg: testScope})(e)
		}), oom(events.ReasonOOMAncestor, LimitAncestor)},
		{"the host", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger = foreignKill
			kernelSays(KernelKill{PID: testLeader, Global: true, TaskMemcg: testScope})(e)
		}), oom(events.ReasonOOMHost, LimitHost)},
		{"the host, while a slice hit its limit too", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger, e.Ancestors = foreignKill, map[string]uint64{"/lictor.slice": 1}
			kernelSays(KernelKill{PID: testLeader, Global: true})(e)
		}), oom(events.ReasonOOMHost, LimitHost)},
		{"whose limit, nobody can say", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Ledger = foreignKill }),
			oom(events.ReasonOOMUnknown, LimitUnknown)},

		{"time limit, obeyed", ended(100.2, signaled(syscall.SIGTERM), func(e *Evidence) { e.Unit = timeoutState }), killed(events.ReasonTimeout, "systemd")},
		{"time limit, ignored", ended(110, signaled(syscall.SIGKILL), func(e *Evidence) { e.Unit = timeoutState }), killed(events.ReasonTimeout, "systemd")},
		{"time limit, exit 0 on SIGTERM", ended(100.2, exited(0), func(e *Evidence) { e.Unit = timeoutState }), killed(events.ReasonTimeout, "systemd")},
		{"time limit, nobody saw it", ended(0, nil, func(e *Evidence) { e.Unit, e.LeaderAt = timeoutState, 0 }), killed(events.ReasonTimeout, "systemd")},
		{"our own deadline", ended(104, signaled(syscall.SIGTERM), func(e *Evidence) { e.Intents = []Intent{intent(102, events.ReasonTimeout, "lictor")} }),
			killed(events.ReasonTimeout, "lictor")},
		{"Result=timeout before the limit is a stop that was ignored", ended(30, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.Deactivating = timeoutState, at(20)
		}), killed(events.ReasonStop, "systemd")},
		{"a stop that was ignored past the limit", ended(105, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.Deactivating = timeoutState, at(95)
		}), killed(events.ReasonStop, "systemd")},
		{"a timeout followed by an OOM during the grace", ended(104, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.Deactivating, e.Ledger = timeoutState, at(100), ownKill
		}), with(killed(events.ReasonTimeout, "systemd"), LimitOwn, true)},
		{"it exited by itself at the very limit", ended(100, exited(0), func(e *Evidence) { e.Unit = UnitState{Known: true, Result: "success"} }),
			Verdict{State: events.StateDone}},

		{"stopped by a user", ended(20, signaled(syscall.SIGTERM), func(e *Evidence) { e.Intents = []Intent{intent(19, events.ReasonStop, "uid 1000")} }),
			killed(events.ReasonStop, "uid 1000")},
		{"stopped by a user, exit 0 on SIGTERM", ended(20, exited(0), func(e *Evidence) { e.Intents = []Intent{intent(19, events.ReasonStop, "uid 1000")} }),
			killed(events.ReasonStop, "uid 1000")},
		{"a stop that came too late", ended(20, exited(0), func(e *Evidence) {
			i := intent(19.999, events.ReasonStop, "uid 1000")
			i.Outcome = OutcomeVoid
			e.Intents = []Intent{i}
		}), Verdict{State: events.StateDone}},
		{"a stop after the end", ended(20, exited(0), func(e *Evidence) { e.Intents = []Intent{intent(21, events.ReasonStop, "uid 1000")} }),
			Verdict{State: events.StateDone}},
		{"a stop whose author died before it could tell", ended(20, signaled(syscall.SIGTERM), func(e *Evidence) {
			i := intent(19, events.ReasonStop, "uid 0")
			i.Outcome = ""
			e.Intents = []Intent{i}
		}), killed(events.ReasonStop, "uid 0")},
		{"a stop, then the limit", ended(105, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.Intents = timeoutState, []Intent{intent(95, events.ReasonStop, "uid 0")}
		}), killed(events.ReasonStop, "uid 0")},
		{"the limit, then a stop", ended(105, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.Intents = timeoutState, []Intent{intent(102, events.ReasonStop, "uid 0")}
		}), killed(events.ReasonTimeout, "systemd")},
		{"stopped by systemd", ended(20, signaled(syscall.SIGTERM), func(e *Evidence) { e.Deactivating = at(19) }), killed(events.ReasonStop, "systemd")},
		{"own limit, and systemd sees it before we are told", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger, e.Deactivating = ownKill, at(4.9)
		}), oom(events.ReasonOOM, LimitOwn)},
		{"stopped by systemd, then the own limit", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger, e.Deactivating, e.Unit.StopJob = ownKill, at(4.9), true
		}), with(killed(events.ReasonStop, "systemd"), LimitOwn, true)},
		{"a victim that looked alive after the kill was counted", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Ledger, e.Alive, e.Earlier, e.KernelErr = singleKill, singleKill, []KernelKill{{PID: e.LeaderPID, Comm: "python3"}}, nil
		}), oom(events.ReasonOOM, LimitOwn)},
		{"nobody saw the end, at the limit", ended(20, nil, func(e *Evidence) {
			e.LeaderAt, e.Unit, e.Removed = 0, timeoutState, at(100)
		}), killed(events.ReasonTimeout, "systemd")},
		{"nobody saw the end, before the limit", ended(20, nil, func(e *Evidence) {
			e.LeaderAt, e.Unit, e.Removed = 0, timeoutState, at(30)
		}), killed(events.ReasonStop, "systemd")},
		{"stopped by systemd, seen only by its job", ended(20, exited(0), func(e *Evidence) { e.Unit.StopJob = true }), killed(events.ReasonStop, "systemd")},
		{"abandoned", ended(20, signaled(syscall.SIGTERM), func(e *Evidence) { e.Intents = []Intent{intent(19, events.ReasonAbandoned, "lictor")} }),
			killed(events.ReasonAbandoned, "lictor")},
		{"left-overs ended after a clean exit", ended(20, exited(0), func(e *Evidence) { e.Intents = []Intent{intent(20.3, events.ReasonOrphan, "lictor")} }),
			Verdict{State: events.StateDone}},

		{"systemd-oomd, by its mark", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.OomdMark = true }), killed(events.ReasonOomd, KillerOomd)},
		{"systemd-oomd, by the journal", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) { e.Killers = []KillerEntry{{By: KillerOomd}} }),
			killed(events.ReasonOomd, KillerOomd)},
		{"systemd-oomd, nobody saw the exit", ended(5, nil, func(e *Evidence) { e.LeaderAt, e.Killers = 0, []KillerEntry{{By: KillerOomd}} }),
			killed(events.ReasonOomd, KillerOomd)},
		{"systemd-oomd, by an out-of-memory result that the kernel has not counted", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit = UnitState{Known: true, Result: "oom-kill"}
		}), killed(events.ReasonOomd, KillerOomd)},
		{"the same result, and the kernel's counters cannot be read", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.LedgerErr = UnitState{Known: true, Result: "oom-kill"}, errors.New("gone")
		}), killed(events.ReasonSignal, "unknown")},
		{"an out-of-memory result long after the kernel's kill, then SIGKILL", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.Unit, e.Ledger, e.Alive = UnitState{Known: true, Result: "oom-kill"}, singleKill, singleKill
		}), with(killed(events.ReasonSignal, "unknown"), LimitOwn, false)},
		{"a stop, then systemd-oomd", ended(5, signaled(syscall.SIGKILL), func(e *Evidence) {
			e.OomdMark, e.Intents = true, []Intent{intent(4, events.ReasonStop, "uid 0")}
		}), killed(events.ReasonStop, "uid 0")},
		{"a mark of systemd-oomd, and it exited by itself", ended(5, exited(0), func(e *Evidence) { e.OomdMark = true }), Verdict{State: events.StateDone}},

		{"earlyoom", ended(5, signaled(syscall.SIGTERM), earlyoomSays(testLeader, syscall.SIGTERM, 4.9)), killed(events.ReasonSignal, KillerEarlyoom)},
		{"earlyoom, its entry came later", ended(5, signaled(syscall.SIGTERM), earlyoomSays(testLeader, syscall.SIGTERM, 5.4)), killed(events.ReasonSignal, KillerEarlyoom)},
		{"earlyoom signalled another process", ended(5, signaled(syscall.SIGTERM), earlyoomSays(101, syscall.SIGTERM, 4.9)), killed(events.ReasonSignal, "unknown")},
		{"earlyoom sent another signal", ended(5, signaled(syscall.SIGKILL), earlyoomSays(testLeader, syscall.SIGTERM, 4.9)), killed(events.ReasonSignal, "unknown")},
		{"earlyoom signalled who had the number before", ended(5, signaled(syscall.SIGTERM), earlyoomSays(testLeader, syscall.SIGTERM, -1)), killed(events.ReasonSignal, "unknown")},
		{"earlyoom long before", ended(90, signaled(syscall.SIGTERM), earlyoomSays(testLeader, syscall.SIGTERM, 40)), killed(events.ReasonSignal, "unknown")},
		{"earlyoom long after", ended(5, signaled(syscall.SIGTERM), earlyoomSays(testLeader, syscall.SIGTERM, 40)), killed(events.ReasonSignal, "unknown")},
		{"earlyoom, and it exited by itself", ended(5, exited(143), earlyoomSays(testLeader, syscall.SIGTERM, 4.9)), Verdict{State: events.StateFailed}},

		{"a signal that was passed on and killed", ended(20, signaled(syscall.SIGTERM), func(e *Evidence) {
			i := intent(19, events.ReasonSignal, "launcher")
			i.Action = ActSignal
			e.Intents = []Intent{i}
		}), killed(events.ReasonSignal, "launcher")},
		{"a signal that was passed on and handled", ended(20, exited(0), func(e *Evidence) {
			i := intent(19, events.ReasonSignal, "launcher")
			i.Action = ActSignal
			e.Intents = []Intent{i}
		}), Verdict{State: events.StateDone}},
		{"a signal that was passed on, then another by a stranger", ended(20, signaled(syscall.SIGKILL), func(e *Evidence) {
			i := intent(19, events.ReasonSignal, "launcher")
			i.Action = ActSignal
			e.Intents = []Intent{i}
		}), killed(events.ReasonSignal, "unknown")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Decide(tt.e)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestVictims(t *testing.T) {
	rss := uint64(5 << 20)
	named := []KernelKill{{PID: testLeader, Comm: "python3", AnonRSS: &rss, TaskMemcg: testScope}, {PID: 101, Comm: "worker", Group: testScope}}
	tests := []struct {
		name     string
		kills    []KernelKill
		exit     *Exit
		terminal bool
		want     []events.Victim
	}{
		{"the kernel names them", named, signaled(syscall.SIGKILL), true, []events.Victim{
			{PID: testLeader, Comm: "python3", RSSAnonBytes: &rss, Source: "kernel-log"}, {PID: 101, Comm: "worker", Source: "kernel-log"}}},
		{"no kernel log, the wait status tells of the main process", nil, signaled(syscall.SIGKILL), true,
			[]events.Victim{{PID: testLeader, Comm: "before", Source: "wait-status"}}},
		{"no kernel log, and nobody saw the exit", nil, nil, true, nil},
		{"no out-of-memory kill", nil, signaled(syscall.SIGKILL), false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := Evidence{LeaderPID: testLeader, Comm: "before", Kills: tt.kills, Exit: tt.exit}
			if diff := cmp.Diff(tt.want, e.victims(tt.terminal)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestOfRun(t *testing.T) {
	e := Evidence{LeaderPID: testLeader, LedgerPath: testLedger}
	tests := []struct {
		name string
		kill KernelKill
		want bool
	}{
		{"in the scope", KernelKill{PID: 7, TaskMemcg: testScope}, true},
		{"in another run whose name begins the same", KernelKill{PID: 7, TaskMemcg: testLedger + "x/y"}, false},
		{"the pid of the main process, in another cgroup", KernelKill{PID: testLeader, TaskMemcg: "/user.slice"}, false},
		{"of the group", KernelKill{PID: 7, Group: testScope}, true},
		{"the main process, without a cgroup", KernelKill{PID: testLeader}, true},
		{"somebody, without a cgroup", KernelKill{PID: 7}, false},
	}
	for _, tt := range tests {
		if got := len(e.ofRun([]KernelKill{tt.kill})) == 1; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
