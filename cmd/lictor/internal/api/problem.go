package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// Problem is an error as callers are told it.
type Problem = client.Problem //nolint:errname // as there

// NewProblem returns a problem of an HTTP status.
func NewProblem(status int, detail, hint string) *Problem {
	return client.NewProblem(status, detail, hint)
}

// problemOf is err as a problem. What no caller can do anything about is a 500.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, events.ErrNotFound):
		return NewProblem(http.StatusNotFound, err.Error(), "lictor ps -a lists the runs")
	case errors.Is(err, events.ErrAmbiguous):
		return NewProblem(http.StatusConflict, err.Error(), "give more characters of the id")
	}
	return NewProblem(http.StatusInternalServerError, err.Error(), "")
}

// hints are for problems that have none of their own.
var hints = map[int]string{
	http.StatusForbidden:             "root and the group " + AdminGroup + " act for others, everybody else for themselves",
	http.StatusRequestTimeout:        "send the request in one go",
	http.StatusConflict:              "GET /api/v1/runs/{run} says how the run is now",
	http.StatusRequestEntityTooLarge: "16 MiB are the most",
	http.StatusUnprocessableEntity:   "the command could not be started as the caller: is it there, and may it be executed?",
	http.StatusInternalServerError:   "journalctl -u lictor tells more",
	http.StatusServiceUnavailable:    "journalctl -u lictor tells more",
}

func writeProblem(w http.ResponseWriter, err error) {
	p := *problemOf(err)
	if p.Hint == "" {
		p.Hint = cmp.Or(hints[p.Status], "GET /openapi.json describes what there is to ask for")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "10")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}
