package cgroup_test

import (
	"errors"
	"fmt"

	"github.com/scidex/lictor/cgroup"
)

// Whoever wants the final counters of a run looks at populated first: what the counters say after that is final.
func ExampleGroup_Events() {
	fs, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	ledger, err := fs.Open("/lictor.slice/lictor-7f3k9q2a.slice")
	if errors.Is(err, cgroup.ErrGone) {
		fmt.Println("recorded and released")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ledger.Close()
	events, err := ledger.Events()
	if err != nil || events.Populated {
		return
	}
	counters, err := ledger.MemoryEvents()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("killed for memory:", counters.OOMKill)
}
