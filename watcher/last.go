package watcher

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// Last is what only the parent of the main process saw of its end. It is written onto the ledger at once, so that it is not
// lost with the parent while left-over processes are being ended.
type Last struct {
	Exit     Exit          `json:"exit"`
	Boottime time.Duration `json:"boottime_ns"`
	Alive    Counters      `json:"alive"` // what the main process had survived
}

const xattrLast = "user.lictor.last"

func (l Last) mark(ledger *cgroup.Group) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("last: %w", err)
	}
	return ledger.SetXattr(xattrLast, string(text))
}

// readLast returns nil if nobody has written it.
func readLast(ledger *cgroup.Group) (*Last, error) {
	text, ok, err := ledger.Xattr(xattrLast)
	if err != nil || !ok {
		return nil, err
	}
	var l Last
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return nil, fmt.Errorf("last: %w", err)
	}
	return &l, nil
}
