package cgroup

import "strconv"

// Attach moves a process into the cgroup by writing cgroup.procs. The kernel asks for write access here and to that file of
// the nearest common ancestor of where it comes from. Memory that it holds stays charged to where it was. The number is
// all that the kernel takes: the caller makes sure that it means the process it has in mind.
func (g *Group) Attach(pid int) error { return g.write("cgroup.procs", strconv.Itoa(pid)) }
