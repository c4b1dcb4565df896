package events_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

// listen returns a socket that stands for journald.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fill writes to a socket until it takes nothing more from anybody. How much that is depends on the machine
// (net.unix.max_dgram_qlen is 10, or 512 where systemd set it) and, for each sender, on its buffer.
func fill(t *testing.T, path string) {
	t.Helper()
	for full := false; !full; {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		full = true
		for {
			conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := conn.Write([]byte("FILLER=1\n")); err != nil {
				break
			}
			full = false
		}
	}
}

// receive reads and parses the next entry that is not filler.
func receive(t *testing.T, conn *net.UnixConn) map[string]string {
	t.Helper()
	fields, err := next(conn, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// drain returns what is in a socket's buffer.
func drain(t *testing.T, conn *net.UnixConn) []map[string]string {
	t.Helper()
	var entries []map[string]string
	for {
		fields, err := next(conn, 50*time.Millisecond)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, fields)
	}
}

func next(conn *net.UnixConn, patience time.Duration) (map[string]string, error) {
	for b := make([]byte, 1<<18); ; {
		conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(b)
		if err != nil {
			return nil, err
		}
		fields, err := parseEntry(b[:n])
		if err != nil || fields["FILLER"] == "" {
			return fields, err
		}
	}
}

// parseEntry reads the native protocol as journald does (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
func parseEntry(b []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("no newline after %q", b)
		}
		name, value, simple := bytes.Cut(line, []byte("="))
		if !simple {
			if len(rest) < 8 {
				return nil, fmt.Errorf("no length after %q", line)
			}
			n := binary.LittleEndian.Uint64(rest)
			rest = rest[8:]
			if uint64(len(rest)) < n+1 || rest[n] != '\n' {
				return nil, fmt.Errorf("field %s: length %d of %d", name, n, len(rest))
			}
			value, rest = rest[:n], rest[n+1:]
		}
		if _, twice := fields[string(name)]; twice {
			return nil, fmt.Errorf("field %s is there twice", name)
		}
		fields[string(name)], b = string(value), rest
	}
	return fields, nil
}

// startJournal runs a Journal until the test ends.
func startJournal(t *testing.T, o events.JournalOptions) *events.Journal {
	t.Helper()
	j := events.NewJournal(o)
	done := make(chan error, 1)
	go func() { done <- j.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		j.Close(ctx)
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return j
}

func TestJournalFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	j := startJournal(t, events.JournalOptions{Socket: path})

	r := eventstest.NewRun("7f3k7m1d2c5h")
	r.AnalysisID = "two\nlines"
	ended, e := eventstest.Ended(r)
	j.Send(e, ended)
	want := map[string]string{
		"MESSAGE":             "7f3k7m1d killed: oom (peak 2.0G of 2.0G after 1min 37s)",
		"MESSAGE_ID":          events.MessageIDs[events.KindEnded],
		"PRIORITY":            "4",
		"SYSLOG_IDENTIFIER":   "lictor",
		"UNIT":                "lictor-7f3k7m1d2c5h.scope",
		"OBJECT_SYSTEMD_UNIT": "lictor-7f3k7m1d2c5h.scope",
		"LICTOR_RUN":          "7f3k7m1d2c5h",
		"LICTOR_ANALYSIS_ID":  "two\nlines",
		"LICTOR_KIND":         "ended",
		"LICTOR_REASON":       "oom",
		"LICTOR_STATE":        "killed",
		"LICTOR_PID":          "48213",
		"LICTOR_MEMORY_PEAK":  "2147479552",
		"LICTOR_MEMORY_MAX":   "2147483648",
		"LICTOR_DURATION_SEC": "97.2",
		"LICTOR_EVENT_ID":     e.ID,
	}
	if diff := cmp.Diff(want, receive(t, server)); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}

	r.Manager, r.AnalysisID = "user", ""
	j.Send(events.NewEvent(r, events.KindStarted, 0, time.Now()), r)
	want = map[string]string{
		"MESSAGE":           "7f3k7m1d started (memory limit 2.0G, time limit 30min)",
		"MESSAGE_ID":        events.MessageIDs[events.KindStarted],
		"PRIORITY":          "6",
		"SYSLOG_IDENTIFIER": "lictor",
		"USER_UNIT":         "lictor-7f3k7m1d2c5h.scope",
		"LICTOR_RUN":        "7f3k7m1d2c5h",
		"LICTOR_KIND":       "started",
		"LICTOR_MEMORY_MAX": "2147483648",
		"LICTOR_EVENT_ID":   events.EventID("7f3k7m1d2c5h", events.KindStarted, 0),
	}
	if diff := cmp.Diff(want, receive(t, server)); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	if n := j.Dropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

func TestJournalMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	j := startJournal(t, events.JournalOptions{Socket: path})
	r := eventstest.NewRun("7f3k7m1d2c5h")
	for _, c := range []struct {
		kind   events.Kind
		reason events.Reason
		detail any
		want   string
	}{
		{events.KindAdopted, "", nil, "7f3k7m1d adopted (memory limit 2.0G, time limit 30min)"},
		{events.KindOOM, "", events.OOMDetail{Kills: 2, WhoseLimit: "own"}, "7f3k7m1d lost 2 processes to the kernel's out-of-memory killer: its own memory limit"},
		{events.KindOOM, "", events.OOMDetail{Kills: 9, GroupKills: 1, Victims: []events.Victim{{PID: 1}}, WhoseLimit: "host"}, "7f3k7m1d lost 1 process to the kernel's out-of-memory killer: the host ran out of memory"},
		{events.KindOOM, "", nil, "7f3k7m1d lost 1 process to the kernel's out-of-memory killer"},
		{events.KindTasksLimit, "", nil, "7f3k7m1d was refused a fork or thread: it reached TasksMax"},
		{events.KindLimitChanged, "", nil, "7f3k7m1d no longer has the limits it was started with"},
		{events.KindEscaped, "", nil, "a process of 7f3k7m1d was found outside its scope"},
		{events.KindIntent, events.ReasonTimeout, events.IntentDetail{Signal: "SIGTERM", By: "lictor"}, "7f3k7m1d is about to be ended (timeout, SIGTERM, by lictor)"},
		{events.KindIntent, "", nil, "7f3k7m1d is about to be ended"},
		{events.KindTerm, events.ReasonStop, events.StepDetail{By: "uid 1000"}, "7f3k7m1d was sent SIGTERM (stop, by uid 1000)"},
		{events.KindKill, events.ReasonTimeout, nil, "7f3k7m1d was sent SIGKILL (timeout)"},
		{events.KindKill, "", events.StepDetail{By: "a\nb", Signal: "SIGUSR1"}, `7f3k7m1d was sent SIGUSR1 (by a\nb)`},
		{events.KindSurvived, "", events.SurvivedDetail{Processes: []events.Process{{PID: 7, Comm: "dd", WChan: "io_schedule"}}},
			"process 7 (dd, io_schedule) of 7f3k7m1d outlives SIGKILL: it hangs in the kernel"},
		{events.KindSurvived, "", events.SurvivedDetail{Processes: []events.Process{{PID: 7}, {PID: 8}}},
			"process 7 of 7f3k7m1d and 1 more outlive SIGKILL: they hang in the kernel"},
		{events.KindSurvived, "", nil, "processes of 7f3k7m1d outlive SIGKILL: they hang in the kernel"},
		{events.KindOrphans, "", events.OrphansDetail{Processes: make([]events.Process, 3)}, "3 left-over processes of 7f3k7m1d were ended"},
		{events.KindOrphans, "", events.OrphansDetail{Processes: make([]events.Process, 1)}, "1 left-over process of 7f3k7m1d was ended"},
		{events.KindOrphans, "", nil, "left-over processes of 7f3k7m1d were ended"},
		{events.KindKeeperChanged, "", nil, "7f3k7m1d is watched by another process now"},
		{"later\nkind", "", nil, `7f3k7m1d later\nkind`},
	} {
		e := events.NewEvent(r, c.kind, 0, time.Now())
		e.Reason = c.reason
		if c.detail != nil {
			e.Detail, _ = json.Marshal(c.detail)
		}
		j.Send(e, r)
		if got := receive(t, server)["MESSAGE"]; got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.kind, got, c.want)
		}
	}
	// Without the run, what the event says is all there is.
	_, e := eventstest.Ended(r)
	j.Send(e, nil)
	if got, want := receive(t, server)["MESSAGE"], "7f3k7m1d killed: oom"; got != want {
		t.Errorf("ended without its run: %q, want %q", got, want)
	}
}

// Whatever strangers write, the entry parses, has the same fields, and is small enough for one datagram.
func TestJournalHostile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	j := startJournal(t, events.JournalOptions{Socket: path})
	for _, s := range []string{"a=b", "x\nLICTOR_RUN=forged\nPRIORITY=0", "\n\n\n", "\x00\xff", strings.Repeat("long\n", 1<<18), strings.Repeat("日", 1<<16)} {
		r := eventstest.NewRun("7f3k7m1d2c5h")
		r.AnalysisID, r.Unit, r.Command = s, s, []string{s}
		ended, e := eventstest.Ended(r)
		ended.Reason, e.Reason, ended.By = events.Reason(s), events.Reason(s), s
		j.Send(e, ended)
		got := receive(t, server)
		if got["LICTOR_RUN"] != "7f3k7m1d2c5h" || got["PRIORITY"] != "4" || len(got) != 16 {
			t.Errorf("%.20q: forged or lost fields: %.300q", s, got)
		}
		for name, value := range got {
			if len(value) > 4096 {
				t.Errorf("%s has %d bytes", name, len(value))
			}
		}
		if id := got["LICTOR_ANALYSIS_ID"]; len(s) <= 4096 && id != s || !strings.HasPrefix(s, strings.TrimSuffix(id, "…")) {
			t.Errorf("analysis id %.40q, want %.40q", id, s)
		}
	}
	if n := j.Dropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

