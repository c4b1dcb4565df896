package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

// completeDeadline is how long a person waits for the tab key.
const completeDeadline = time.Second

// completeRun offers run ids and analysis ids, newest first.
func (a *App) completeRun(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	runs := a.recentRuns(cmd.Context())
	offers := append(completions(runs, typed, runName), completions(runs, typed, analysisName)...)
	return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeAnalysis offers analysis ids.
func (a *App) completeAnalysis(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	offers := completions(a.recentRuns(cmd.Context()), typed, analysisName)
	return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// recentRuns is what completion chooses from. It never settles and never complains.
func (a *App) recentRuns(ctx context.Context) []*events.Run {
	ctx, cancel := context.WithTimeout(ctx, completeDeadline)
	defer cancel()
	store, err := a.openReaders(ctx)
	if err != nil {
		return nil
	}
	defer store.Close()
	runs, _ := store.Runs(ctx, events.RunQuery{Limit: 200})
	return runs
}

func runName(r *events.Run) (name, about string) {
	return r.Run.Short(), string(r.State) + " " + quoteCommand(r.Command)
}

func analysisName(r *events.Run) (name, about string) {
	return r.AnalysisID, "latest run: " + string(r.State)
}

// completions are the names that begin with what was typed, each with a description for shells that show one. Names that a
// shell or a terminal could take for something else are left out.
func completions(runs []*events.Run, typed string, naming func(*events.Run) (name, about string)) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range runs {
		name, about := naming(r)
		if name == "" || seen[name] || !strings.HasPrefix(name, typed) || quote(name) != name {
			continue
		}
		seen[name] = true
		out = append(out, name+"\t"+inert(about))
	}
	return out
}
