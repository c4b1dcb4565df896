package main

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

// say prints one line for people.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "testbed: "+format+"\n", args...)
}

// progressEvery is how long a person is left without a line.
const progressEvery = 5 * time.Second

// A progress prints the elapsed time, the stage and the last line of output every few seconds. It is an io.Writer
// for the output of the commands it watches, all of which it keeps for the error message.
type progress struct {
	what  string
	start time.Time
	done  chan struct{} // closed by stop, its only sender
	wg    sync.WaitGroup

	mu    sync.Mutex
	stage string
	log   bytes.Buffer
}

func startProgress(what string) *progress {
	p := &progress{what: what, start: time.Now(), done: make(chan struct{})}
	p.wg.Go(p.loop)
	return p
}

func (p *progress) loop() {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
			p.mu.Lock()
			say("%s: %3.0fs %s: %s", p.what, time.Since(p.start).Seconds(), p.stage, lastLine(p.log.Bytes()))
			p.mu.Unlock()
		}
	}
}

func (p *progress) setStage(stage string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stage = stage
}

func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// tail returns the last n lines written.
func (p *progress) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return tailLines(p.log.Bytes(), n)
}

// stop ends the lines and returns the time since the start.
func (p *progress) stop() time.Duration {
	close(p.done)
	p.wg.Wait()
	return time.Since(p.start)
}

func lastLine(b []byte) string { return tailLines(b, 1) }

func tailLines(b []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
