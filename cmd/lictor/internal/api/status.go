package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/scidex/lictor/events"
)

// questsStatus is the section that the old watchdog had in the status of the platform, field for field.
type questsStatus struct {
	Watchdog watchdogStatus `json:"watchdog"`
	// Degraded says what could not be found out; then there are zeros above.
	Degraded []string `json:"degraded,omitempty"`
}

type watchdogStatus struct {
	MonitoredCount int            `json:"monitored_count"`
	GraceCount     int            `json:"grace_count"`
	KillsLast24h   int            `json:"kills_last_24h"`
	RecentEvents   []events.Event `json:"recent_events"` // the last first
}

const (
	recentEvents = 20
	// statusAge is how old a status may be: many ask for it, some of them all the time.
	statusAge = 500 * time.Millisecond
)

// statuses keeps the last status of each viewOf.
type statuses struct {
	mu   sync.Mutex
	last map[string]agedStatus
}

type agedStatus struct {
	at   time.Time
	body []byte
}

// quests answers GET /api/quests/status. It never fails: what is not known is said in it.
func (s *Server) quests(w http.ResponseWriter, r *http.Request) {
	body, err := s.recentStatus(r)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
	if err != nil {
		writeProblem(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // without the lock: nobody waits for who does not read
}

// recentStatus is what the caller may see, at most statusAge old.
func (s *Server) recentStatus(r *http.Request) ([]byte, error) {
	p := peerFrom(r.Context())
	s.status.mu.Lock()
	defer s.status.mu.Unlock() // who asks at the same moment waits for one answer
	key := viewOf(p)
	if have, ok := s.status.last[key]; ok && time.Since(have.at) < statusAge {
		return have.body, nil
	}
	body, err := json.Marshal(s.questsStatus(r, p))
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	if len(s.status.last) >= connsPerUser { // of more users than there are
		clear(s.status.last)
	}
	s.status.last[key] = agedStatus{time.Now(), body}
	return body, nil
}

// statusTime bounds the look at the store.
const statusTime = 5 * time.Second

func (s *Server) questsStatus(r *http.Request, p Peer) (st questsStatus) {
	var uid *uint32
	if !p.All() {
		uid = &p.UID
	}
	st.Watchdog.MonitoredCount, st.Watchdog.GraceCount = s.backend.Kept(uid)
	st.Watchdog.RecentEvents = []events.Event{}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), statusTime) // the answer is for others, too
	defer cancel()
	store, err := s.store(r, p)
	if err == nil {
		err = st.Watchdog.read(ctx, store)
	}
	if err != nil {
		st.Degraded = append(st.Degraded, err.Error())
	}
	return st
}

// read fills in what the store knows; that of live runs includes those that others keep.
func (w *watchdogStatus) read(ctx context.Context, store events.Reader) error {
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
