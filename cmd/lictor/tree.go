package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const treeLong = `Show the processes of live runs as trees, with what each holds in memory (RSS). Members come from the scope's cgroup, so
that a process that left its parent is still shown.`

func newTreeCommand(app *App) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tree [RUN]",
		Short: "Show the processes of live runs",
		Long:  treeLong,
		Args:  atMost(1, "one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, s events.Reader) error { return app.tree(ctx, s, args, asJSON) })
		},
		ValidArgsFunction: app.completeRun,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON")
	return cmd
}

func (a *App) tree(ctx context.Context, s events.Reader, args []string, asJSON bool) error {
	runs, err := a.treeRuns(ctx, s, args)
	if err != nil {
		return err
	}
	type member struct {
		Run       listed           `json:"run"`
		Processes []events.Process `json:"processes"`
	}
	members := []member{}
	for _, r := range runs {
		members = append(members, member{r, a.processesOf(ctx, r)})
	}
	if asJSON {
		return writeJSON(a.Stdout, members)
	}
	for _, m := range members {
		fmt.Fprintf(a.Stdout, "%s %s  %s\n", a.paint(stateColour(m.Run.State), a.glyph(m.Run.State)),
			inert(story{listed: m.Run}.subject()), quoteCommand(m.Run.Command))
		a.drawTree(a.Stdout, "", m.Processes)
	}
	return nil
}

// treeRuns returns the live runs, or the one that is named, which must be alive.
func (a *App) treeRuns(ctx context.Context, s events.Reader, args []string) ([]listed, error) {
	if len(args) == 0 {
		return a.listRuns(ctx, s, events.RunQuery{Live: true})
	}
	run, err := a.resolve(ctx, s, args[0])
	if err != nil {
		return nil, err
	}
	now, err := a.upToDate(ctx, s, run)
	if err == nil && now.State.Final() {
		err = withHint(fmt.Errorf("run %s: it has ended", run.Run.Short()), "lictor why "+run.Run.Short())
	}
	return []listed{now}, err
}

// processTable describes processes; see watcher.ProcessTable.
type processTable interface {
	Describe(ctx context.Context, pids []int) []events.Process
}

// processesOf describes the members of a live run. Those that have gone meanwhile are left out.
func (a *App) processesOf(ctx context.Context, r listed) []events.Process {
	if c := a.elsewhere(); c != nil {
		list, err := c.Processes(ctx, r.Run.Run)
		if err != nil {
			a.talk("its processes are not known: %v", err)
		}
		return append([]events.Process{}, list...)
	}
	if r.live == nil || a.Processes == nil {
		return []events.Process{}
	}
	list := a.Processes.Describe(ctx, r.live.PIDs)
	return slices.DeleteFunc(list, func(p events.Process) bool { return p.PPID == nil })
}

// drawTree writes processes below their parents, by pid. One whose parent is not among them stands at the left.
func (a *App) drawTree(w io.Writer, indent string, list []events.Process) {
	children := map[int][]events.Process{}
	for _, p := range list {
		parent := 0
		if isMember := func(q events.Process) bool { return q.PID == *p.PPID && q.PID != p.PID }; slices.ContainsFunc(list, isMember) {
			parent = *p.PPID
		}
		children[parent] = append(children[parent], p)
	}
	a.drawBranch(w, indent, 0, children)
}

// drawBranch writes the children of a process. Each is taken out as it is drawn: a pid that was given out again while the
// table was read cannot make a circle.
func (a *App) drawBranch(w io.Writer, indent string, parent int, children map[int][]events.Process) {
	list := children[parent]
	delete(children, parent)
	slices.SortFunc(list, func(p, q events.Process) int { return p.PID - q.PID })
	for i, p := range list {
		fork, below := a.branch(i == len(list)-1)
		fmt.Fprintf(w, "%s%s%d %s\n", indent, fork, p.PID, processLine(p))
		a.drawBranch(w, indent+below, p.PID, children)
	}
}

func (a *App) branch(last bool) (fork, below string) {
	switch {
	case last && a.unicode():
		return "└─", "  "
	case last:
		return "`-", "  "
	case a.unicode():
		return "├─", "│ "
	}
	return "|-", "| "
}

// processLine is what a tree says of a process: its command line (or its name in brackets), memory, and a state that is
// worth knowing.
func processLine(p events.Process) string {
	text := quoteCommand(p.Cmdline)
	if len(p.Cmdline) == 0 {
		text = "[" + inert(p.Comm) + "]"
	}
	var remarks []string
	if p.RSSBytes != nil {
		remarks = append(remarks, events.FormatBytes(*p.RSSBytes))
	}
	switch p.State {
	case "D":
		remarks = append(remarks, "D: hangs in the kernel")
	case "T", "t":
		remarks = append(remarks, "stopped")
	case "Z":
		remarks = append(remarks, "zombie")
	}
	if len(remarks) == 0 {
		return text
	}
	return text + "  (" + strings.Join(remarks, ", ") + ")"
}
