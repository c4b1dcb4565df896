package main

import (
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// supervisor is the systemd that started the daemon as a service of Type=notify, see sd_notify(3); none if there is none.
type supervisor struct {
	due <-chan time.Time // when the watchdog wants to hear of us; never without one
}

// newSupervisor reads what systemd says in the environment. The watchdog is told from the daemon's own loop, at twice the
// rate that it asks for: when the loop stands still, it hears nothing.
func newSupervisor(a *App) *supervisor {
	s := &supervisor{}
	if interval, err := sd.SdWatchdogEnabled(false); err == nil && interval > 0 {
		s.due = time.Tick(interval / 2)
	} else if err != nil {
		a.talk("watchdog: %v", err)
	}
	return s
}

func (*supervisor) ready()    { _, _ = sd.SdNotify(false, sd.SdNotifyReady) }
func (*supervisor) alive()    { _, _ = sd.SdNotify(false, sd.SdNotifyWatchdog) }
func (*supervisor) stopping() { _, _ = sd.SdNotify(false, sd.SdNotifyStopping) }
