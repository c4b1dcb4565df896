// Package eventstest is the behaviour that every events.Store must have, as a test suite, and Memory, a store for the tests
// of other packages that passes it.
//
// A store's own test calls Run with a function that opens an empty store:
//
//	func TestContract(t *testing.T) {
//		eventstest.Run(t, func(t *testing.T) events.Store { return open(t) })
//	}
//
// Memory forgets everything when the process ends. What it holds went through JSON, as in a database, so that a test
// sees what a reader would see.
package eventstest
