package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/events"
)

// topSession is a `lictor top` in a terminal. The goroutine of run owns model and screen; looks, pages and stops have one
// each, so that the keys work while a store or a run hangs, and answer with a message.
type topSession struct {
	app     *App
	screen  *screen
	sampler *topSampler // of the one look that is under way
	model   topModel
	answers chan topMessage // unbuffered; nobody waits for a place in it when gone is closed
	gone    chan struct{}
	signals chan os.Signal
}

// topCrash is a panic of another goroutine. It has to be that of the one that gives the terminal back.
type topCrash struct{ text string }

func (c topCrash) apply(topModel) (topModel, []topEffect) { panic(c.text) }

var errQuit = errors.New("quit") // how run ends

// topScreen runs until somebody quits. Whatever ends it, the terminal is given back before.
func (a *App) topScreen(ctx context.Context, screen *screen, o topOptions) error {
	t := &topSession{app: a, screen: screen, sampler: &topSampler{app: a}, model: newTopModel(o), answers: make(chan topMessage),
		gone: make(chan struct{}), signals: make(chan os.Signal, 16)} // os/signal drops what does not fit; one of each is enough
	defer close(t.gone)
	signal.Notify(t.signals, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(t.signals)
	err := t.run(ctx)
	signal.Stop(t.signals) // an interrupt ends the wait
	if !errors.Is(err, errQuit) {
		return err
	}
	return t.finish()
}

// run is the loop: something happens, the model changes, effects begin, the screen follows.
func (t *topSession) run(ctx context.Context) (err error) {
	if err := t.screen.enter(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.screen.leave()) }() // on a panic, too
	keys, stop, err := t.screen.listen()
	if err != nil {
		return err
	}
	defer stop()
	ctx, cancel := context.WithCancel(ctx) // of looks and pages; stops go on
	defer cancel()
	tick := time.NewTicker(t.model.delay)
	defer tick.Stop()
	var typed []byte
	var escape <-chan time.Time
	messages := []topMessage{t.screen.size(), topStart{}}
	for {
		for _, message := range messages {
			if err := t.take(ctx, message); err != nil {
				return err
			}
		}
		if err := t.screen.draw(t.app.topLines(t.model)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-keys:
			if !ok {
				return errQuit // the terminal has gone
			}
			messages, typed = keyMessages(append(typed, b...), false) // none, if it is the beginning of one
			escape = nil
			if len(typed) > 0 {
				escape = time.After(escapePatience)
			}
		case <-escape:
			messages, typed = keyMessages(typed, true)
			escape = nil
		case <-tick.C:
			messages = []topMessage{topTick{t.app.Now()}}
		case answer := <-t.answers:
			messages = []topMessage{answer}
		case sig := <-t.signals:
			if messages, err = t.signalled(sig.(syscall.Signal)); err != nil {
				return err
			}
		}
	}
}

// escapePatience is how long the rest of a sequence may take; longer, and the key Esc was meant.
const escapePatience = 50 * time.Millisecond

func keyMessages(input []byte, final bool) (messages []topMessage, rest []byte) {
	keys, rest := decodeKeys(input, final)
	for _, k := range keys {
		messages = append(messages, k)
	}
	return messages, rest
}

// topStart is the first message.
type topStart struct{}

func (topStart) apply(m topModel) (topModel, []topEffect) { return m.start() }

// take lets a message change the model, and begins the effects.
func (t *topSession) take(ctx context.Context, message topMessage) error {
	var effects []topEffect
	t.model, effects = t.model.update(message)
	for _, e := range effects {
		switch e.act {
		case actQuit:
			return errQuit
		case actRedraw:
			t.screen.redraw()
		case actSuspend:
			// As the terminal would: whoever waits for us, such as sudo, is stopped too. We get it as a signal.
			if err := unix.Kill(0, unix.SIGTSTP); err != nil {
				return err
			}
		case actSample:
			t.begin(func() topMessage { return t.sampler.sample(ctx) })
		case actWhy, actTree:
			t.begin(func() topMessage { return t.app.topText(ctx, e) })
		case actStop:
			t.begin(func() topMessage { return t.app.topStop(context.WithoutCancel(ctx), e.run) })
		}
	}
	return nil
}

// begin runs an effect.
func (t *topSession) begin(effect func() topMessage) {
	go func() {
		var answer topMessage
		defer func() {
			if p := recover(); p != nil {
				answer = topCrash{fmt.Sprintf("%v\n\n%s", p, debug.Stack())}
			}
			select {
			case t.answers <- answer:
			case <-t.gone:
			}
		}()
		answer = effect()
	}()
}

// signalled returns what a signal means. Those that end a process end this one, with the status that a shell shows for them.
func (t *topSession) signalled(sig syscall.Signal) ([]topMessage, error) {
	switch sig {
	case unix.SIGTSTP:
		if err := t.screen.suspend(); err != nil {
			return nil, err
		}
	case unix.SIGCONT: // of a SIGSTOP, of which nobody was told
		if err := t.screen.enter(); err != nil {
			return nil, err
		}
	case unix.SIGWINCH:
	default:
		return nil, withCode(128+int(sig), nil)
	}
	return []topMessage{t.screen.size()}, nil
}

// finish waits for the runs that are being stopped, as `lictor stop` does.
func (t *topSession) finish() error {
	var errs []error
	for said := false; len(t.model.stopping) > 0; {
		if !said {
			said = true
			t.app.talk("waiting for the end of %s (Ctrl-C leaves that to the keeper)", t.model.stoppingNames())
		}
		answer := <-t.answers
		t.model, _ = t.model.update(answer)
		if s, ok := answer.(topStopped); ok && s.problem != "" {
			errs = append(errs, errors.New(s.problem))
		}
	}
	return errors.Join(errs...)
}

func (m topModel) stoppingNames() string {
	names := make([]string, len(m.stopping))
	for i, id := range m.stopping {
		names[i] = m.name(id)
	}
	return strings.Join(names, ", ")
}

// topText is what `lictor why` and `lictor tree` say of a run.
func (a *App) topText(ctx context.Context, e topEffect) topText {
	var text bytes.Buffer
	var words transcript
	app := *a
	app.Stdout, app.Stderr, app.Settle = newOutput(&text), &words, nil
	err := app.read(ctx, func(ctx context.Context, s events.Reader) error {
		if e.act == actTree {
			return app.tree(ctx, s, []string{string(e.run)}, false)
		}
		return app.why(ctx, s, []string{string(e.run)}, false)
	})
	if err != nil {
		report(&text, err)
	}
	return topText{e.act, e.run, strings.Split(strings.TrimRight(text.String(), "\n"), "\n")}
}

// topStop does what `lictor stop` does.
func (a *App) topStop(ctx context.Context, run events.RunID) topStopped {
	var words transcript
	app := *a
	app.Stderr = &words
	if err := app.stop(ctx, []string{string(run)}, nil); err != nil {
		return topStopped{run, "stop " + shortID(run) + ": " + oneLine(err)}
	}
	return topStopped{run, strings.Join(words.lines(), "; ")}
}
