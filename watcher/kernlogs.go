package watcher

import (
	"sync"
	"time"

	"github.com/scidex/lictor/cgroup"
)

// maxKernelKills is how many kills are remembered for runs that have not asked about them yet.
const maxKernelKills = 8192

// KernelLogs is one reading of the kernel log for many runs: walking through the ring costs a system call for each record,
// whoever asks.
type KernelLogs struct {
	log    KernelKills
	close  func() error
	oldest func(boottime time.Duration) time.Duration // the kernel's date that a time can have

	mu     sync.Mutex
	kills  []KernelKill
	first  uint64 // number of kills[0], counted since the log was opened
	losses uint64
}

// OpenKernelLogs opens the kernel log, with what the ring still holds. The error is that of OpenKernelLog.
func OpenKernelLogs() (*KernelLogs, error) {
	log, err := OpenKernelLogSince(0)
	if err != nil {
		return nil, err
	}
	oldest := func(at time.Duration) time.Duration { return kmsgBound(at, cgroup.Boottime(), monotonic()) }
	return &KernelLogs{log: log, close: log.Close, oldest: oldest}, nil
}

// Close closes the log.
func (k *KernelLogs) Close() error { return k.close() }

// Since returns a view of the kills after the given time on CLOCK_BOOTTIME; see OpenKernelLogSince for how exact that is.
func (k *KernelLogs) Since(boottime time.Duration) KernelKills {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &kernelView{logs: k, oldest: k.oldest(boottime), next: k.first, losses: k.losses}
}

// kernelView is where one run is in the log.
type kernelView struct {
	logs   *KernelLogs
	oldest time.Duration
	next   uint64 // number of the first kill that it has not seen
	losses uint64
}

// Kills implements KernelKills.
func (v *kernelView) Kills() (kills []KernelKill, lost bool, err error) {
	k := v.logs
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.read()
	lost = k.losses != v.losses || v.next < k.first
	v.losses = k.losses
	for i, kill := range k.kills {
		if k.first+uint64(i) >= v.next && kill.At >= v.oldest {
			kills = append(kills, kill)
		}
	}
	v.next = k.first + uint64(len(k.kills))
	return kills, lost, err
}

// read takes what is new in the log. mu is held.
func (k *KernelLogs) read() error {
	kills, lost, err := k.log.Kills()
	if lost {
		k.losses++
	}
	k.kills = append(k.kills, kills...)
	if over := len(k.kills) - maxKernelKills; over > 0 {
		k.kills = append([]KernelKill(nil), k.kills[over:]...)
		k.first += uint64(over)
	}
	return err
}
