package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/scidex/lictor/events"
)

// journalReader reads the output of a detached run with journalctl, which knows every file format of journald; a library
// without cgo that does is not there.
//
// journald notes of every line which stream it came by (_STREAM_ID) and who wrote it. The stream is what a run is known by:
// it belongs to the launcher service, and the analysis inherits it. The unit of the writer would be less: journald looks it
// up when it gets the line, and a short-lived writer is gone by then. Fields that begin with an underscore are journald's
// own; no program can write them.
type journalReader struct {
	app      *App
	run      *events.Run
	stream   string // _STREAM_ID
	cursor   string // of the last entry that was read
	complete bool   // the last line of the launcher has been read
	midLine  bool   // what was printed last did not end its line
}

// journalEntry is an entry, such as a line of output, as `journalctl -o json` writes it.
type journalEntry struct {
	Cursor    string          `json:"__CURSOR"`
	Message   json.RawMessage `json:"MESSAGE"`
	LineBreak string          `json:"_LINE_BREAK"` // why journald ended the line, if not for a line feed
	Stream    string          `json:"_STREAM_ID"`
	PID       string          `json:"_PID"`
	Unit      string          `json:"_SYSTEMD_UNIT"`
	MessageID string          `json:"MESSAGE_ID"`
	About     string          `json:"UNIT"`                  // which unit systemd has written about
	AboutUser string          `json:"USER_UNIT"`             // the same by a user's manager
	Monotonic string          `json:"__MONOTONIC_TIMESTAMP"` // when journald got it, microseconds
}

// ofService matches what the launcher of a run itself has written. Units of the user managers are named by their owner,
// too: everybody could have one of this name.
func ofService(run *events.Run) []string {
	match := []string{"_TRANSPORT=stdout"}
	if cmp.Or(run.ServiceManager, run.Manager) == string(ModeUser) {
		return append(match, "_SYSTEMD_USER_UNIT="+run.Service, "_SYSTEMD_OWNER_UID="+strconv.FormatUint(uint64(run.UID), 10))
	}
	return append(match, "_SYSTEMD_UNIT="+run.Service)
}

// journalctl is the command line that prints entries as JSON, oldest first: the last few (-1 is all), or those after a
// cursor and whatever comes later.
func journalctl(lines int, follow bool, after string, match ...string) []string {
	args := []string{"--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE,_LINE_BREAK,_STREAM_ID,_PID"}
	if lines >= 0 {
		args = append(args, "--lines="+strconv.Itoa(lines))
	}
	if follow {
		args = append(args, "--follow", "--no-tail")
	}
	if after != "" {
		args = append(args, "--after-cursor="+after)
	}
	return append(args, match...)
}

// journalAccess is what helps users who see nothing: without files on disk journald keeps none for them.
const journalAccess = "users see their own output if /var/log/journal exists; members of the group systemd-journal always do"

// open finds the stream of the run, by the first line that its launcher has written.
func (j *journalReader) open(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, journalLag)
	defer cancel()
	err := readJournal(patient, journalctl(-1, true, "", ofService(j.run)...), func(e journalEntry) error {
		j.stream = e.Stream
		return errEnough
	})
	if ctx.Err() == nil && (err == nil || errors.Is(err, context.DeadlineExceeded)) && j.stream == "" {
		err = withHint(fmt.Errorf("the journal has no output of %s (any more), or you may not read it", shortID(j.run.Run)),
			journalAccess)
	}
	return err
}

// printStored prints the last lines of what is there; -1 is all of it.
func (j *journalReader) printStored(ctx context.Context, lines int) error {
	last := lastLines{n: lines, print: j.printLine}
	ask := lines
	if lines >= 0 {
		ask += spokenLines
	}
	err := readJournal(ctx, journalctl(ask, false, "", "_STREAM_ID="+j.stream), func(e journalEntry) error {
		return j.take(e, last.add)
	})
	if err != nil {
		return err
	}
	return last.flush()
}

// spokenLines is how many lines of a stream are lictor's own as a rule: the first, the verdict, the last.
const spokenLines = 3

// follow prints what comes, until the last line or the end of ctx.
func (j *journalReader) follow(ctx context.Context) error {
	return readJournal(ctx, journalctl(-1, true, j.cursor, "_STREAM_ID="+j.stream), func(e journalEntry) error {
		if err := j.take(e, j.printLine); err != nil || !j.complete {
			return err
		}
		return errEnough
	})
}

