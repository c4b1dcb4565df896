// Package dashboard is what a person sees in a browser: pages that are rendered here, readable without JavaScript, and kept up to date
// by a stream where there is some. Nothing is loaded from elsewhere.
//
// Every page can be asked for as text/event-stream, too: then its live part is sent whenever it has changed. It is rendered at most once
// a second for all who may see the same, less often where all that is looked at would take more than a tenth of a processor, and not at all
// when nobody looks.
package dashboard

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/scidex/lictor/cmd/lictor/internal/api"
	"github.com/scidex/lictor/events"
)

//go:embed templates static
var files embed.FS

// Dashboard are the pages.
type Dashboard struct {
	source  Source
	log     *slog.Logger
	pages   map[string]*template.Template
	static  map[string]asset // by path
	cache   cache
	streams chan struct{} // holds a value for each
}

type asset struct {
	body  []byte
	mime  string
	query string // changes with it
}

// maxStreams is how many pages may be kept up to date at a time.
const maxStreams = 128

// New returns the pages.
func New(source Source, log *slog.Logger) *Dashboard {
	d := &Dashboard{source: source, log: log, pages: map[string]*template.Template{}, static: map[string]asset{},
		cache: cache{entries: map[string]cached{}, used: processorTime}, streams: make(chan struct{}, maxStreams)}
	for name, mime := range map[string]string{"app.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		body, err := files.ReadFile("static/" + name)
		if err != nil {
			panic(err) // it is in the binary
		}
		sum := sha256.Sum256(body)
		d.static["/static/"+name] = asset{body, mime, hex.EncodeToString(sum[:6])}
	}
	funcs := template.FuncMap{
		"static": func(name string) string { return "/static/" + name + "?" + d.static["/static/"+name].query },
		"bar":    barSVG, "hours": hoursSVG, "link": func(id string) string { return "/runs/" + url.PathEscape(id) },
	}
	for _, page := range []string{"overview", "runs", "run", "kills", "message"} {
		d.pages[page] = template.Must(template.New("layout.html").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/"+page+".html"))
	}
	return d
}

// Routes implements api.Pages.
func (d *Dashboard) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /{$}":              d.page("overview", d.overview),
		"GET /runs":             d.page("runs", d.runs),
		"GET /runs/{run}":       d.page("run", d.run),
		"GET /kills":            d.page("kills", d.kills),
		"GET /kills.csv":        http.HandlerFunc(d.killsCSV),
		"POST /runs/{run}/stop": http.HandlerFunc(d.stop),
		"GET /static/":          http.HandlerFunc(d.asset),
	}
}

// frame is what a template gets.
type frame struct {
	Page, Title string
	Live        bool // it is kept up to date
	LoggedIn    bool // with a cookie, that can be given back
	Data        any
}

// content finds what a page shows, and its title.
type content func(r *http.Request) (title string, data any, err error)

func (d *Dashboard) overview(r *http.Request) (string, any, error) {
	o, err := d.source.Overview(r.Context(), api.PeerOf(r))
	return "Overview", o, err
}

func (d *Dashboard) runs(r *http.Request) (string, any, error) {
	v := r.URL.Query()
	q := RunsQuery{All: v.Get("show") == "all", Analysis: v.Get("analysis")}
	if text := v.Get("page"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 10000 {
			return "", nil, api.NewProblem(http.StatusBadRequest, fmt.Sprintf("page %q: not the number of a page", text), "")
		}
		q.Page = n
	}
	runs, err := d.source.Runs(r.Context(), api.PeerOf(r), q)
	return "Runs", struct {
		*Runs
		Query    RunsQuery
		Previous string
		Next     string
	}{runs, q, runsURL(q, -1), runsURL(q, 1)}, err
}

func runsURL(q RunsQuery, pages int) string {
	v := url.Values{}
	if q.All {
		v.Set("show", "all")
	}
	if q.Analysis != "" {
		v.Set("analysis", q.Analysis)
	}
	if n := q.Page + pages; n > 0 {
		v.Set("page", strconv.Itoa(n))
	}
	return "/runs?" + v.Encode()
}

func (d *Dashboard) run(r *http.Request) (string, any, error) {
	run, err := d.source.Run(r.Context(), api.PeerOf(r), events.RunID(r.PathValue("run")))
	if err != nil {
		return "", nil, err
	}
	return cmp.Or(run.Analysis, run.Short), run, nil
}

// killsQuery is what the filters of the page of kills say.
func killsQuery(v url.Values, now time.Time) (q events.EventQuery, reason events.Reason, err error) {
	q = events.EventQuery{KillsOnly: true, AnalysisID: v.Get("analysis")}
	reason = events.Reason(v.Get("reason"))
	for key, t := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		text := v.Get(key)
		if text == "" {
			continue
		}
		if *t, err = time.ParseInLocation("2006-01-02", text, now.Location()); err != nil {
			return q, reason, api.NewProblem(http.StatusBadRequest, fmt.Sprintf("%s %q: not a day", key, text), "write it like 2026-11-23")
		}
		if key == "until" {
			*t = t.AddDate(0, 0, 1) // the day itself belongs to it
		}
	}
	return q, reason, nil
}