// journald hangs: its socket is there and full. Send returns at once, what does not fit is counted, Close keeps its
// deadline.
func TestJournalHangs(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%t", running), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "socket")
			server := listen(t, path)
			fill(t, path)
			j := events.NewJournal(events.JournalOptions{Socket: path, Queue: 50})
			done := make(chan error, 1)
			if running {
				go func() { done <- j.Run(context.Background()) }()
			} else {
				done <- nil
			}
			r := eventstest.NewRun("7f3k7m1d2c5h")
			const sent = 500
			start := time.Now()
			for i := range sent {
				j.Send(events.NewEvent(r, events.KindIntent, i, start), r)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("%d events took %v to queue", sent, took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			start = time.Now()
			err := j.Close(ctx)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("Close took %v, its deadline was 200ms", took)
			}
			if err == nil || !strings.Contains(err.Error(), "events not delivered") {
				t.Errorf("Close: %v, want the number of events that were given up", err)
			}
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			arrived := len(drain(t, server))
			if got := uint64(arrived) + j.Dropped(); got != sent {
				t.Errorf("%d arrived and %d dropped, %d were sent", arrived, j.Dropped(), sent)
			}
			j.Send(events.NewEvent(r, events.KindIntent, sent, start), r)
			if got := uint64(arrived) + j.Dropped(); got != sent+1 {
				t.Error("an event after Close was not counted")
			}
		})
	}
}

// journald was slow and reads again: nothing is lost.
func TestJournalRecovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	fill(t, path)
	j := startJournal(t, events.JournalOptions{Socket: path})
	r := eventstest.NewRun("7f3k7m1d2c5h")
	const sent = 100
	for i := range sent {
		j.Send(events.NewEvent(r, events.KindIntent, i, time.Now()), r)
	}
	for i := range sent {
		if got, want := receive(t, server)["LICTOR_EVENT_ID"], events.EventID(r.Run, events.KindIntent, i); got != want {
			t.Fatalf("event %d: id %s, want %s", i, got, want)
		}
	}
}

// journald is restarted: the next event goes to the new socket.
func TestJournalRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	j := startJournal(t, events.JournalOptions{Socket: path})
	r := eventstest.NewRun("7f3k7m1d2c5h")
	for i := range 3 {
		server := listen(t, path)
		e := events.NewEvent(r, events.KindIntent, i, time.Now())
		j.Send(e, r)
		if got := receive(t, server)["LICTOR_EVENT_ID"]; got != e.ID {
			t.Errorf("after restart %d: id %s, want %s", i, got, e.ID)
		}
		server.Close()
		os.Remove(path)
	}
	if n := j.Dropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

// There is no journald at all.
func TestJournalMissing(t *testing.T) {
	j := events.NewJournal(events.JournalOptions{Socket: filepath.Join(t.TempDir(), "socket")})
	r := eventstest.NewRun("7f3k7m1d2c5h")
	j.Send(events.NewEvent(r, events.KindStarted, 0, time.Now()), r)
	if err := j.Close(t.Context()); err == nil || j.Dropped() != 1 {
		t.Errorf("Close: %v, %d dropped; want an error and 1", err, j.Dropped())
	}
	if err := j.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// A short-lived process needs no Run: Close sends what was queued.
func TestJournalCloseSends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	j := events.NewJournal(events.JournalOptions{Socket: path})
	r := eventstest.NewRun("7f3k7m1d2c5h")
	for i := range 3 {
		j.Send(events.NewEvent(r, events.KindIntent, i, time.Now()), r)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(drain(t, server)); n != 3 {
		t.Errorf("%d entries arrived, want 3", n)
	}
}

func TestJournalRunEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server := listen(t, path)
	fill(t, path)
	j := events.NewJournal(events.JournalOptions{Socket: path})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	r := eventstest.NewRun("7f3k7m1d2c5h")
	const sent = 40
	for i := range sent {
		j.Send(events.NewEvent(r, events.KindIntent, i, time.Now()), r)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("Run did not end with its context")
	}
	closed := make(chan error, 1)
	go func() { closed <- j.Close(context.Background()) }()
	for i := range sent {
		if got, want := receive(t, server)["LICTOR_EVENT_ID"], events.EventID(r.Run, events.KindIntent, i); got != want {
			t.Fatalf("entry %d: id %s, want %s", i, got, want)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
