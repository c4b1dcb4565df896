package api

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

// route is one thing that can be asked for. body says what its JSON object may have, "" if there is none.
type route struct {
	method, path string
	summary      string
	query        []parameter
	body         string
	handler      http.Handler
}

type parameter struct{ name, what string }

var runParameters = []parameter{
	{"live", "true: only those without an end"}, {"state", "repeatable"}, {"analysis_id", ""}, {"command", "a JSON list: exactly this command line"},
	{"since", "RFC 3339: started at or after"}, {"until", "RFC 3339: started before"}, {"host", ""}, {"limit", "at most so many"},
	{"count", "true: how many there are, instead of them"},
}

var eventParameters = []parameter{
	{"run", ""}, {"analysis_id", ""}, {"kind", "repeatable"}, {"kills", "true: what lictor kills lists"}, {"since", "RFC 3339"}, {"until", "RFC 3339"},
	{"host", ""}, {"after", "the cursor of an earlier answer"}, {"last", "the last so many"}, {"limit", "the first so many"},
}

// object is a JSON object.
type object map[string]any

// describe is the API in the words of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0).
func (s *Server) describe() object {
	paths := object{}
	for _, r := range s.table() {
		item, _ := paths[r.path].(object)
		if item == nil {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = r.describe()
	}
	text := object{"type": "string"}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "lictor", "version": events.API, "description": "Who the caller is, the kernel says (SO_PEERCRED). " +
			"Callers see and act on their own runs; root and the group " + AdminGroup + " on all. Changes are additive."},
		"servers": []object{{"url": "http://lictor", "description": "over the unix socket " + client.Path}},
		"paths":   paths,
		"components": object{"schemas": object{"Problem": object{
			"type": "object", "description": "RFC 9457", "required": []string{"type", "title", "status", "detail"},
			"properties": object{"type": text, "title": text, "status": object{"type": "integer"}, "detail": text,
				"hint":      object{"type": "string", "description": "what helps"},
				"exit_code": object{"type": "integer", "description": "that a command should end with"}},
		}}},
	}
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

func (r *route) describe() object {
	parameters := []object{}
	for _, m := range inPath.FindAllStringSubmatch(r.path, -1) {
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.query {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.what, "schema": object{"type": "string"}})
	}
	problem := object{"description": "what went wrong", "content": object{"application/problem+json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}}}
	d := object{"summary": r.summary, "parameters": parameters, "responses": object{"200": object{"description": "done"}, "default": problem}}
	if r.body != "" {
		d["requestBody"] = object{"description": r.body, "content": object{"application/json": object{"schema": object{"type": "object"}}}}
	}
	return d
}
