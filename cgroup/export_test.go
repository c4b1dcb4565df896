package cgroup

import "io"

// What the tests need from the inside.

func DetectFrom(mountinfo io.Reader) (FS, error) { return detect(mountinfo) }

func (g *Group) KillOneByOne() error { return g.killOneByOne() }

func IsBelow(name, root string) bool { return isBelow(name, root) }

// SignalPinned lets a test act between the opening of the pidfd and the signal.
var SignalPinned = signalPinned
