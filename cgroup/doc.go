// Package cgroup reads, signals and kills a control group that exists.
//
// # Theory of operation
//
// Nothing here makes a cgroup or sets a limit: systemd does both, at the request of package scope. This package is what
// every other process of lictor uses afterwards: the launcher, to see that its child is where it should be; the keeper, to
// read counters and to end what is left over; a newcomer, to find out from extended attributes whose box it has in front
// of it. It works on cgroup v2 only, needs no privilege to read, and to write exactly the permission that the file in
// question asks for. It starts no goroutine and keeps no state but descriptors.
//
// A [Group] is an open directory and an inode number, not a path. The kernel never gives an inode number of its cgroup
// file system out twice, and an open directory never becomes another one, so a Group that was removed and made again under
// the same name is gone, and stays gone. Every read is openat, read and close below that directory, with the buffer on the
// caller's stack. Files are not kept open: a descriptor for each of ten files of each of a thousand runs would buy little.
//
// Three states that other libraries fold into 0 are told apart:
//
//   - the cgroup is gone: [ErrGone], from ENODEV, or from ENOENT when the directory itself is dead;
//   - the file does not exist, because the kernel is too old or the controller is off: an unset [Value], or
//     [ErrUnsupported] where the result is a plain number;
//   - the file is there and cannot be read or understood: any other error.
//
// A 0 is a 0 that the kernel wrote.
//
// A process is signalled through a pidfd and never by number. [Group.Signal] opens the pidfd first and looks again whether
// the process is a member of the group afterwards; [SignalPID] does the same with the start time. [Group.Kill] leaves both
// to the kernel by writing to cgroup.kill below the open directory, so that it cannot hit a cgroup that took over the name.
//
// Whoever reads counters of a run that may be ending reads [Group.Events] first. Once populated is false nothing is charged
// on behalf of a process any more; the other way round, the last kill could fall between the two reads.
//
// The reference for all files is Documentation/admin-guide/cgroup-v2.rst in the Linux source
// (https://docs.kernel.org/admin-guide/cgroup-v2.html). Keys that a newer kernel adds to a file are ignored; a line
// that does not have the documented form is an error.
package cgroup