// killsShown is how many kills a page shows; the CSV has all.
const killsShown = 500

func (d *Dashboard) kills(r *http.Request) (string, any, error) {
	q, reason, err := killsQuery(r.URL.Query(), time.Now())
	if err != nil {
		return "", nil, err
	}
	q.Last = killsShown
	list, err := d.source.Kills(r.Context(), api.PeerOf(r), q, reason)
	return "Kills", struct {
		Kills                          []Kill
		Reasons                        []events.Reason
		Reason, Analysis, Since, Until string
		Query                          string
		Cut                            bool
	}{list, events.Reasons, string(reason), q.AnalysisID, r.URL.Query().Get("since"), r.URL.Query().Get("until"), r.URL.RawQuery, len(list) >= killsShown}, err
}

// killsCSV is the page of kills for programs and spreadsheets.
func (d *Dashboard) killsCSV(w http.ResponseWriter, r *http.Request) {
	q, reason, err := killsQuery(r.URL.Query(), time.Now())
	var list []Kill
	if err == nil {
		list, err = d.source.Kills(r.Context(), api.PeerOf(r), q, reason)
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	header(w)
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="lictor-kills.csv"`)
	c := csv.NewWriter(w)
	_ = c.Write([]string{"at", "run", "analysis_id", "kind", "reason", "memory_bytes", "memory_max_bytes", "duration_seconds", "command"})
	for _, k := range list {
		_ = c.Write([]string{k.At.UTC().Format(time.RFC3339Nano), k.Run, cell(k.Analysis), k.Kind, k.Reason, number(k.MemoryBytes), number(k.LimitBytes), number(k.Seconds), cell(k.Command)})
	}
	c.Flush()
}

func number[T uint64 | float64](n *T) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

// cell keeps a spreadsheet from taking what a stranger wrote for a formula.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// stop begins to end a run and shows its page.
func (d *Dashboard) stop(w http.ResponseWriter, r *http.Request) {
	id := events.RunID(r.PathValue("run"))
	if err := d.source.Stop(r.Context(), api.PeerOf(r), id); err != nil {
		d.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/runs/"+url.PathEscape(string(id)), http.StatusSeeOther)
}

func (d *Dashboard) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := d.static[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	header(w)
	w.Header().Set("Content-Type", a.mime)
	if r.URL.RawQuery == a.query {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	_, _ = w.Write(a.body)
}

const writeTime = 30 * time.Second

// header is what every answer says: nothing from elsewhere, in nobody's frame, remembered by nobody.
func header(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "+
		"base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// page answers with a page, or with the stream that keeps it up to date.
func (d *Dashboard) page(name string, find content) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			d.stream(w, r, name, find)
			return
		}
		title, data, err := find(r)
		if err != nil {
			d.fail(w, r, err)
			return
		}
		d.write(w, http.StatusOK, name, frame{Page: name, Title: title, Live: true, LoggedIn: loggedIn(r), Data: data})
	})
}

func loggedIn(r *http.Request) bool { return api.PeerOf(r).TCP && r.Header.Get("Authorization") == "" }

func (d *Dashboard) write(w http.ResponseWriter, status int, page string, f frame) {
	var body bytes.Buffer // a page is whole, or there is an error
	if err := d.pages[page].ExecuteTemplate(&body, "layout.html", f); err != nil {
		d.log.Error("dashboard", "page", page, "error", err)
		http.Error(w, "this page could not be made; journalctl -u lictor tells more", http.StatusInternalServerError)
		return
	}
	header(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	_, _ = w.Write(body.Bytes())
}

// message is a page with a sentence.
type message struct {
	Text, Hint string
	Command    string
}

func (d *Dashboard) fail(w http.ResponseWriter, _ *http.Request, err error) {
	status, m := http.StatusInternalServerError, message{Text: err.Error()}
	var p *api.Problem
	switch {
	case errors.As(err, &p):
		status, m.Hint = p.Status, p.Hint
	case errors.Is(err, events.ErrNotFound):
		status, m.Text = http.StatusNotFound, "There is no such run, or it is somebody else's."
	default:
		d.log.Warn("dashboard", "error", err)
	}
	d.write(w, status, "message", frame{Page: "message", Title: http.StatusText(status), Data: m})
}

// Unknown implements api.Pages.
func (d *Dashboard) Unknown(w http.ResponseWriter, _ *http.Request) {
	d.write(w, http.StatusUnauthorized, "message", frame{Page: "message", Title: "Log in", Data: message{
		Text: "Who are you? On the machine itself, this command prints an address that logs this browser in:", Command: "lictor dashboard"}})
}
