package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/scidex/lictor/events"
)

// The queries of package events in a URL, as package client writes them.

func decodeRunQuery(v url.Values) (q events.RunQuery, err error) {
	d := decoder{values: v}
	q.Live = d.bool("live")
	for _, s := range v["state"] {
		q.States = append(q.States, events.State(s))
	}
	q.AnalysisID = v.Get("analysis_id")
	if text := v.Get("command"); text != "" {
		d.keep("command", json.Unmarshal([]byte(text), &q.Command))
	}
	q.Since, q.Until = d.time("since"), d.time("until")
	q.Limit, q.Host = int(d.int("limit")), v.Get("host")
	return q, d.err
}

func decodeEventQuery(v url.Values) (q events.EventQuery, err error) {
	d := decoder{values: v}
	q.Run, q.AnalysisID, q.KillsOnly = events.RunID(v.Get("run")), v.Get("analysis_id"), d.bool("kills")
	for _, k := range v["kind"] {
		q.Kinds = append(q.Kinds, events.Kind(k))
	}
	q.Since, q.Until = d.time("since"), d.time("until")
	q.After, q.Last, q.Limit, q.Host = d.int("after"), int(d.int("last")), int(d.int("limit")), v.Get("host")
	return q, d.err
}

// decoder keeps the first error.
type decoder struct {
	values url.Values
	err    error
}

func (d *decoder) keep(key string, err error) {
	if d.err == nil && err != nil {
		d.err = NewProblem(http.StatusBadRequest, fmt.Sprintf("%s %q: %v", key, d.values.Get(key), err), "")
	}
}

func (d *decoder) bool(key string) (b bool) {
	if text := d.values.Get(key); text != "" {
		var err error
		b, err = strconv.ParseBool(text)
		d.keep(key, err)
	}
	return b
}

func (d *decoder) int(key string) (n int64) {
	if text := d.values.Get(key); text != "" {
		var err error
		n, err = strconv.ParseInt(text, 10, 64)
		if err == nil && n < 0 {
			err = strconv.ErrRange
		}
		d.keep(key, err)
	}
	return n
}

func (d *decoder) time(key string) (t time.Time) {
	if text := d.values.Get(key); text != "" {
		var err error
		t, err = time.Parse(time.RFC3339Nano, text)
		d.keep(key, err)
	}
	return t
}
