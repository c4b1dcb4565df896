package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/events"
)

func TestShortAge(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0s"}, {0, "0s"}, {59*time.Second + 999*time.Millisecond, "59s"}, {time.Minute, "1m00s"},
		{4*time.Minute + 12*time.Second, "4m12s"}, {time.Hour - 1, "59m59s"}, {2*time.Hour + 5*time.Minute, "2h05m"},
		{76 * time.Hour, "3d04h"},
	}
	for _, tt := range tests {
		if got := shortAge(tt.d); got != tt.want {
			t.Errorf("shortAge(%v) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestPreciseBytes(t *testing.T) {
	tests := []struct {
		n    uint64
		want string
	}{
		{0, "0B"}, {999, "999B"}, {1000, "0.98K"}, {1024, "1K"}, {2072317952, "1.93G"}, {13314398617, "12.4G"}, {23 * gib, "23G"},
		{999 * gib, "999G"}, {1 << 63, "8E"},
	}
	for _, tt := range tests {
		if got := preciseBytes(tt.n); got != tt.want {
			t.Errorf("preciseBytes(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

// A quoted command line is inert, and a shell reads it back as the same arguments.
func TestQuoteCommand(t *testing.T) {
	args := []string{"plain", "", "it's", "$(reboot)", "a\nb", "\x1b[31m", `back\slash'`, "\xff", "50%", "ünï", "\u202ex", "\u009b31m", "#c"}
	quoted := quoteCommand(args)
	if strings.ContainsFunc(quoted, dangerous) {
		t.Errorf("%q is not inert", quoted)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	cmd := exec.Command(bash, "-c", `printf '%s\0' `+quoted)
	cmd.Env = []string{"LC_ALL=C.UTF-8"}
	out, err := cmd.Output()
	if want := strings.Join(args, "\x00") + "\x00"; err != nil || string(out) != want {
		t.Errorf("%s\nbash read %q, %v\nwant      %q", quoted, out, err, want)
	}
}

func TestShortIDs(t *testing.T) {
	runs := []events.RunID{"7f3k9q2a1c5h", "7f3k9q2a1d2m", "7f3k7m1d2c5h", "7f3k", "7f3k7m1d2c5h"}
	want := map[events.RunID]string{"7f3k9q2a1c5h": "7f3k9q2a1c", "7f3k9q2a1d2m": "7f3k9q2a1d", "7f3k7m1d2c5h": "7f3k7m1d", "7f3k": "7f3k"}
	got := shortIDs(runs)
	for id, short := range want {
		if got[id] != short {
			t.Errorf("short id of %s is %q, want %q", id, got[id], short)
		}
	}
}

func TestCut(t *testing.T) {
	app := testApp(nil)
	tests := []struct {
		text  string
		width int
		want  string
	}{
		{"short", 10, "short"}, {"exactly", 7, "exactly"}, {"python embed.py", 8, "python …"}, {"分析分析", 5, "分析…"},
		{"分析分析", 4, "分…"}, {"x", 0, "…"},
	}
	for _, tt := range tests {
		if got := app.cut(tt.text, tt.width); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}
