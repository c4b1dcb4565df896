package scope

import (
	"context"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// ServiceSpec is a launcher that systemd is to start, so that it outlives its caller's terminal and session.
//
// Everybody on the bus can read the properties of a unit, so nothing secret may be in here: command lines and environments
// go through Stdin.
type ServiceSpec struct {
	Run     RunID
	Program string   // absolute path
	Args    []string // with argv[0]

	Description string
	User        string // whose process it is, with that one's groups; "" is the manager's own

	// Stdin is what the service has as standard input, one end of a socket pair for example. systemd gets a copy with the
	// request: nothing has a name in a file system, and it is closed when the service has ended.
	Stdin *os.File

	// What a process inherits from its parent, which here is the manager.
	Umask    os.FileMode
	Nice     int
	OOMScore int      // oom_score_adj
	Limits   []Rlimit // a user manager takes what it may give, as setrlimit_closest() does

	StopTimeout time.Duration // between SIGTERM and SIGKILL when the service is stopped
}

// Rlimit is one resource limit, see setrlimit(2). NoLimit is infinity.
type Rlimit struct {
	Name       string // without RLIMIT_: NOFILE, …
	Soft, Hard uint64
}

// StartService starts a launcher as a transient service and returns when it has been executed (systemd 240 and later wait for
// execve). Its output goes to journald. systemd forgets the unit as soon as it has ended, however it ended.
func (l *Launcher) StartService(ctx context.Context, s ServiceSpec) error {
	return l.use(ctx, func(b *bus) error { return b.start(ctx, s.Run.Service(), serviceProperties(s)) })
}

// execCommand is one element of ExecStart=, see org.freedesktop.systemd1(5).
type execCommand struct {
	Path          string
	Args          []string
	IgnoreFailure bool
}

// exitStatuses is the value of SuccessExitStatus=.
type exitStatuses struct {
	Codes, Signals []int32
}

// serviceProperties is the whole of what systemd is told about a launcher. systemd.service(5), systemd.exec(5).
func serviceProperties(s ServiceSpec) []Property {
	ps := []Property{
		property("Description", printable(s.Description, 200)),
		property("Type", "exec"), // the start job fails if the program cannot be executed
		property("ExecStart", []execCommand{{s.Program, s.Args, false}}),
		property("StandardOutput", "journal"),
		property("StandardError", "inherit"), // one stream: lines keep their order
		property("SyslogLevelPrefix", false), // a line that begins with <3> is to stay as it is
		property("IgnoreSIGPIPE", false),     // a service would pass the ignored signal on to the analysis
		property("KillMode", "mixed"),        // SIGTERM is for the launcher alone, which ends the run and records it
		property("CollectMode", "inactive-or-failed"),
		property("SuccessExitStatus", exitStatuses{anyStatus(), []int32{}}), // it passes on the analysis's
		property("TimeoutStopUSec", microseconds(s.StopTimeout)),
		property("UMask", uint32(s.Umask)),
		property("Nice", int32(s.Nice)),
		property("OOMScoreAdjust", int32(s.OOMScore)),
	}
	if s.User != "" {
		ps = append(ps, property("User", s.User))
	}
	for _, r := range s.Limits { // the hard limit comes first: systemd takes it for both
		ps = append(ps, property("Limit"+r.Name, r.Hard), property("Limit"+r.Name+"Soft", r.Soft))
	}
	if s.Stdin != nil {
		ps = append(ps, property("StandardInputFileDescriptor", dbus.UnixFD(s.Stdin.Fd())))
	}
	return ps
}

// anyStatus is every exit status but 0, which is a success anyway.
func anyStatus() []int32 {
	list := make([]int32, 255)
	for i := range list {
		list[i] = int32(i + 1)
	}
	return list
}
