package cgrouptest

import "github.com/scidex/lictor/cgroup"

const (
	emptyPressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
	memoryStat    = "anon 0\nfile 0\nkernel 0\nshmem 0\ninactive_anon 0\nactive_anon 0\ninactive_file 0\nactive_file 0\n"
	emptyCPUStat  = "usage_usec 0\nuser_usec 0\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
)

// rootFiles are those of the root, as far as package cgroup reads them.
var rootFiles = map[string]string{
	"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
	"cgroup.procs":       "",
	"cpu.stat":           emptyCPUStat,
	"memory.stat":        memoryStat,
}

// files are those of a fresh cgroup.
var files = map[string]string{
	"cgroup.controllers":  "cpu io memory pids\n",
	"cgroup.events":       "populated 0\nfrozen 0\n",
	"cgroup.freeze":       "0\n",
	"cgroup.kill":         "",
	"cgroup.procs":        "",
	"cgroup.type":         "domain\n",
	"cpu.stat":            emptyCPUStat,
	"io.stat":             "",
	"memory.current":      "0\n",
	"memory.events":       memoryEventsText(cgroup.MemoryEvents{HasGroupKill: true}),
	"memory.events.local": memoryEventsText(cgroup.MemoryEvents{HasGroupKill: true}),
	"memory.high":         "max\n",
	"memory.max":          "max\n",
	"memory.oom.group":    "0\n",
	"memory.peak":         "0\n",
	"memory.pressure":     emptyPressure,
	"memory.stat":         memoryStat,
	"memory.swap.current": "0\n",
	"memory.swap.max":     "max\n",
	"pids.current":        "0\n",
	"pids.events":         pidsEventsText(0),
	"pids.events.local":   pidsEventsText(0),
	"pids.max":            "max\n",
	"pids.peak":           "0\n",
}
