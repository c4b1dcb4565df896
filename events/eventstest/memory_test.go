package eventstest_test

import (
	"testing"

	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/events/eventstest"
)

func TestMemory(t *testing.T) {
	eventstest.Run(t, func(t *testing.T) events.Store { return new(eventstest.Memory) })
}
