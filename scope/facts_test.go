package scope

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestW8AliveWithoutDescriptors: whoever cannot look does not know, and says nobody dead.
func TestW8AliveWithoutDescriptors(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	other := ProcessID{PID: self.PID, StartTicks: self.StartTicks + 1}
	if !self.Alive() || other.Alive() {
		t.Fatalf("with descriptors: we are alive %v, another of our number %v", self.Alive(), other.Alive())
	}
	lowest, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(lowest)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	alive := self.Alive()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if !alive {
		t.Error("without a descriptor we are dead")
	}
}
