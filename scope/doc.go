// Package scope puts a process into a box: a transient systemd scope whose limits the kernel and systemd enforce, inside a
// slice of its own that outlives it.
//
// # Theory of operation
//
//	launcher (this process, the caller's own uid)          systemd (PID 1 or the user manager)
//	  fork ──▶ child: waits at the barrier
//	  StartTransientUnit(scope, PIDs=[child], Slice=ledger) ──▶ makes ledger slice and scope, moves the child
//	  ◀── JobRemoved = done
//	  verify: child is in the scope's cgroup, memory.max is what was asked for, the scope is active
//	  write the facts of the run onto the ledger cgroup (user.lictor.* extended attributes)
//	  open the barrier ──▶ child: execve
//	  parent of the analysis: Wait knows the exit status
//
// The child is this very program, executed again with a marker in argv[0]; package internal/barrier takes it over before
// anything else of the program runs. It waits on a socket that only the launcher holds, so if the launcher dies the child
// reads end of file and exits: nothing ever runs unconfined. Any failure before the barrier opens ends with the child dead,
// the units gone and an error.
//
// The daemonless launcher needs no privileges beyond those of the manager it talks to: root for the system manager, nobody's
// for `systemd --user`. In the user manager the limits contain accidents, not malice: a process of the same uid can raise
// them.
//
// The ledger (lictor-RUN.slice) exists because systemd removes a scope's cgroup with its last process, and the counters
// that tell why it died with it. Counters are hierarchical, nobody puts processes into the slice, and systemd keeps it until
// Release: whoever comes later can still read the truth.
//
// Connections to systemd are made on demand, over its private socket where there is one (no bus daemon, no strangers), else
// over the bus, where only signals sent by the owner of org.freedesktop.systemd1 are believed.
package scope
