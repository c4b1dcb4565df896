package cgroup

import (
	"fmt"
	"io"
)

// MemoryStat says what the memory of a cgroup and its descendants is used for, in bytes (memory.stat).
type MemoryStat struct {
	Anon         uint64 // heap, stacks, anonymous maps
	File         uint64 // page cache, tmpfs and shared memory included
	InactiveFile uint64 // the part of File that is reclaimed first
	Shmem        uint64 // tmpfs, shared memory, shared anonymous maps
}

// ParseMemoryStat reads memory.stat:
//
//	anon 1048576
//	file 4096
//	kernel 65536
//	shmem 0
//	inactive_file 4096
//
// and some forty other lines, which are ignored. A file without anon, file, inactive_file or shmem is malformed.
func ParseMemoryStat(r io.Reader) (MemoryStat, error) {
	b, err := readBounded(r)
	if err != nil {
		return MemoryStat{}, err
	}
	return parseMemoryStat(b)
}

func parseMemoryStat(b []byte) (MemoryStat, error) {
	var s MemoryStat
	seen := 0
	line := keyed{rest: b}.next()
	for ; line.ok; line = line.next() {
		switch string(line.key) {
		case "anon":
			s.Anon, seen = line.n, seen|1
		case "file":
			s.File, seen = line.n, seen|2
		case "inactive_file":
			s.InactiveFile, seen = line.n, seen|4
		case "shmem":
			s.Shmem, seen = line.n, seen|8
		}
	}
	if line.bad {
		return MemoryStat{}, malformed(line.key)
	}
	if seen != 1|2|4|8 {
		return MemoryStat{}, fmt.Errorf("anon, file, inactive_file or shmem is missing in %d bytes", len(b))
	}
	return s, nil
}

// MemoryStat reads memory.stat. Without the memory controller it is [ErrUnsupported].
func (g *Group) MemoryStat() (MemoryStat, error) {
	var buf [4096]byte
	b, err := g.read("memory.stat", buf[:])
	if err != nil {
		return MemoryStat{}, err
	}
	s, err := parseMemoryStat(b)
	if err != nil {
		return MemoryStat{}, fileError(g.path, "memory.stat", err)
	}
	return s, nil
}