// outputLine is a line of output, or a part of a very long one.
type outputLine struct {
	text []byte
	ends bool
}

// take hands on what the analysis has written. What lictor said is repeated on stderr, but for the first and the last line.
func (j *journalReader) take(e journalEntry, output func(outputLine) error) error {
	j.cursor = e.Cursor
	text, err := e.text()
	if err != nil {
		return err
	}
	launcher := j.run.Keeper
	if j.run.Launcher != nil {
		launcher = *j.run.Launcher
	}
	if e.PID != strconv.Itoa(launcher.PID) {
		return output(outputLine{text, e.endsLine()})
	}
	if j.midLine && j.app.Stdout.Width() > 0 {
		fmt.Fprintln(j.app.Stdout)
		j.midLine = false
	}
	switch said := strings.TrimPrefix(string(text), "lictor: "); said {
	case firstLine + string(j.run.Run):
	case lastLine + string(j.run.Run):
		j.complete = true
	default:
		j.app.talk("%s", said)
	}
	return nil
}

func (j *journalReader) printLine(l outputLine) error {
	text := l.text
	if j.app.Stdout.Width() > 0 {
		text = []byte(inertLine(string(text)))
	}
	if j.midLine = !l.ends; l.ends {
		text = append(text, '\n')
	}
	_, err := j.app.Stdout.Write(text)
	return err
}

// lastLines passes on the last n lines, at the flush, or all of them at once if n is negative.
type lastLines struct {
	n     int
	print func(outputLine) error
	lines []outputLine
}

func (l *lastLines) add(line outputLine) error {
	if l.n < 0 {
		return l.print(line)
	}
	if l.lines = append(l.lines, line); len(l.lines) > l.n {
		l.lines = l.lines[1:]
	}
	return nil
}

func (l *lastLines) flush() error {
	for _, line := range l.lines {
		if err := l.print(line); err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends the reading of entries without an error.
var errEnough = errors.New("enough")

// readJournal executes journalctl and calls fn with every entry, until fn wants no more or ctx ends.
func readJournal(ctx context.Context, args []string, fn func(journalEntry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var said strings.Builder
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // one that follows would not notice that we are gone
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return withHint(fmt.Errorf("journal: %w", err), "journalctl is a part of systemd; is it in PATH?")
	}
	failed := eachEntry(out, fn)
	asked := ctx.Err()
	if failed != nil {
		cancel()
	}
	err = cmd.Wait()
	switch {
	case errors.Is(failed, errEnough):
		return nil
	case asked != nil:
		return asked
	case failed != nil:
		return fmt.Errorf("journal: %w", failed)
	case err != nil && (said.Len() > 0 || cmd.ProcessState.ExitCode() != 1): // it is 1 and silent where nothing matches
		return withHint(fmt.Errorf("journalctl: %s", cmp.Or(strings.TrimSpace(said.String()), err.Error())), journalAccess)
	}
	return nil
}

// eachEntry reads entries, one JSON object each.
func eachEntry(r io.Reader, fn func(journalEntry) error) error {
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var e journalEntry
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

// text returns the message as it was written. See systemd.io/JOURNAL_EXPORT_FORMATS: what is not UTF-8 or has control
// characters is a list of bytes.
func (e journalEntry) text() ([]byte, error) {
	var text string
	if err := json.Unmarshal(e.Message, &text); err == nil {
		return []byte(text), nil
	}
	var numbers []uint16 // []byte would be read as base64
	if err := json.Unmarshal(e.Message, &numbers); err != nil {
		return nil, fmt.Errorf("message of the entry %q: %w", e.Cursor, err)
	}
	b := make([]byte, len(numbers))
	for i, n := range numbers {
		b[i] = byte(n)
	}
	return b, nil
}

// monotonic is when journald got the entry, on CLOCK_MONOTONIC.
func (e journalEntry) monotonic() time.Duration {
	us, err := strconv.ParseInt(e.Monotonic, 10, 53)
	if err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// endsLine reports whether a line feed belongs after the message: journald cuts lines that are very long, and where another
// process goes on writing.
func (e journalEntry) endsLine() bool {
	return e.LineBreak != "line-max" && e.LineBreak != "pid-change"
}
