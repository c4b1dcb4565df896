package scope

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scidex/lictor/scope/scopetest"
)

const testUnit = "lictor-0123456789ab.scope"

func TestStartWaitsForTheJob(t *testing.T) {
	onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
		fake.JobsEnd("")
		end := begin(t.Context(), t, fake, b, testUnit)
		fake.RemoveJob(77, "lictor-another.scope", "done")
		fake.RemoveJob(1, testUnit, "done")
		if err := result(t, end); err != nil {
			t.Error(err)
		}
	})
}

// The signal may overtake the reply: it is waited for before the call is made.
func TestStartTakesASignalBeforeTheReply(t *testing.T) {
	onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
		fake.Handle("StartTransientUnit", fake.Default)
		if err := b.start(t.Context(), testUnit, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestStartReportsAFailedJob(t *testing.T) {
	for _, how := range []string{"canceled", "timeout", "failed", "dependency", "skipped", "a\nlie"} {
		t.Run(how, func(t *testing.T) {
			fake := scopetest.New(t)
			fake.JobsEnd(how)
			err := busOf(t, fake).start(t.Context(), testUnit, nil)
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestD3JobNeverEnds(t *testing.T) {
	onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
		fake.JobsEnd("")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantError(t, b.start(ctx, testUnit, nil), context.DeadlineExceeded)

		// What comes after nobody waits any more does no harm.
		fake.RemoveJob(1, testUnit, "done")
		fake.RemoveJob(1, testUnit, "done")
		fake.RemoveJob(999, "never-heard-of.scope", "done")
		if _, err := b.get(t.Context(), testUnit, "Unit.ActiveState"); err != nil {
			t.Errorf("the connection no longer works: %v", err)
		}
		if len(b.signals.jobs) != 0 {
			t.Errorf("still waited for: %v", b.signals.jobs)
		}
	})
}

func TestD3CallNeverAnswered(t *testing.T) {
	onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
		fake.Handle("StartTransientUnit", func(scopetest.Call) scopetest.Reply { return scopetest.Reply{Silent: true} })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantError(t, b.start(ctx, testUnit, nil), context.DeadlineExceeded)
	})
}

func TestD3BusDiesWhileWaiting(t *testing.T) {
	t.Run("for the job", func(t *testing.T) {
		onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
			fake.JobsEnd("")
			end := begin(t.Context(), t, fake, b, testUnit)
			fake.Die()
			wantError(t, result(t, end), ErrDisconnected)
			wantError(t, b.stop(t.Context(), testUnit), ErrDisconnected)
		})
	})
	t.Run("for the reply", func(t *testing.T) {
		onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
			fake.Handle("StartTransientUnit", func(scopetest.Call) scopetest.Reply { return scopetest.Reply{Silent: true} })
			end := begin(t.Context(), t, fake, b, testUnit)
			fake.Die()
			wantError(t, result(t, end), ErrDisconnected)
		})
	})
}

// On the bus anybody can send what looks like systemd's signal, to the letter.
func TestD6ForgedJobRemoved(t *testing.T) {
	leaveNothing(t)
	fake := scopetest.New(t)
	b := busOf(t, fake)
	fake.JobsEnd("")
	end := begin(t.Context(), t, fake, b, testUnit)
	for _, sender := range []string{":1.666", "org.freedesktop.DBus", "org.freedesktop.systemd1"} {
		fake.Emit(scopetest.JobRemoved(sender, 1, testUnit, "done"))
	}
	if _, err := b.get(t.Context(), testUnit, "Unit.ActiveState"); err != nil { // answered after the signals
		t.Fatal(err)
	}
	select {
	case err := <-end:
		t.Fatalf("a forged signal was believed: %v", err)
	default:
	}
	fake.RemoveJob(1, testUnit, "failed")
	if err := result(t, end); err == nil || !strings.Contains(err.Error(), "failed") {
		t.Errorf("got %v, want what systemd said", err)
	}
	if got := b.signals.dropped; got != 3 {
		t.Errorf("dropped: got %d, want 3", got)
	}
}

