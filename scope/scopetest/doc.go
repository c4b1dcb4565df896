// Package scopetest fakes systemd, so that package scope can be tested on machines that have none.
//
// A [Systemd] listens on two sockets below one directory, laid out as XDG_RUNTIME_DIR is for a user manager: its private
// socket and the bus. It speaks the real protocol on real sockets, so the code under test runs unchanged, go-systemd and
// godbus included. One goroutine answers each connection, in order.
//
// What is real: authentication, messages, the order of replies and signals, connections that break. What is played: the
// units. A transient unit is active as soon as its start job is done and stays until it is stopped; its properties are those it was
// made with. Nothing is executed and no cgroup is made: the function given to [Systemd.OnUnit] may do that in a
// cgrouptest.Tree.
//
// On the bus socket the fake is also the bus daemon. Where it differs from a real one, and tests have to know it: match rules
// are noted but everybody gets every signal, and [Systemd.Emit] sends signals in anybody's name, which a daemon only does for
// its owner. It is for playing the other clients of the bus.
package scopetest
