package dashboard

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scidex/lictor/cmd/lictor/internal/api"
)

// The delays of a stream.
const (
	streamPause = time.Second      // between two looks at a page
	streamBeat  = 15 * time.Second // between two signs of life
	streamStall = 15 * time.Second // for a browser to take what it was sent
)

// stream sends the live part of a page whenever it has changed, until the browser goes.
func (d *Dashboard) stream(w http.ResponseWriter, r *http.Request, name string, find content) {
	select {
	case d.streams <- struct{}{}:
		defer func() { <-d.streams }()
	default:
		d.fail(w, r, api.NewProblem(http.StatusTooManyRequests, "too many pages are kept up to date", "close some"))
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	header(w)
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(streamStall))
		_, err := w.Write([]byte(text))
		return err == nil && control.Flush() == nil
	}
	tick := time.NewTicker(streamPause)
	defer tick.Stop()
	last, said := "", time.Time{}
	for {
		now, err := d.cache.get(viewer(r)+" "+r.URL.RequestURI(), func() (string, error) { return d.live(r, name, find) })
		switch {
		case err != nil: // the page says so when it is loaded again
		case now != last:
			text, err := json.Marshal(now)
			if err != nil || !send("event: page\ndata: "+string(text)+"\n\n") {
				return
			}
			last, said = now, time.Now()
		case time.Since(said) > streamBeat:
			if !send(": still here\n\n") {
				return
			}
			said = time.Now()
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// live is the part of a page that is kept up to date.
func (d *Dashboard) live(r *http.Request, name string, find content) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), writeTime) // it is for others, too
	defer cancel()
	_, data, err := find(r.WithContext(ctx))
	if err != nil {
		return "", err
	}
	var body strings.Builder
	err = d.pages[name].ExecuteTemplate(&body, "live", frame{Page: name, Live: true, Data: data})
	return body.String(), err
}

// viewer is the same for all who may see the same.
func viewer(r *http.Request) string {
	if p := api.PeerOf(r); !p.All() {
		return strconv.FormatUint(uint64(p.UID), 10)
	}
	return "all"
}

// cache has what was rendered within the last second, or longer, if not for longer than stale, where all that is looked at would
// cost more than a tenth of a processor.
type cache struct {
	mu      sync.Mutex
	entries map[string]cached
	used    func() time.Duration // of processors, by now
}

// stale is how old a page may be at most, whatever it costs.
const stale = 10 * time.Second

// processorTime is what this process has used. What others did meanwhile makes a page look expensive, and then there is reason to wait.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type cached struct {
	until time.Time
	text  string
}

func (c *cache) get(key string, make func() (string, error)) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock() // one at a time: the daemon has better things to do
	if have, ok := c.entries[key]; ok && time.Now().Before(have.until) {
		return have.text, nil
	}
	before := c.used()
	text, err := make()
	if err != nil {
		return "", err
	}
	now := time.Now()
	for k, e := range c.entries { // as many as pages are looked at
		if now.Sub(e.until) > streamPause {
			delete(c.entries, k)
		}
	}
	c.entries[key] = cached{text: text}
	rest := 10 * (c.used() - before) * time.Duration(len(c.entries))
	c.entries[key] = cached{now.Add(min(max(streamPause*9/10, rest), stale)), text}
	return text, nil
}
