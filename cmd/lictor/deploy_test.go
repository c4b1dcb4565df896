package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The configuration that is shipped names every key, changes nothing as it is, and means the defaults when its settings are
// no comments any more.
func TestShippedConfiguration(t *testing.T) {
	b, err := os.ReadFile("../../deploy/lictor.toml")
	if err != nil {
		t.Fatal(err)
	}
	shipped := string(b)
	uncommented := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAllString(shipped, "$1")
	limits := func(text string) *Config {
		app, _ := configApp(t, map[string]string{etc: text}, nil)
		c, err := app.LoadConfig()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	builtIn, full := limits(""), limits(uncommented)
	if diff := cmp.Diff(builtIn, limits(shipped)); diff != "" {
		t.Errorf("it is not only comments (-built in +shipped):\n%s", diff)
	}
	for _, k := range configKeys {
		if got := full.Settings[k.name]; got.Text != k.fallback || got.From == "" {
			t.Errorf("%s: got %q from %q, want the default %q from the file", k.name, got.Text, got.From, k.fallback)
		}
		if _, ok := full.Ceilings[k.name]; ok != k.ceiling {
			t.Errorf("ceiling %s: in the file %v, want %v", k.name, ok, k.ceiling)
		}
	}
	boundless := map[string]string{}
	for name, c := range full.Ceilings {
		boundless[strings.ReplaceAll(name, "_", "-")] = "infinity"
		if c.Text != "infinity" {
			t.Errorf("ceiling %s is %q, want none", name, c.Text)
		}
	}
	for _, flags := range []map[string]string{nil, boundless} {
		want, err := builtIn.Limits(flags, 1<<34)
		if err != nil {
			t.Fatal(err)
		}
		got, err := full.Limits(flags, 1<<34)
		want.Default, got.Default = nil, nil // who set it is another matter
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("limits with %v: %v (-built in +shipped):\n%s", flags, err, diff)
		}
	}
}

func TestRoff(t *testing.T) {
	const text = ".TH of --help\n'quoted' C:\\dir…"
	if got, want := roff(text), "\\&.TH of \\-\\-help\n\\&'quoted' C:\\edir\\[u2026]"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