// Even from the right sender only what is well-formed counts. It is dropped, and nothing panics.
func TestD6MalformedBodies(t *testing.T) {
	bodies := map[string][]any{
		"empty":       nil,
		"too short":   {uint32(1)},
		"wrong types": {"1", "x", uint32(3), true},
		"swapped":     {"done", testUnit, unitPath(testUnit), uint32(1)},
		"nested":      {map[string]string{"a": "b"}, []string{"c"}, uint32(1), "done"},
	}
	names := []string{jobRemoved, propsChanged, nameOwnerMoved, "org.freedesktop.systemd1.Manager.Reloading", "a.b.C"}
	onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
		told := 0
		b.signals.watch(testUnit, nil, func() { told++ })
		done := b.signals.expect(testUnit)
		for _, body := range bodies {
			for _, name := range names {
				for _, sender := range []string{"", ":1.666"} {
					fake.Emit(scopetest.Signal{Sender: sender, Path: unitPath(testUnit), Name: name, Body: body})
				}
			}
		}
		if _, err := b.get(t.Context(), testUnit, "Unit.ActiveState"); err != nil {
			t.Fatalf("the connection no longer works: %v", err)
		}
		select {
		case r := <-done:
			t.Errorf("believed: %q", r)
		default:
		}
		if told != 0 {
			t.Errorf("%d malformed signals were passed on", told)
		}
	})
}

