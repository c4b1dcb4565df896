package main

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/scidex/lictor/cgroup"
	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
	"github.com/scidex/lictor/scope"
)

// readOffer turns what a launcher says of a run into its record and its box, within what the administrator allows. Who the
// caller is comes from the kernel; whatever else is in the record that is not the caller's to say is overwritten.
func (a *App) readOffer(o *api.Offer, peer api.Peer, launcher scope.ProcessID) (*events.Run, scope.Offer, error) {
	offer := scope.Offer{Leader: scope.ProcessID(o.Child), Launcher: launcher, UID: peer.UID}
	if o.Run == nil {
		return nil, offer, client.NewProblem(http.StatusBadRequest, "offer: no run", "")
	}
	run, spec, err := a.readRun(o.Run, o.Properties, peer.UID)
	if err != nil {
		return nil, offer, err
	}
	if o.Run.Service != "" {
		run.Service = spec.Run.Service()
	}
	if o.Run.Service != "" && o.Run.Manager == string(ModeUser) {
		run.ServiceManager = o.Run.Manager
	}
	spec.OnOwnerExit, spec.Owner = scope.OwnerPolicy(o.OnOwnerExit), scope.ProcessID(o.Owner)
	if spec.Nonce = o.Nonce; len(spec.Nonce) > maxNonce {
		return nil, offer, fmt.Errorf("nonce: too long, at most %d bytes", maxNonce)
	}
	offer.Spec = spec
	return run, offer, spec.Validate()
}

// readRun reads the part of a record that a caller may write: names, command, limits.
func (a *App) readRun(from *events.Run, properties []string, uid uint32) (*events.Run, scope.Spec, error) {
	config, err := a.LoadConfig()
	if err != nil {
		return nil, scope.Spec{}, err
	}
	if _, err := config.Limits(limitsAsFlags(from.Limits), physicalMemory()); err != nil {
		return nil, scope.Spec{}, err
	}
	if err := checkNames(from); err != nil {
		return nil, scope.Spec{}, err
	}
	spec := scope.Spec{Run: scope.RunID(from.Run), Args: from.Command, AnalysisID: from.AnalysisID}
	setLimits(&spec, from.Limits)
	if spec.Properties, err = parseProperties(properties); err != nil {
		return nil, spec, err
	}
	if spec.Store, err = a.StorePath(); err != nil {
		return nil, spec, err
	}
	if err := spec.Validate(); err != nil {
		return nil, spec, err
	}
	boot, _ := cgroup.BootID()
	return &events.Run{API: events.API, Run: from.Run, AnalysisID: from.AnalysisID, Name: from.Name, Labels: from.Labels,
		Unit: spec.Run.Scope(), Host: a.hostname(), BootID: boot, Manager: string(a.Mode()), UID: uid,
		Command: from.Command, Cwd: from.Cwd, State: events.StateStarting, Limits: from.Limits}, spec, nil
}

func checkNames(run *events.Run) error {
	if err := checkName("name", run.Name); err != nil {
		return err
	}
	if len(run.Labels) > maxLabels {
		return fmt.Errorf("label: %d of them; at most %d", len(run.Labels), maxLabels)
	}
	for k, v := range run.Labels {
		if err := checkName("label", k+v); err != nil {
			return err
		}
	}
	return nil
}

// maxNonce caps what is only compared.
const maxNonce = 64

// maxLabels caps the labels of a run that a stranger describes.
const maxLabels = 64

// limitsAsFlags writes limits as the flags that ask for them, so that the ceilings are looked at in one place.
func limitsAsFlags(l events.Limits) map[string]string {
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	exact := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	or := func(text string) string { return cmp.Or(text, "infinity") }
	return map[string]string{
		"memory-max":      or(given(l.MemoryMaxBytes, count)),
		"memory-high":     or(given(l.MemoryHighBytes, count)),
		"memory-swap-max": or(given(l.MemorySwapMaxBytes, count)),
		"tasks-max":       or(given(l.TasksMax, count)),
		"cpu-quota":       or(given(l.CPUQuotaPercent, func(p float64) string { return exact(p) + "%" })),
		"runtime-max":     or(given(l.RuntimeMaxSeconds, exact)),
		"grace":           exact(l.GraceSeconds),
		"oom-policy":      l.OOMPolicy,
	}
}

// quota bounds what one user can have a daemon do. Root has none.
type quota struct {
	live      int // runs at a time
	perMinute int // launches

	launched map[uint32]*bucket
}

// bucket is how many launches a user has left. It fills up evenly, to what a minute brings.
type bucket struct {
	left float64
	at   time.Time
}

// The quotas of the daemon: room for a machine of many cores, none for an endless loop.
const (
	maxLivePerUser     = 512
	maxLaunchesPerUser = 1800 // per minute
)

// admit counts a launch of a user who has so many live runs, or refuses it. It is not safe for concurrent use.
func (q *quota) admit(uid uint32, live int, now time.Time) error {
	if uid == 0 {
		return nil
	}
	if live >= q.live {
		return client.NewProblem(http.StatusTooManyRequests, fmt.Sprintf("%d runs of yours are alive; that is the most for one user", live),
			"lictor ps lists them; try again when one has ended")
	}
	b := q.launched[uid]
	if b == nil {
		b = &bucket{left: float64(q.perMinute), at: now}
		q.launched[uid] = b
	}
	b.left = min(b.left+now.Sub(b.at).Minutes()*float64(q.perMinute), float64(q.perMinute))
	b.at = now
	if b.left < 1 {
		return client.NewProblem(http.StatusTooManyRequests, fmt.Sprintf("more than %d launches in a minute", q.perMinute), "try again in a moment")
	}
	b.left--
	return nil
}
