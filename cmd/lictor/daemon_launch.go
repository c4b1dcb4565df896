package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// Launch implements api.Backend. systemd starts the launcher, `lictor run` as the caller, in a service; that hands its run over to this
// daemon as any other. So nothing is executed here, and what a caller may have is decided in one place.
func (b *backend) Launch(ctx context.Context, peer api.Peer, l *client.Launch, fds []int) (run *events.Run, fresh bool, err error) {
	ctx = context.WithoutCancel(ctx) // what was asked for is done, even if it takes longer than the caller's patience, or the server's
	id := b.app.newID()
	if l.Key != "" {
		id = scope.DeriveRunID(fmt.Sprintf("%d %s", peer.UID, l.Key))
		if run, err := b.launched(ctx, id); !errors.Is(err, events.ErrNotFound) {
			return run, false, err
		}
	}
	if err := b.mayLaunch(peer.UID); err != nil {
		return nil, false, err
	}
	who, err := user.LookupId(strconv.FormatUint(uint64(peer.UID), 10))
	if err != nil {
		return nil, false, client.NewProblem(http.StatusForbidden, err.Error(), "only users that the system knows can start runs")
	}
	args, grace, err := b.launchArgs(l, peer.PID)
	if err != nil {
		return nil, false, problem(err)
	}
	h := handover{Run: id, Args: toBytes(args), Dir: []byte(cmp.Or(l.Cwd, who.HomeDir)), Files: len(fds), fds: fds}
	if h.Env = toBytes(assignments(l.Env)); !l.Attached {
		h.Env = toBytes(launchEnv(who, l.Env))
	}
	service, err := launcherService(scope.Spec{Run: id, Args: l.Command, Grace: grace})
	if err != nil {
		return nil, false, err
	}
	service.User, service.Umask = who.Username, 0o022 // and what systemd gives to services
	if l.Attached {
		if err := likeChildOf(&service, peer.PID, peer.UID); err != nil {
			return nil, false, client.NewProblem(http.StatusConflict, "attached: "+err.Error(), "the process that connected must live, with the caller's ids")
		}
	}
	err = b.app.handOverTo(ctx, b.launcher, service, h)
	if errors.Is(err, scope.ErrUnitExists) && l.Key != "" { // the first request is under way
		run, err := b.launched(ctx, id)
		if errors.Is(err, events.ErrNotFound) {
			err = client.NewProblem(http.StatusConflict, "the first request with this Idempotency-Key is under way", "ask again in a moment")
		}
		return run, false, err
	}
	if err != nil {
		return nil, false, launchProblem(err)
	}
	run, err = b.launched(ctx, id)
	return run, true, err
}

// mayLaunch refuses a user who is above the quota, before systemd has anything to do with it: that is where a flood ends. Launches that
// fail count, too.
func (d *daemon) mayLaunch(uid uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started.admit(uid, d.liveOf(uid), d.app.Now())
}

// launched is the record of a run that was started by an earlier request.
func (b *backend) launched(ctx context.Context, id scope.RunID) (*events.Run, error) {
	store, err := b.Store(ctx)
	if err != nil {
		return nil, err
	}
	return store.Run(ctx, events.RunID(id))
}

// launchProblem is what the launcher said, as callers are told it: what it could not do as they asked is not the daemon's fault.
func launchProblem(err error) error {
	p := problem(err)
	var told *client.Problem
	if errors.As(p, &told) && told.Status == http.StatusInternalServerError && errors.As(err, new(*exitError)) || codeOf(err) == 126 || codeOf(err) == 127 {
		p := client.NewProblem(http.StatusUnprocessableEntity, err.Error(), hintOf(err))
		p.ExitCode = codeOf(err)
		return p
	}
	return p
}

// launchArgs is the command line of lictor that asks for the same, and the grace that the run will have.
func (b *backend) launchArgs(l *client.Launch, caller int) (args []string, grace time.Duration, err error) {
	config, err := b.app.LoadConfig()
	if err != nil {
		return nil, 0, err
	}
	flags := map[string]string{}
	for name, amount := range l.Limits {
		flag := strings.ReplaceAll(name, "_", "-")
		if !slices.ContainsFunc(limitFlags, func(f struct{ name, short, help string }) bool { return f.name == flag }) {
			return nil, 0, withHint(usageError("limits: %q is no limit", name), "memory_max, runtime_max, grace, tasks_max, … : lictor run --help")
		}
		flags[flag] = string(amount)
	}
	limits, err := config.Limits(flags, physicalMemory())
	if err != nil {
		return nil, 0, err
	}
	args = []string{"--system", "run", "--quiet", "--on-owner-exit=kill"} // an owner is the launcher, which is its service
	if l.OnOwnerExit == "kill" || l.Attached && l.OnOwnerExit == "" {
		args = append(args, "--owner-pid="+strconv.Itoa(caller))
	}
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		args = append(args, "--"+flag+"="+flags[flag])
	}
	for _, p := range l.Properties {
		args = append(args, "--property="+p)
	}
	if l.AnalysisID != "" {
		args = append(args, "--analysis-id="+l.AnalysisID)
	}
	if l.Name != "" {
		args = append(args, "--name="+l.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(l.Labels)) {
		args = append(args, "--label="+key+"="+l.Labels[key])
	}
	for key, value := range l.Env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(value, 0) {
			return nil, 0, withHint(usageError("env: %q is no variable", key), "a name without =, and no NUL in either")
		}
	}
	return append(append(args, "--"), l.Command...), span(limits.GraceSeconds), nil
}

// launchEnv is the environment of a run that nobody was there to inherit one from.
func launchEnv(who *user.User, more map[string]string) []string {
	env := map[string]string{"HOME": who.HomeDir, "USER": who.Username, "LOGNAME": who.Username, "LANG": "C.UTF-8",
		"PATH": "/usr/local/bin:/usr/bin:/bin"}
	if exists("/run/systemd/users/" + who.Uid) { // logind knows; /run/user itself is not for the daemon to see (ProtectHome=)
		env["XDG_RUNTIME_DIR"] = "/run/user/" + who.Uid
	}
	maps.Copy(env, more)
	return assignments(env)
}

// assignments are variables as execve(2) takes them.
func assignments(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		list = append(list, key+"="+env[key])
	}
	return list
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
