package main

import "time"

// heartbeatEvery is how long a person is left without a line while a test runs.
const heartbeatEvery = 30 * time.Second

// heartbeat names the running test whenever nothing has come for a while, until the channel is closed.
func (f *filter) heartbeat(name string, done <-chan struct{}) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			f.mu.Lock()
			running, quiet := f.running, now.Sub(f.printed)
			f.mu.Unlock()
			if quiet >= heartbeatEvery && running != "" {
				say("%s: %s: no result for %.0fs", name, running, quiet.Seconds())
			}
		}
	}
}
