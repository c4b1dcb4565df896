package main

import "github.com/spf13/cobra"

// connect fills the doors of app with the real things. It must stay cheap: it runs before every command.
func connect(_ *App) {
}

// commands returns every command of lictor, in the order of the manual page. A new command is added here and nowhere
// else.
func commands(app *App) []*cobra.Command {
	return []*cobra.Command{
		newPsCommand(app),
		newWhyCommand(app),
		newVersionCommand(app),
	}
}
