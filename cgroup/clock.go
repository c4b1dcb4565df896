package cgroup

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BootID names this boot of the machine (/proc/sys/kernel/random/boot_id). Pids, start ticks, cgroup ids and readings of
// [Boottime] mean nothing in another one.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Boottime is the time since boot, suspend included (CLOCK_BOOTTIME). Nobody can set it, so deadlines are kept in it; start
// ticks count on the same clock.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("cgroup: CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// userHZ is USER_HZ, the unit in which the kernel shows ticks to programs. It is not CONFIG_HZ: it is part of the ABI, and 100 on
// every architecture that both Linux and Go support.
const userHZ = 100

// TicksPerSecond is the unit of [Stat].
func TicksPerSecond() uint64 { return userHZ }

// TicksToDuration converts ticks of [Stat] to time: for StartTicks, the reading of [Boottime] at the start, to 10 ms.
func TicksToDuration(ticks uint64) time.Duration {
	return time.Duration(ticks) * (time.Second / userHZ)
}
