package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/events"
)

const showLong = `Print the record of a run as KEY=VALUE lines, in the manner of systemctl show: sizes are bytes, durations are seconds,
"infinity" is no limit, an empty value is not known. With --json the whole record, evidence included.`

// showOptions are the flags of `lictor show`.
type showOptions struct {
	properties  []string
	value, json bool
}

func newShowCommand(app *App) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Print the record of a run for programs",
		Long:  showLong,
		Args:  exactlyOne("one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, s events.Reader) error { return app.show(ctx, s, args[0], o) })
		},
		ValidArgsFunction: app.completeRun,
	}
	f := cmd.Flags()
	f.StringSliceVarP(&o.properties, "property", "p", nil, "only this `key` (repeatable)")
	f.BoolVar(&o.value, "value", false, "only the value")
	f.BoolVar(&o.json, "json", false, "the record as JSON")
	cmd.RegisterFlagCompletionFunc("property", cobra.FixedCompletions(propertyNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *App) show(ctx context.Context, s events.Reader, name string, o showOptions) error {
	run, err := a.resolve(ctx, s, name)
	if err != nil {
		return err
	}
	now, err := a.upToDate(ctx, s, run)
	if err != nil {
		return err
	}
	if o.json {
		return writeJSON(a.Stdout, now)
	}
	chosen, err := chooseProperties(o.properties)
	if err != nil {
		return err
	}
	for _, p := range chosen {
		text := inert(p.value(now))
		if !o.value {
			text = p.name + "=" + text
		}
		fmt.Fprintln(a.Stdout, text)
	}
	return nil
}

// upToDate joins one run with what is alive.
func (a *App) upToDate(ctx context.Context, s events.Reader, run *events.Run) (listed, error) {
	intents, err := liveIntents(ctx, s, []*events.Run{run})
	if err != nil {
		return listed{}, err
	}
	live := a.live(ctx)
	return join(run, live[run.Run], intents), nil
}

// chooseProperties returns the properties of these names, in the order asked for; all of them if none is named.
func chooseProperties(names []string) ([]property, error) {
	if len(names) == 0 {
		return properties, nil
	}
	var chosen []property
	for _, name := range names {
		i := slices.IndexFunc(properties, func(p property) bool { return p.name == name })
		if i < 0 {
			return nil, withHint(usageError("property %q: unknown", name), "one of "+strings.Join(propertyNames(), ", "))
		}
		chosen = append(chosen, properties[i])
	}
	return chosen, nil
}

func propertyNames() []string {
	names := make([]string, len(properties))
	for i, p := range properties {
		names[i] = p.name
	}
	return names
}
