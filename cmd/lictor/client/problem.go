package client

import "net/http"

// Problem is an error as the daemon tells it: a problem document of RFC 9457 with what lictor's own errors have besides.
type Problem struct { //nolint:errname // the RFC's word
	Type     string `json:"type"`  // about:blank: Title says it all
	Title    string `json:"title"` // of Status
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Hint     string `json:"hint,omitempty"`      // what helps
	ExitCode int    `json:"exit_code,omitempty"` // that a command should end with
}

func (p *Problem) Error() string { return p.Detail }

// NewProblem returns a problem of an HTTP status.
func NewProblem(status int, detail, hint string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Hint: hint}
}
