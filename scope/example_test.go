package scope_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/scidex/lictor/scope"
)

// A command runs in a scope of its own, and whoever started it learns how it ended.
func ExampleLauncher_Launch() {
	ctx := context.Background()
	launcher, err := scope.NewLauncher(scope.User)
	if err != nil {
		fmt.Println(err) // this machine has no cgroup v2
		return
	}
	defer launcher.Disconnect()
	run, err := launcher.Launch(ctx, scope.Spec{
		Args:       []string{"python3", "train.py"},
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		AnalysisID: "SDA-117",
		MemoryMax:  4 << 30,
		RuntimeMax: 2 * time.Hour,
	})
	var exec *scope.ExecError
	switch {
	case errors.As(err, &exec):
		fmt.Println(err, "- a shell would exit with", exec.Code())
		return
	case err != nil:
		fmt.Println(err) // and nothing is left
		return
	}
	defer run.Close()
	exit, err := run.Wait(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("status", exit.Code, "signal", exit.Signal, "after", exit.CPU, "of processor time")

	// Record how it ended, then:
	if err := run.Release(ctx); err != nil {
		fmt.Println(err)
	}
}

// Systemd does the escalation: SIGTERM to every process, SIGKILL after the grace to those that are left.
func ExampleScope_Stop() {
	launcher, err := scope.NewLauncher(scope.System)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer launcher.Disconnect()
	ctx := context.Background()
	run, err := launcher.Launch(ctx, scope.Spec{Args: []string{"sleep", "1h"}, Grace: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run.Close()
	if err := run.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	exit, _ := run.Wait(ctx)
	fmt.Println(exit.Signal)
	if err := run.Release(ctx); err != nil {
		fmt.Println(err)
	}
}

// Which runs are there, and who looks after them? The kernel knows, without any database.
func ExampleLauncher_Ledgers() {
	launcher, err := scope.NewLauncher(scope.System)
	if err != nil {
		fmt.Println(err)
		return
	}
	runs, err := launcher.Ledgers()
	if err != nil {
		fmt.Println(err)
	}
	for _, run := range runs {
		ledger, err := launcher.Ledger(run)
		if err != nil {
			continue // released meanwhile
		}
		fmt.Println(run, ledger.Facts.AnalysisID, "main process alive:", ledger.Facts.Leader.Alive(), "keeper alive:", ledger.Keeper.Alive())
		ledger.Group.Close()
	}
}

// Only what can make the box narrower may be asked for.
func ExampleParseProperty() {
	p, err := scope.ParseProperty("CPUWeight=20")
	fmt.Println(p.Name, p.Value, err)
	_, err = scope.ParseProperty("CPUWeight=0")
	fmt.Println(err)
	// Output:
	// CPUWeight @t 20 <nil>
	// property "CPUWeight=0": the value does not fit; see systemd.resource-control(5)
}

// Both units of a run carry its id; the slice outlives the scope.
func ExampleRunID() {
	run := scope.RunID("7f3k9q2a0xyz")
	fmt.Println(run.Valid(), run.Scope(), run.Ledger())
	// Output:
	// true lictor-7f3k9q2a0xyz.scope lictor-7f3k9q2a0xyz.slice
}
