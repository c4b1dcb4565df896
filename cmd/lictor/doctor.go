package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

const doctorLong = `Check whether this machine can confine runs and tell why they ended. Each check is PASS, DEGRADED (runs are confined, and
something about them is weaker or will not be known) or FAIL, with what repairs it.

--fix does what is safe and can be done without asking: it makes the state directory and lets the own user manager go on
after logout (loginctl enable-linger). Exit status: 1 if any check is FAIL.`

func newDoctorCommand(app *App) *cobra.Command {
	var fix, asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine can confine runs",
		Long:  doctorLong,
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return app.doctor(cmd.Context(), fix, asJSON) },
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "repair what is safe to repair")
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON")
	return cmd
}

func (a *App) doctor(ctx context.Context, fix, asJSON bool) error {
	findings := diagnose(a.Probe(ctx, a))
	if fix && a.repairAll(ctx, findings) {
		findings = diagnose(a.Probe(ctx, a))
	}
	if asJSON {
		if err := writeJSON(a.Stdout, findings); err != nil {
			return err
		}
	} else {
		a.printFindings(findings)
	}
	for _, f := range findings {
		if f.Verdict == fail {
			return withCode(exitFailure, nil)
		}
	}
	return nil
}

func (a *App) printFindings(findings []finding) {
	colours := map[verdict]colour{pass: green, degraded: yellow, fail: red}
	counts := map[verdict]int{}
	for _, f := range findings {
		counts[f.Verdict]++
		name := fmt.Sprintf("%-8s", f.Verdict)
		fmt.Fprintf(a.Stdout, "%s  %-15s  %s\n", a.paint(colours[f.Verdict], name), f.Check, inert(f.Text))
		if f.Fix != "" && f.Verdict != pass {
			fmt.Fprintf(a.Stdout, "%-8s  %-15s  fix: %s\n", "", "", inert(f.Fix))
		}
	}
	fmt.Fprintf(a.Stdout, "%d PASS, %d DEGRADED, %d FAIL\n", counts[pass], counts[degraded], counts[fail])
}

// repair is something that --fix can do.
type repair int

const (
	repairNone repair = iota
	repairLinger
	repairStateDir
)

// repairAll does what can be done about findings, says so, and reports whether anything was changed.
func (a *App) repairAll(ctx context.Context, findings []finding) (changed bool) {
	for _, f := range findings {
		what, do := a.repairFor(f.repair)
		if do == nil {
			continue
		}
		if err := do(ctx); err != nil {
			a.talk("%s: %v", what, err)
			continue
		}
		a.talk("done: %s", what)
		changed = true
	}
	return changed
}

func (a *App) repairFor(r repair) (what string, do func(context.Context) error) {
	switch r {
	case repairLinger:
		return "loginctl enable-linger", enableLinger
	case repairStateDir:
		dir, err := a.StateDir()
		if err != nil {
			return "", nil
		}
		return "mkdir -m 700 " + quote(dir), func(context.Context) error { return os.MkdirAll(dir, 0o700) }
	}
	return "", nil
}

// enableLinger asks logind, which asks polkit, for the caller's own user.
func enableLinger(ctx context.Context) error {
	const deadline = 10 * time.Second // polkit may ask somebody
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, "loginctl", "--no-ask-password", "enable-linger").CombinedOutput()
	if err != nil && len(out) > 0 {
		return fmt.Errorf("%w: %s", err, out)
	}
	return err
}

func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}
