package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// launchElsewhere has another machine's daemon start a detached run: nothing of this machine, its terminal, files or environment, goes
// there but what the flags say.
func (a *App) launchElsewhere(ctx context.Context, c *client.Client, o *runOptions, args []string) error {
	switch {
	case !o.detach:
		return withHint(usageError("run: over --host URL only detached"), "lictor run -d; lictor wait RUN passes its end on")
	case o.ownerExit != "" || o.ownerPID != 0 || o.killEscaped || o.resultFile != "":
		return withHint(usageError("run: --on-owner-exit, --owner-pid, --kill-escaped and --result-file are not possible over --host URL"), "leave them out")
	}
	l := &client.Launch{Command: args, Cwd: o.dir, Properties: o.properties, AnalysisID: o.analysisID, Name: o.name,
		Limits: map[string]client.Amount{}, Key: rand.Text()}
	for name, value := range o.limits {
		l.Limits[strings.ReplaceAll(name, "-", "_")] = client.Amount(value)
	}
	if l.AnalysisID == "" {
		l.AnalysisID = a.Getenv("LICTOR_ANALYSIS_ID")
	}
	var err error
	if l.Labels, err = keyValues("label", o.labels); err != nil {
		return err
	}
	for _, kv := range o.env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return withHint(usageError("env %q: must be written KEY=VALUE", kv), "lictor run --help")
		}
		if l.Env == nil {
			l.Env = map[string]string{}
		}
		l.Env[k] = v
	}
	run, err := c.Launch(ctx, l)
	if err != nil {
		return explainProblem(err)
	}
	if o.json {
		return writeJSON(a.Stdout, detached{events.API, run.Run, run.Unit, run.Service})
	}
	_, err = fmt.Fprintln(a.Stdout, run.Run)
	return err
}
