package client

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/scidex/lictor/events"
)

// The queries of package events in a URL. Times are RFC 3339 with fractions, lists are repeated keys.

// EncodeRunQuery is a query as GET /api/v1/runs reads it.
func EncodeRunQuery(q events.RunQuery) url.Values {
	v := url.Values{}
	if q.Live {
		v.Set("live", "true")
	}
	for _, s := range q.States {
		v.Add("state", string(s))
	}
	set(v, "analysis_id", q.AnalysisID)
	if q.Command != nil {
		text, _ := json.Marshal(q.Command) // strings only
		v.Set("command", string(text))
	}
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	setInt(v, "limit", int64(q.Limit))
	set(v, "host", q.Host)
	return v
}

// EncodeEventQuery is a query as GET /api/v1/events reads it.
func EncodeEventQuery(q events.EventQuery) url.Values {
	v := url.Values{}
	set(v, "run", string(q.Run))
	set(v, "analysis_id", q.AnalysisID)
	for _, k := range q.Kinds {
		v.Add("kind", string(k))
	}
	if q.KillsOnly {
		v.Set("kills", "true")
	}
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	setInt(v, "after", q.After)
	setInt(v, "last", int64(q.Last))
	setInt(v, "limit", int64(q.Limit))
	set(v, "host", q.Host)
	return v
}

func set(v url.Values, key, text string) {
	if text != "" {
		v.Set(key, text)
	}
}

func setTime(v url.Values, key string, t time.Time) {
	if !t.IsZero() {
		v.Set(key, t.UTC().Format(time.RFC3339Nano))
	}
}

func setInt(v url.Values, key string, n int64) {
	if n != 0 {
		v.Set(key, strconv.FormatInt(n, 10))
	}
}
