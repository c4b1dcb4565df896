package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/scidex/lictor/events"
)

// Live is what the kernel says about one run at this moment.
type Live struct {
	Run       events.RunID     `json:"run"`
	State     events.State     `json:"state"`
	Numbers   LiveNumbers      `json:"numbers"`
	Survivors []events.Process `json:"survivors,omitempty"` // processes that have outlived SIGKILL
	Limits    *events.Limits   `json:"limits,omitempty"`    // as they are now, where they can change; nil: as in the record
	Record    *events.Run      `json:"record,omitempty"`    // what its ledger says of a run that the store does not know
}

// LiveNumbers are what a live run uses. Nil is not known.
type LiveNumbers struct {
	MemoryBytes        *uint64  `json:"memory_bytes"` // memory.current without the page cache that can be taken back
	MemoryCurrentBytes *uint64  `json:"memory_current_bytes"`
	MemoryPeakBytes    *uint64  `json:"memory_peak_bytes"`
	CPUSeconds         *float64 `json:"cpu_seconds"`
	Tasks              *uint64  `json:"tasks"`
	PIDs               []int    `json:"pids,omitempty"`
	Cgroup             string   `json:"cgroup,omitempty"`
}

// Live is what is alive.
func (c *Client) Live(ctx context.Context) (list []Live, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/live", nil, nil, &list)
}

// Processes are those of a live run.
func (c *Client) Processes(ctx context.Context, run events.RunID) (list []events.Process, err error) {
	return list, c.call(ctx, http.MethodGet, "/api/v1/runs/"+url.PathEscape(string(run))+"/processes", nil, nil, &list)
}

// Summary is the machine, what is alive, and what ended within a day, as lictor status --json has it.
func (c *Client) Summary(ctx context.Context) (summary json.RawMessage, err error) {
	return summary, c.call(ctx, http.MethodGet, "/api/v1/summary", nil, nil, &summary)
}
