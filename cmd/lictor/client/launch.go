package client

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/scidex/lictor/events"
)

// Launch describes a run that is to be started for the caller, as the caller, by systemd: the daemon executes nothing.
type Launch struct {
	Command    []string          `json:"command"`
	Env        map[string]string `json:"env,omitempty"` // on top of HOME, USER, PATH and the like; of an attached run it is everything
	Cwd        string            `json:"cwd,omitempty"` // the home directory without it
	Limits     map[string]Amount `json:"limits,omitempty"`
	Properties []string          `json:"properties,omitempty"` // NAME=VALUE
	AnalysisID string            `json:"analysis_id,omitempty"`
	Name       string            `json:"name,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Attached makes the run one of its caller, as a child would be: Descriptors come with the request, and umask, nice value,
	// oom_score_adj and resource limits are those of the process that has connected. On the unix socket only.
	Attached bool `json:"attached,omitempty"`
	// OnOwnerExit is what becomes of the run when that process is gone: "kill", the default of an attached run, or "keep", that of others.
	OnOwnerExit string `json:"on_owner_exit,omitempty"`
	// Key makes it safe to ask again: a second request of the same caller with the same key starts nothing and gets the run of the
	// first one. It is the header Idempotency-Key.
	Key string `json:"-"`
}

// Descriptors is how many descriptors come with the launch of an attached run: SCM_RIGHTS (unix(7)) with the first byte of a new
// connection. They are what the command gets as standard input, output and error, and where its record is written in JSON when it
// has ended. Whoever reads end of file there before a record asks the daemon.
const Descriptors = 4

// Amount is a limit: a number of bytes or seconds, or text in systemd's syntax, such as "2G" or "30min".
type Amount string

// UnmarshalJSON implements json.Unmarshaler.
func (a *Amount) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*a = Amount(text)
		return nil
	}
	var n float64
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("a limit is a number, or text such as \"2G\": %s", b)
	}
	*a = Amount(strconv.FormatFloat(n, 'f', -1, 64))
	return nil
}

// Adoption describes a process that is to be put into a scope.
type Adoption struct {
	PID        int         `json:"pid"`
	Run        *events.Run `json:"run"` // its limits and names
	Properties []string    `json:"properties,omitempty"`
}
