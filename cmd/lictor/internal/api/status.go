package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

const recentEvents = 20

// answerAge is how old an answer may be that takes a look at everything: many ask for it, some of them all the time.
const answerAge = 500 * time.Millisecond

// answers keeps the last answers, of each viewOf.
type answers struct {
	mu   sync.Mutex
	last map[string]agedAnswer
}

type agedAnswer struct {
	at   time.Time
	body []byte
}

// recent answers with what is at most answerAge old.
func (s *Server) recent(what string, look func(r *http.Request, p Peer) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := s.recentAnswer(r, what, look)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
		if err != nil {
			writeProblem(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // without the lock: nobody waits for who does not read
	})
}

func (s *Server) recentAnswer(r *http.Request, what string, look func(r *http.Request, p Peer) (any, error)) ([]byte, error) {
	p := peerFrom(r.Context())
	s.answers.mu.Lock()
	defer s.answers.mu.Unlock() // who asks at the same moment waits for one answer
	key := viewOf(p) + " " + what
	if have, ok := s.answers.last[key]; ok && time.Since(have.at) < answerAge {
		return have.body, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), lookTime) // the answer is for others, too
	defer cancel()
	answer, err := look(r.WithContext(ctx), p)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	if len(s.answers.last) >= connsPerUser { // of more users than there are
		clear(s.answers.last)
	}
	s.answers.last[key] = agedAnswer{time.Now(), body}
	return body, nil
}

// lookTime bounds the look at everything.
const lookTime = 5 * time.Second

// quests answers GET /api/quests/status. It never fails: what is not known is said in it.
func (s *Server) quests(r *http.Request, p Peer) (any, error) {
	var st client.Status
	st.Watchdog.MonitoredCount, st.Watchdog.GraceCount = s.backend.Kept(p.only())
	st.Watchdog.RecentEvents = []events.Event{}
	store, err := s.store(r, p)
	if err == nil {
		err = readStatus(r.Context(), &st.Watchdog, store)
	}
	if err != nil {
		st.Degraded = append(st.Degraded, err.Error())
	}
	return st, nil
}

// readStatus fills in what the store knows; that of live runs includes those that others keep.
func readStatus(ctx context.Context, w *client.WatchdogStatus, store events.Reader) error {
	live, err := store.Count(ctx, events.RunQuery{Live: true})
	if err != nil {
		return err
	}
	w.MonitoredCount = live
	if w.KillsLast24h, err = store.KillsSince(ctx, time.Now().Add(-24*time.Hour)); err != nil {
		return err
	}
	es, err := store.Events(ctx, events.EventQuery{Last: recentEvents})
	for i := range es {
		w.RecentEvents = append(w.RecentEvents, es[len(es)-1-i])
	}
	return err
}
