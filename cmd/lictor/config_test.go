package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scidex/lictor/events"
)

// configApp returns an App whose configuration files are those given: etc/… and home/….
func configApp(t *testing.T, files, env map[string]string) (*App, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	getenv := func(name string) string {
		if name == "HOME" {
			return filepath.Join(dir, "home")
		}
		return env[name]
	}
	return &App{Getenv: getenv, EtcDir: filepath.Join(dir, "etc")}, dir
}

const (
	etc    = "etc/lictor.toml"
	dropIn = "etc/lictor.toml.d/50-site.toml"
	own    = "home/.config/lictor/config.toml"
)

func TestLimits(t *testing.T) {
	const physical = 16 << 30
	defaults := func(change func(*events.Limits)) events.Limits {
		l := events.Limits{MemoryMaxBytes: new(uint64(2 << 30)), MemorySwapMaxBytes: new(uint64(0)),
			RuntimeMaxSeconds: new(1800.0), GraceSeconds: 10, OOMPolicy: "kill",
			Default: []string{"MemoryMax", "MemorySwapMax", "RuntimeMaxSec", "TimeoutStopSec"}}
		change(&l)
		return l
	}
	tests := []struct {
		name  string
		files map[string]string
		env   map[string]string
		flags map[string]string
		want  events.Limits
	}{
		{
			name: "nothing is set",
			want: defaults(func(*events.Limits) {}),
		},
		{
			name:  "flag over environment over own file over drop-in over main file",
			files: map[string]string{etc: `grace = "1s"` + "\n" + `tasks_max = 1`, dropIn: "grace = 2\ntasks_max = 2\nmemory_max = '20%'", own: `memory_max = "30%"`},
			env:   map[string]string{"LICTOR_MEMORY_MAX": "40%", "LICTOR_RUNTIME_MAX": "1min"},
			flags: map[string]string{"memory-max": "50%"},
			want: defaults(func(l *events.Limits) {
				l.GraceSeconds, l.TasksMax = 2, new(uint64(2))
				l.MemoryMaxBytes, l.RuntimeMaxSeconds = new(uint64(8<<30)), new(60.0)
				l.Default = []string{"MemorySwapMax"}
			}),
		},
		{
			name:  "infinity lifts a default",
			flags: map[string]string{"memory-max": "infinity", "runtime-max": "infinity", "memory-swap-max": "max"},
			want: defaults(func(l *events.Limits) {
				l.MemoryMaxBytes, l.RuntimeMaxSeconds, l.MemorySwapMaxBytes = nil, nil, nil
				l.Default = []string{"TimeoutStopSec"}
			}),
		},
		{
			name:  "a default gives way to a ceiling, also where it is no limit",
			files: map[string]string{etc: "[ceiling]\nmemory_max = '1G'\ntasks_max = 100"},
			want: defaults(func(l *events.Limits) {
				l.MemoryMaxBytes, l.TasksMax = new(uint64(1<<30)), new(uint64(100))
				l.Default = []string{"MemoryMax", "MemorySwapMax", "TasksMax", "RuntimeMaxSec", "TimeoutStopSec"}
			}),
		},
		{
			name:  "a request at its ceiling is granted",
			files: map[string]string{etc: "ceiling = { memory_max = '4G', runtime_max = 'infinity' }"},
			flags: map[string]string{"memory-max": "4G", "runtime-max": "infinity", "cpu-quota": "150%", "oom-policy": "continue"},
			want: defaults(func(l *events.Limits) {
				l.MemoryMaxBytes, l.RuntimeMaxSeconds, l.CPUQuotaPercent = new(uint64(4<<30)), nil, new(150.0)
				l.OOMPolicy = "continue"
				l.Default = []string{"MemorySwapMax", "TimeoutStopSec"}
			}),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app, _ := configApp(t, tt.files, tt.env)
			c, err := app.LoadConfig()
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Limits(tt.flags, physical)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		env   map[string]string
		flags map[string]string
		want  string // DIR stands for the directory of the files
	}{
		{"unknown key", map[string]string{etc: "# site\n\nmemory_maximum = '2G'"}, nil, nil,
			`DIR/etc/lictor.toml:3: unknown key "memory_maximum"`},
		{"unknown table", map[string]string{etc: "grace = 5\n[limits]\nmemory_max = '2G'"}, nil, nil,
			`DIR/etc/lictor.toml:2: unknown key "limits"`},
		{"unknown ceiling", map[string]string{dropIn: "[ceiling]\nmemory_max = '2G'\ngrace = 5"}, nil, nil,
			`DIR/etc/lictor.toml.d/50-site.toml:3: there is no ceiling "grace" (there are memory_max, tasks_max, runtime_max)`},
		{"bad value", map[string]string{own: "\nmemory_max = 'banana'"}, nil, nil,
			`DIR/home/.config/lictor/config.toml:2: memory_max "banana": not a size`},
		{"bad type", map[string]string{etc: "memory_max = true"}, nil, nil,
			`DIR/etc/lictor.toml:1: memory_max: neither a string nor a number`},
		{"ceiling is no table", map[string]string{etc: "ceiling = 5"}, nil, nil,
			`DIR/etc/lictor.toml:1: unknown key "ceiling"`},
		{"not TOML", map[string]string{etc: "memory_max = \n"}, nil, nil,
			`DIR/etc/lictor.toml:1: expected value but found '\n' instead`},
		{"ceiling in the own file", map[string]string{own: "[ceiling]\nmemory_max = '99G'"}, nil, nil,
			`DIR/home/.config/lictor/config.toml:2: only the administrator sets ceilings`},
		{"bad environment", nil, map[string]string{"LICTOR_GRACE": "soon"}, nil,
			`LICTOR_GRACE "soon": not a time span`},
		{"bad flag", nil, nil, map[string]string{"memory-max": "banana"},
			`memory-max "banana": not a size`},
		{"bad policy", nil, nil, map[string]string{"oom-policy": "stop"},
			`oom-policy "stop": not a policy`},
		{"endless grace", nil, nil, map[string]string{"grace": "infinity"},
			`grace: a run that ignores SIGTERM would never end`},
		{"flag above a ceiling", map[string]string{etc: "[ceiling]\nmemory_max = '4G'"}, nil, map[string]string{"memory-max": "5G"},
			`memory-max "5G": above the administrator's ceiling of 4G (DIR/etc/lictor.toml:2)`},
		{"no limit above a ceiling", map[string]string{etc: "ceiling.runtime_max = '1h'"}, nil, map[string]string{"runtime-max": "infinity"},
			`runtime-max "infinity": above the administrator's ceiling of 1h (DIR/etc/lictor.toml:1)`},
		{"environment above a ceiling", map[string]string{etc: "[ceiling]\n'tasks_max'\t= 10 # few"}, map[string]string{"LICTOR_TASKS_MAX": "11"}, nil,
			`LICTOR_TASKS_MAX "11": above the administrator's ceiling of 10 (DIR/etc/lictor.toml:2)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app, dir := configApp(t, tt.files, tt.env)
			c, err := app.LoadConfig()
			if err == nil {
				_, err = c.Limits(tt.flags, 16<<30)
			}
			if err == nil || !strings.HasPrefix(strings.ReplaceAll(err.Error(), dir, "DIR"), tt.want) {
				t.Errorf("got  %v\nwant %s…", err, tt.want)
			}
		})
	}
}

func FuzzReadConfig(f *testing.F) {
	f.Add("memory_max = '4G'\n[ceiling]\nmemory_max = '16G'")
	f.Add("a.b.c = 1\n[[x]]\ny = {z = 1}")
	f.Fuzz(func(t *testing.T, text string) {
		settings, ceilings, err := readConfig("lictor.toml", text)
		if err != nil {
			return
		}
		for _, s := range append(settings, ceilings...) {
			if k, ok := findConfigKey(s.Key); !ok || k.check(s.Key, s.Text) != nil {
				t.Errorf("%q was let through", s)
			}
		}
	})
}
