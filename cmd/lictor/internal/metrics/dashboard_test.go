package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// gridWidth is how many columns a dashboard of Grafana has.
const gridWidth = 24

type grafanaPanel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Grid        struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Fields struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Ref    string `json:"refId"`
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

func (p *grafanaPanel) overlaps(o *grafanaPanel) bool {
	a, b := p.Grid, o.Grid
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// The dashboard that is shipped asks for metrics and labels that there are, shows every metric, and can be imported anywhere.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../../../../deploy/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		ID            *int           `json:"id"`
		SchemaVersion int            `json:"schemaVersion"`
		Panels        []grafanaPanel `json:"panels"`
		Templating    struct {
			List []struct{ Name, Type string } `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if d.ID != nil || d.SchemaVersion < 42 || len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("id %v, schema %d, variables %+v", d.ID, d.SchemaVersion, d.Templating.List)
	}
	there := gather(t)
	left := maps.Clone(there)
	ids := map[int]string{}
	for i := range d.Panels {
		p := &d.Panels[i]
		if ids[p.ID] != "" || p.ID == 0 {
			t.Errorf("panels %q and %q have the id %d", ids[p.ID], p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		if g := p.Grid; g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > gridWidth {
			t.Errorf("panel %q is at %+v", p.Title, g)
		}
		for j := range d.Panels[:i] {
			if o := &d.Panels[j]; p.overlaps(o) {
				t.Errorf("panels %q and %q overlap: %+v %+v", p.Title, o.Title, p.Grid, o.Grid)
			}
		}
		if err := p.check(there, left); err != nil {
			t.Errorf("panel %q: %v", p.Title, err)
		}
	}
	if len(left) > 0 {
		t.Errorf("no panel shows %v", slices.Sorted(maps.Keys(left)))
	}
	var all any
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if n := datasources(t, all); n < len(d.Panels) {
		t.Errorf("%d datasources are named in %d panels", n, len(d.Panels))
	}
	for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(b), -1) { // $__rate_interval and the like are Grafana's
		if name := m[1]; !strings.HasPrefix(name, "__") && !slices.ContainsFunc(d.Templating.List, func(v struct{ Name, Type string }) bool { return v.Name == name }) {
			t.Errorf("no variable %s", m[0])
		}
	}
}

// check holds a panel's expressions against what there is, and strikes the metrics that it shows from those left.
func (p *grafanaPanel) check(there, left exposed) error {
	if p.Type == "row" {
		return nil
	}
	if p.Title == "" || p.Description == "" || p.Fields.Defaults.Unit == "" || len(p.Targets) == 0 {
		return fmt.Errorf("title, description, unit (%q) and targets (%d) are wanted", p.Fields.Defaults.Unit, len(p.Targets))
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		metrics, err := there.check(target.Expr)
		if err != nil {
			return fmt.Errorf("%s: %w", target.Expr, err)
		}
		if refs[target.Ref] {
			return fmt.Errorf("two targets are %s", target.Ref)
		}
		refs[target.Ref] = true
		q, _ := parseQuery(target.Expr)
		for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.Legend, -1) {
			if !slices.Contains(q.groups, m[1]) {
				return fmt.Errorf("legend %s: not grouped by it: %s", target.Legend, target.Expr)
			}
		}
		for _, name := range metrics {
			delete(left, name)
		}
	}
	return nil
}

// datasources counts the datasources in a part of a dashboard; each must be the variable, or it is somebody else's.
func datasources(t *testing.T, v any) (n int) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += datasources(t, e)
		}
	case map[string]any:
		for key, e := range v {
			if key == "datasource" {
				n++
				if d, ok := e.(map[string]any); !ok || d["uid"] != "${datasource}" {
					t.Errorf("datasource %v", e)
				}
				continue
			}
			n += datasources(t, e)
		}
	}
	return n
}
