package api

import (
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

func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	w.Header().Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "10")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}
