package api

import (
	"fmt"
	"net/http"

	"github.com/scidex/lictor/cmd/lictor/client"
)

// maxKey is how long an Idempotency-Key may be.
const maxKey = 255

// launch starts a run, which runs when this returns: 201, or 200 if an earlier request had started it.
func (s *Server) launch(r *http.Request, p Peer) (any, error) {
	var l client.Launch
	passed := takeFiles(r.Context())
	defer passed.close()
	if err := readBody(r, &l); err != nil {
		return nil, err
	}
	if err := checkAttached(&l, p, len(passed.fds)); err != nil {
		return nil, err
	}
	if l.Key = r.Header.Get("Idempotency-Key"); len(l.Key) > maxKey {
		return nil, NewProblem(http.StatusBadRequest, fmt.Sprintf("Idempotency-Key: longer than %d characters", maxKey), "a UUID will do")
	}
	if len(l.Command) == 0 {
		return nil, NewProblem(http.StatusBadRequest, "command: empty", `{"command":["python3","embed.py"]}`)
	}
	run, fresh, err := s.backend.Launch(r.Context(), p, &l, passed.fds)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if fresh {
		status = http.StatusCreated
	}
	return located{status, "/api/v1/runs/" + string(run.Run), run}, nil
}