func TestD6FloodOfStrangers(t *testing.T) {
	leaveNothing(t)
	fake := scopetest.New(t)
	b := busOf(t, fake)
	fake.JobsEnd("")
	end := begin(t.Context(), t, fake, b, testUnit)
	before := heap()
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	forged := scopetest.JobRemoved(":1.666", 1, testUnit, "done")
	for range n {
		fake.Emit(forged)
	}
	if _, err := b.get(t.Context(), testUnit, "Unit.ActiveState"); err != nil {
		t.Fatal(err)
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if got := b.signals.dropped; got != uint64(n) {
		t.Errorf("dropped: got %d, want %d", got, n)
	}
	fake.RemoveJob(1, testUnit, "done")
	if err := result(t, end); err != nil {
		t.Error(err)
	}
}

func TestD9UnitExists(t *testing.T) {
	onBothWays(t, func(t *testing.T, fake *scopetest.Systemd, b *bus) {
		fake.Set(testUnit, map[string]any{"Description": "somebody else's"})
		wantError(t, b.start(t.Context(), testUnit, nil), ErrUnitExists)
		if got := fake.Units(); len(got) != 1 || len(fake.Calls("StopUnit")) != 0 {
			t.Errorf("units: got %v; the one that was there must be left alone", got)
		}
	})
}

// systemd executes itself anew and comes back under another name: it is believed, its old name is not.
func TestReexecutedSystemdIsBelieved(t *testing.T) {
	leaveNothing(t)
	fake := scopetest.New(t)
	b := busOf(t, fake)
	fake.JobsEnd("")
	end := begin(t.Context(), t, fake, b, testUnit)
	fake.Reexec("")
	fake.Reexec(":1.77")
	fake.Emit(scopetest.JobRemoved(scopetest.FirstOwner, 1, testUnit, "failed"))
	fake.Emit(scopetest.JobRemoved(":1.77", 1, testUnit, "done"))
	if err := result(t, end); err != nil {
		t.Errorf("the old owner was believed: %v", err)
	}
}

// The bus daemon of a user was started by our own connection, and systemd joins it after us.
func TestSystemdJoinsTheBusAfterUs(t *testing.T) {
	leaveNothing(t)
	fake := scopetest.New(t)
	fake.Reexec("")
	fake.Handle("GetNameOwner", func(scopetest.Call) scopetest.Reply {
		go fake.Reexec(":1.77")
		return scopetest.Fail("org.freedesktop.DBus.Error.NameHasNoOwner", "no such name")
	})
	b, err := dial(t.Context(), endpointsOf(fake)["bus"])
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if got := b.signals.owner; got != ":1.77" {
		t.Errorf("owner: got %q", got)
	}
}

func TestForgedOwnerIsNotBelieved(t *testing.T) {
	fake := scopetest.New(t)
	b := busOf(t, fake)
	for _, s := range []scopetest.Signal{
		{Sender: ":1.666", Path: "/org/freedesktop/DBus", Name: nameOwnerMoved, Body: []any{systemdName, ":1.1", ":1.666"}},
		{Sender: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Name: nameOwnerMoved, Body: []any{"a.b", "", ":1.666"}},
	} {
		fake.Emit(s)
	}
	if _, err := b.get(t.Context(), testUnit, "Unit.ActiveState"); err != nil {
		t.Fatal(err)
	}
	if got := b.signals.owner; got != scopetest.FirstOwner {
		t.Errorf("owner: got %q", got)
	}
}

func TestErrorsOfCalls(t *testing.T) {
	tests := []struct {
		name string
		want error
	}{
		{"org.freedesktop.systemd1.NoSuchUnit", ErrNoUnit},
		{"org.freedesktop.systemd1.UnitExists", ErrUnitExists},
		{"org.freedesktop.DBus.Error.PropertyReadOnly", ErrUnknownProperty},
		{"org.freedesktop.DBus.Error.UnknownProperty", ErrUnknownProperty},
		{"org.freedesktop.DBus.Error.NoReply", ErrDisconnected},
	}
	fake := scopetest.New(t)
	b := busOf(t, fake)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake.Handle("StartTransientUnit", func(scopetest.Call) scopetest.Reply { return scopetest.Fail(tt.name, "no") })
			wantError(t, b.start(t.Context(), testUnit, nil), tt.want)
		})
	}
	t.Run("others stay", func(t *testing.T) {
		fake.Handle("StartTransientUnit", func(scopetest.Call) scopetest.Reply {
			return scopetest.Fail("org.freedesktop.DBus.Error.AccessDenied", "Access denied")
		})
		err := b.start(t.Context(), testUnit, nil)
		if err == nil || !strings.Contains(err.Error(), "Access denied") || errors.Is(err, ErrDisconnected) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatIsGoneNeedsNoStop(t *testing.T) {
	onBothWays(t, func(t *testing.T, _ *scopetest.Systemd, b *bus) {
		if err := b.stop(t.Context(), testUnit); err != nil {
			t.Error(err)
		}
	})
}

// A manager that takes connections and says nothing (PID 1 froze) keeps nobody beyond his deadline.
func TestDialGivesUp(t *testing.T) {
	tests := map[string]func(t *testing.T) endpoint{
		"in the authentication": func(t *testing.T) endpoint {
			path := scopetest.New(t).RuntimeDir() + "/silent"
			silent, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { silent.Close() })
			return endpoint{"unix:path=" + path, true}
		},
		"at Hello":        func(t *testing.T) endpoint { return silentAt(t, "Hello") },
		"at GetNameOwner": func(t *testing.T) endpoint { return silentAt(t, "GetNameOwner") },
		"at Subscribe":    func(t *testing.T) endpoint { return silentAt(t, "Subscribe") },
		"at AddMatch":     func(t *testing.T) endpoint { return silentAt(t, "AddMatch") },
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			leaveNothing(t)
			e := make(t)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := dial(ctx, e)
			wantError(t, err, ErrNoManager)
		})
	}
}

func silentAt(t *testing.T, member string) endpoint {
	fake := scopetest.New(t)
	fake.Handle(member, func(scopetest.Call) scopetest.Reply { return scopetest.Reply{Silent: true} })
	return endpointsOf(fake)["bus"]
}

func TestDialTakesTheNextWay(t *testing.T) {
	leaveNothing(t)
	fake := scopetest.New(t)
	missing := endpoint{"unix:path=" + fake.RuntimeDir() + "/missing", true}
	b, err := dial(t.Context(), missing, endpointsOf(fake)["bus"])
	if err != nil {
		t.Fatal(err)
	}
	b.close()
	b.close()
	_, err = dial(t.Context(), missing, missing)
	wantError(t, err, ErrNoManager)
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

// A connection that breaks while it is being made leaves no goroutine of go-systemd's behind.
func TestFilterClosesAFeedThatComesTooLate(t *testing.T) {
	f := newSignalFilter(false)
	f.Terminate()
	feed := make(chan *dbus.Signal)
	f.AddSignal(feed)
	f.Terminate()
	if _, open := <-feed; open {
		t.Error("the feed is open")
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
