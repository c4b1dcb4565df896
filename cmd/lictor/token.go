package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scidex/lictor/cmd/lictor/client"
)

func newDashboardCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "dashboard",
		Short: "Print an address that logs a browser in, once",
		Long: `Print the address of the dashboard. It logs the browser that opens it in as you: once, and within two minutes. From another
machine, ssh -L 7717:127.0.0.1:7717 makes it reachable. The daemon has to listen on TCP: systemctl stop lictor; systemctl enable --now
lictor-http.socket lictor.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := app.daemon(cmd.Context())
			if err != nil {
				return err
			}
			login, err := c.Login(cmd.Context())
			if err != nil {
				return explainProblem(err)
			}
			_, err = fmt.Fprintln(app.Stdout, login.URL)
			return err
		},
	}
}

func newTokenCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Tokens for programs that call over TCP",
		Long: `A token says over TCP who calls: its owner, with all that he may see and do here. Give it to a program in LICTOR_TOKEN, with
LICTOR_HOST=http://127.0.0.1:7717, or in the header Authorization: Bearer TOKEN.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreateCommand(app), newTokenListCommand(app), newTokenRevokeCommand(app))
	return cmd
}

func newTokenCreateCommand(app *App) *cobra.Command {
	var name, valid string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it: it is told once",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			span, infinite, err := ParseTimespan("valid", valid)
			if err != nil || infinite {
				return errors.Join(err, withHint(usageError("valid %q: must be a time", valid), "write it like 90d"))
			}
			c, err := app.daemon(cmd.Context())
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), name, span)
			if err != nil {
				return explainProblem(err)
			}
			if asJSON {
				return writeJSON(app.Stdout, t)
			}
			_, err = fmt.Fprintln(app.Stdout, t.Secret)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what it is for")
	cmd.Flags().StringVar(&valid, "valid", "90d", "how long it is good for, 400d at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON")
	return cmd
}

func newTokenListCommand(app *App) *cobra.Command {
	var o listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens and log-ins, without their secrets",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := app.daemon(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Tokens(cmd.Context())
			if err != nil {
				return explainProblem(err)
			}
			if o.json {
				return writeJSON(app.Stdout, list)
			}
			t := &table{columns: []column{{title: "ID"}, {title: "KIND"}, {title: "UID", right: true}, {title: "CREATED"}, {title: "EXPIRES"}, {title: "NAME"}}}
			for _, k := range list {
				t.add(texts(k.ID, k.Kind, fmt.Sprint(k.UID), k.Created.In(app.Now().Location()).Format(time.DateTime),
					k.Expires.In(app.Now().Location()).Format(time.DateTime), orDash(k.Name))...)
			}
			t.print(app, !o.noLegend)
			return nil
		},
	}
	o.add(cmd.Flags())
	return cmd
}

func newTokenRevokeCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID…",
		Short: "End tokens and log-ins",
		Args:  atLeast(1, "an id of lictor token list"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := app.daemon(cmd.Context())
			if err != nil {
				return err
			}
			var errs []error
			for _, id := range args {
				errs = append(errs, explainProblem(c.RevokeToken(cmd.Context(), id)))
			}
			return errors.Join(errs...)
		},
	}
}

// daemon is the door to the daemon for what nobody else can do.
func (a *App) daemon(ctx context.Context) (*client.Client, error) {
	c := a.client()
	if c == nil {
		return nil, withHint(errors.New("this is the daemon's business, and none is wanted"), "leave --user and --host none out")
	}
	if !c.Present(ctx) {
		return nil, withHint(errors.New("no daemon answers"), "systemctl enable --now lictor")
	}
	return c, nil
}
