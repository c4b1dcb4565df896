package scope

import (
	"os"
	"path/filepath"
	"strconv"
)

// Manager says which systemd holds the scopes.
type Manager string

// The two managers.
const (
	System Manager = "system" // PID 1; needs root
	User   Manager = "user"   // systemd --user of the caller; no privileges
)

// endpoint is one way to reach a manager.
type endpoint struct {
	address string // a D-Bus address
	private bool   // systemd itself is at the other end, there is no bus daemon in between
}

// endpoints lists the ways to reach m, best first. The private socket needs no bus daemon, has no strangers on it and
// saves two round trips (systemctl and systemd-run use it too); the bus is the fallback.
func (m Manager) endpoints() []endpoint {
	if m == System {
		return []endpoint{
			{"unix:path=/run/systemd/private", true},
			{"unix:path=/run/dbus/system_bus_socket", false},
		}
	}
	dir := runtimeDir()
	return []endpoint{
		{"unix:path=" + filepath.Join(dir, "systemd/private"), true},
		{"unix:path=" + filepath.Join(dir, "bus"), false},
	}
}

// busEndpoint is the way to m that can be filtered by match rules.
func (m Manager) busEndpoint() endpoint { return m.endpoints()[1] }

// runtimeDir is XDG_RUNTIME_DIR, or the directory that systemd-logind makes for it (after `su`, in a cron job).
func runtimeDir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return d
	}
	return "/run/user/" + strconv.Itoa(os.Getuid())
}

// FleetPath is where the manager keeps lictor.slice, below the cgroup2 mount point.
func (m Manager) FleetPath() string {
	if m == System {
		return "/" + FleetSlice
	}
	uid := strconv.Itoa(os.Getuid())
	return "/user.slice/user-" + uid + ".slice/user@" + uid + ".service/" + FleetSlice
}
