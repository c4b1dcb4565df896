package main

import (
	"github.com/spf13/cobra"

	"github.com/scidex/lictor/watcher"
)

// connect fills the doors of app with the real things. It must stay cheap: it runs before every command.
func connect(app *App) {
	app.Scopes = scopes{}
	app.Settle = settleAll
	app.Systemd = systemdVersion
	app.Box = readBox
	app.Probe = probeMachine
	app.Processes = watcher.NewProcessTable()
}

// commands returns every command of lictor, in the order of the manual page. A new command is added here and nowhere
// else.
func commands(app *App) []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(app),
		newPsCommand(app),
		newStatusCommand(app),
		newWhyCommand(app),
		newShowCommand(app),
		newKillsCommand(app),
		newEventsCommand(app),
		newAdoptCommand(app),
		newReleaseCommand(app),
		newLogsCommand(app),
		newWaitCommand(app),
		newStopCommand(app),
		newKillCommand(app),
		newSetCommand(app),
		newWatchCommand(app),
		newTreeCommand(app),
		newTopCommand(app),
		newDashboardCommand(app),
		newTokenCommand(app),
		newDoctorCommand(app),
		newDBCommand(app),
		newExportCommand(app),
		newImportCommand(app),
		newVersionCommand(app),
		newManCommand(),
		newLaunchCommand(app),
	}
}
