package watcher

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/scidex/lictor/events"
)

// around says what memory there was besides the run's own: the proof that its limit, and no other, was the one.
func (k *Keeper) around() []events.Evidence {
	list := []events.Evidence{hostMemory()}
	if k.Box.Fleet == nil {
		return list
	}
	current, limit, err := k.Box.Fleet()
	values := map[string]any{"memory.current": current, "memory.max": limit.String()}
	if n, ok := limit.Uint64(); ok {
		values["memory.max"] = n
	}
	return append(list, source("lictor.slice", err, values))
}

func hostMemory() events.Evidence {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return source("host", err, nil)
	}
	defer f.Close()
	values, err := parseMeminfo(f, "MemTotal", "MemAvailable")
	return source("host", err, values)
}

// parseMeminfo reads fields of /proc/meminfo, proc_meminfo(5), in bytes:
//
//	MemTotal:       24534976 kB
//	MemAvailable:   23813060 kB
//
// Other fields are ignored; one that is asked for and missing is an error.
func parseMeminfo(r io.Reader, names ...string) (map[string]any, error) {
	values := map[string]any{}
	for sc := bufio.NewScanner(r); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		for _, want := range names {
			if name != want {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(rest, " kB")), 10, 54)
			if err != nil {
				return nil, fmt.Errorf("meminfo: %s: %w", name, err)
			}
			values[name] = n << 10
		}
	}
	for _, want := range names {
		if values[want] == nil {
			return nil, fmt.Errorf("meminfo: %s is missing", want)
		}
	}
	return values, nil
}
