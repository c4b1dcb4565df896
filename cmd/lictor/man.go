package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The manual pages are what --help says, in the form of man(7): lictor(1) and one page for each command. They are written
// when lictor is installed, so they are those of this binary.

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Args:   exactlyOne("a directory"),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachPage(cmd.Root(), func(page *cobra.Command) error { return writePage(args[0], page) })
		},
	}
}

// eachPage calls fn with every command that has a page, parents first.
func eachPage(cmd *cobra.Command, fn func(*cobra.Command) error) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	if err := fn(cmd); err != nil {
		return err
	}
	if !hasPages(cmd) {
		return nil
	}
	for _, sub := range cmd.Commands() {
		if err := eachPage(sub, fn); err != nil {
			return err
		}
	}
	return nil
}

// hasPages reports whether commands below cmd have pages. How a shell is told of its completions concerns nobody for whom
// lictor was installed.
func hasPages(cmd *cobra.Command) bool {
	return cmd.HasAvailableSubCommands() && cmd.Name() != "completion"
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func writePage(dir string, cmd *cobra.Command) error {
	f, err := os.OpenFile(filepath.Join(dir, pageName(cmd)+".1"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("manual: %w", err)
	}
	w := bufio.NewWriter(f)
	manPage(w, cmd)
	if err := w.Flush(); err != nil {
		f.Close()
		return fmt.Errorf("manual: %w", err)
	}
	return f.Close()
}

// manPage writes the page of one command.
func manPage(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, ".TH %q 1 \"\" %q lictor\n", strings.ToUpper(pageName(cmd)), strings.TrimSpace("lictor "+version))
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	fmt.Fprintf(w, ".SH SYNOPSIS\n.nf\n\\fB%s\\fR\n", roff(cmd.UseLine()))
	if hasPages(cmd) {
		fmt.Fprintf(w, "\\fB%s\\fR \\fICOMMAND\\fR\n", roff(cmd.CommandPath()))
	}
	fmt.Fprintln(w, ".fi")
	if cmd.Long != "" {
		fmt.Fprintln(w, ".SH DESCRIPTION")
		manText(w, cmd.Long)
	}
	manCommands(w, cmd)
	if cmd.Example != "" {
		fmt.Fprintf(w, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(strings.TrimRight(cmd.Example, "\n")))
	}
	manFlags(w, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(w, "OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	if !cmd.HasParent() {
		manFiles(w)
		fmt.Fprintln(w, ".SH SEE ALSO\n.BR systemd.scope (5),\n.BR systemd.resource\\-control (5)")
		return
	}
	fmt.Fprintf(w, ".SH SEE ALSO\n.BR %s (1)\n", roff(pageName(cmd.Parent())))
}

func manCommands(w io.Writer, cmd *cobra.Command) {
	if !hasPages(cmd) {
		return
	}
	fmt.Fprintln(w, ".SH COMMANDS")
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			fmt.Fprintf(w, ".TP\n.BR %s (1)\n%s\n", roff(pageName(sub)), roff(sub.Short))
		}
	}
}

func manFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(w, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprint(w, ".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(w, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(w, "\\fB\\-\\-%s\\fR", roff(f.Name))
		if value != "" {
			fmt.Fprintf(w, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(w, "\n%s\n", roff(usage))
	})
}

// manFiles tells what is where, which no single command does.
func manFiles(w io.Writer) {
	fmt.Fprintln(w, ".SH FILES")
	for _, f := range []struct{ path, what string }{
		{"/etc/lictor/lictor.toml, /etc/lictor/lictor.toml.d/*.toml", "The administrator's defaults and ceilings."},
		{"~/.config/lictor/config.toml", "A user's own defaults."},
		{"/var/lib/lictor/lictor.db", "The records of the system manager's runs."},
		{"~/.local/state/lictor/lictor.db", "The records of a user's own runs."},
	} {
		fmt.Fprintf(w, ".TP\n.I %s\n%s\n", roff(f.path), f.what)
	}
}

// manText writes paragraphs. What is indented, such as a table or an example, keeps its lines.
func manText(w io.Writer, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			fmt.Fprintln(w, ".PP")
		}
		if strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ") {
			paragraph = ".nf\n" + roff(paragraph) + "\n.fi"
		} else {
			paragraph = roff(paragraph)
		}
		fmt.Fprintln(w, paragraph)
	}
}

// roff protects what would mean something to roff: backslashes, dashes that are to be copied, and a dot or a quote at the
// beginning of a line. What is not ASCII is named, see groff_char(7): not every formatter reads UTF-8.
func roff(text string) string {
	var b strings.Builder
	start := true
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case start && (r == '.' || r == '\''):
			b.WriteString(`\&` + string(r))
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
		start = r == '\n'
	}
	return b.String()
}
