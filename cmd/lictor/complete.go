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

// completeRun offers run ids and analysis ids, newest first. It never settles and never complains.
func (a *App) completeRun(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeDeadline)
	defer cancel()
	store, err := a.OpenReader()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer store.Close()
	runs, err := store.Runs(ctx, events.RunQuery{Limit: 100})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completions(runs, typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completions are the names of runs that begin with what was typed, with a description for shells that show one. Names that
// a shell or a terminal could take for something else are left out.
func completions(runs []*events.Run, typed string) []string {
	var out []string
	seen := map[string]bool{}
	offer := func(name, about string) {
		if strings.HasPrefix(name, typed) && name != "" && quote(name) == name && !seen[name] {
			seen[name] = true
			out = append(out, name+"\t"+inert(about))
		}
	}
	for _, r := range runs {
		offer(r.Run.Short(), string(r.State)+" "+quoteCommand(r.Command))
	}
	for _, r := range runs {
		offer(r.AnalysisID, "latest run: "+string(r.State))
	}
	return out
}
