package cgroup

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// maxParsed bounds what a parser takes from a reader; cgroup.procs of 100000 processes is as long as that.
const maxParsed = 1 << 20

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxParsed+1))
	if err == nil && len(b) > maxParsed {
		err = fmt.Errorf("longer than %d bytes", maxParsed)
	}
	return b, err
}

// keyed is a line of a flat keyed file ("KEY N\n" on each line), with what follows it:
//
//	line := keyed{rest: b}.next()
//	for ; line.ok; line = line.next() {
//		… line.key, line.n …
//	}
//	if line.bad {
//		return malformed(line.key)
//	}
//
// It is a value, and neither an iterator nor a scanner: either would move the caller's buffer to the heap, and this is on the hot path.
type keyed struct {
	key  []byte
	n    uint64
	ok   bool // there is such a line
	bad  bool // there is a line, held in key, that has another form
	rest []byte
}

func (k keyed) next() keyed {
	if len(k.rest) == 0 {
		return keyed{}
	}
	line, rest := nextLine(k.rest)
	key, value, ok := bytes.Cut(line, []byte(" "))
	n, err := parseUint(value)
	if !ok || len(key) == 0 || err != nil {
		return keyed{key: line, bad: true}
	}
	return keyed{key: key, n: n, ok: true, rest: rest}
}

// malformed copies the line it quotes, for the same reason.
func malformed(line []byte) error {
	return fmt.Errorf("malformed line %q", string(line))
}

// nextLine splits the first line off, without its newline.
func nextLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))
	return line, rest
}

func parseUint(b []byte) (uint64, error) {
	return strconv.ParseUint(string(b), 10, 64)
}
