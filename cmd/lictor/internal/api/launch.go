package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Launch describes a run that is to be started for the caller, as the caller, by systemd: the daemon executes nothing.
type Launch struct {
	Command    []string          `json:"command"`
	Env        map[string]string `json:"env,omitempty"` // on top of HOME, USER, PATH and the like
	Cwd        string            `json:"cwd,omitempty"` // the home directory without it
	Limits     map[string]Amount `json:"limits,omitempty"`
	Properties []string          `json:"properties,omitempty"` // NAME=VALUE
	AnalysisID string            `json:"analysis_id,omitempty"`
	Name       string            `json:"name,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Key makes it safe to ask again: a second request of the same caller with the same key starts nothing and gets the run of the
	// first one. It is the header Idempotency-Key.
	Key string `json:"-"`
}

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

// maxKey is how long an Idempotency-Key may be.
const maxKey = 255

// launch starts a run, which runs when this returns: 201, or 200 if an earlier request had started it.
func (s *Server) launch(r *http.Request, p Peer) (any, error) {
	var l Launch
	if err := readBody(r, &l); err != nil {
		return nil, err
	}
	if l.Key = r.Header.Get("Idempotency-Key"); len(l.Key) > maxKey {
		return nil, NewProblem(http.StatusBadRequest, fmt.Sprintf("Idempotency-Key: longer than %d characters", maxKey), "a UUID will do")
	}
	if len(l.Command) == 0 {
		return nil, NewProblem(http.StatusBadRequest, "command: empty", `{"command":["python3","embed.py"]}`)
	}
	run, fresh, err := s.backend.Launch(r.Context(), p, &l)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if fresh {
		status = http.StatusCreated
	}
	return located{status, "/api/v1/runs/" + string(run.Run), run}, nil
}
