package watcher

import (
	"sync"
	"sync/atomic"
)

// crewSize is how many goroutines a crew has. Each needs a stack, and one for each of ten thousand runs would need more memory than all the
// rest. It is more than there are processors, because one of them can have to wait for a disk or for systemd.
const crewSize = 16

// A crew does the same for each of many, a few at a time. The zero value is ready.
type crew[T any] struct {
	mu      sync.Mutex
	working int  // goroutines of the round
	again   bool // somebody wanted a round while there was one
}

// round has do called for each of all, by goroutines that start starts, and returns at once. While there is a round, it is asked for
// one more, which follows it, however often that is.
func (c *crew[T]) round(start func(func()), all func() []T, do func(T)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.again = c.working > 0; c.again {
		return
	}
	list, next := all(), new(atomic.Int64)
	c.working = min(crewSize, len(list))
	for range c.working {
		start(func() {
			for i := next.Add(1) - 1; i < int64(len(list)); i = next.Add(1) - 1 {
				do(list[i])
			}
			if c.leave() {
				c.round(start, all, do)
			}
		})
	}
}

// leave ends the part of one in a round, and reports whether it was the last and there is to be another round.
func (c *crew[T]) leave() (another bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working--
	return c.working == 0 && c.again
}
