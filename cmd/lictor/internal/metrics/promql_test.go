package metrics

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What an expression of PromQL asks for, as far as names go: enough to hold what is shipped against what is exposed.

// selector is a metric that an expression names, with its label matchers.
type selector struct {
	metric   string
	matchers []matcher
}

type matcher struct{ label, op, value string }

// query is what an expression names.
type query struct {
	selectors []selector
	groups    []string // labels of by and without
}

// The words of PromQL that are used: another one is a typing error, or has to be added.
var (
	promFunctions   = []string{"absent", "histogram_quantile", "increase", "rate", "sum", "max"}
	promAggregators = []string{"sum", "max"}
	promToken       = regexp.MustCompile(`^(?:\s+|[A-Za-z_:][\w:]*|"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\d[\w.]*|=~|!~|!=|>=|<=|==|[-+*/%^(){},=<>])`)
	promRange       = regexp.MustCompile(`^\[(\d+[smhdw]|\$__rate_interval)\]$`)
	promWord        = regexp.MustCompile(`^[A-Za-z_:]`)
)

// tokens splits an expression; space is dropped.
func tokens(expr string) (list []string, err error) {
	for rest := expr; rest != ""; {
		t := promToken.FindString(rest)
		if t == "" {
			return nil, fmt.Errorf("no PromQL at %q", rest)
		}
		rest = rest[len(t):]
		if strings.TrimSpace(t) != "" {
			list = append(list, t)
		}
	}
	return list, nil
}

func parseQuery(expr string) (q query, err error) {
	list, err := tokens(expr)
	if err != nil {
		return q, err
	}
	at := func(i int) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	depth := 0
	for i := 0; i < len(list); i++ {
		t := list[i]
		switch {
		case t == "(":
			depth++
		case t == ")":
			depth--
		case t == "by" || t == "without":
			var labels []string
			if labels, i, err = labelList(list, i+1); err != nil {
				return q, err
			}
			q.groups = append(q.groups, labels...)
		case promWord.MatchString(t):
			if at(i+1) == "(" || slices.Contains(promAggregators, t) && (at(i+1) == "by" || at(i+1) == "without") {
				if !slices.Contains(promFunctions, t) {
					return q, fmt.Errorf("function %q", t)
				}
				continue
			}
			s := selector{metric: t}
			if at(i+1) == "{" {
				if s.matchers, i, err = matcherList(list, i+2); err != nil {
					return q, err
				}
			}
			q.selectors = append(q.selectors, s)
		case t[0] == '[':
			if !promRange.MatchString(t) || i == 0 || list[i-1] != "}" && !promWord.MatchString(list[i-1]) {
				return q, fmt.Errorf("range %s", t)
			}
		case strings.ContainsAny(t, `{}"`):
			return q, fmt.Errorf("%s at a wrong place", t)
		}
		if depth < 0 {
			break
		}
	}
	if depth != 0 || len(q.selectors) == 0 {
		return q, fmt.Errorf("parentheses %+d, %d metrics", depth, len(q.selectors))
	}
	return q, nil
}

// labelList reads (a, b); the first token is list[i], and the index of the last one is returned.
func labelList(list []string, i int) (labels []string, last int, err error) {
	for ; i+2 < len(list) && (list[i] == "(" && labels == nil || list[i] == ","); i += 2 {
		labels = append(labels, list[i+1])
		if list[i+2] == ")" {
			return labels, i + 2, nil
		}
	}
	return nil, i, fmt.Errorf("labels of by or without: %q", list)
}

// matcherList reads a="b", c=~"d"} with list[i] as its first token, and returns the index of the }.
func matcherList(list []string, i int) (ms []matcher, last int, err error) {
	for ; i+3 < len(list); i += 4 {
		m := matcher{list[i], list[i+1], strings.Trim(list[i+2], `"`)}
		if !promWord.MatchString(m.label) || !slices.Contains([]string{"=", "!=", "=~", "!~"}, m.op) || list[i+2][0] != '"' {
			break
		}
		ms = append(ms, m)
		switch list[i+3] {
		case "}":
			return ms, i + 3, nil
		case ",":
			continue
		}
		break
	}
	return nil, i, fmt.Errorf("matchers: %q", list)
}

// exposed is every name under which a sample can be asked for: metric, label, its values.
type exposed map[string]map[string][]string

// addedByScrape are the labels that Prometheus gives to what it scrapes.
var addedByScrape = []string{"instance", "job"}

// gather is what there is when everything is known.
func gather(t *testing.T) exposed {
	t.Helper()
	families, err := New(Sources{Version: "1", Runs: func() (int, int, bool) { return 0, 0, true },
		Memory:  func() (uint64, *uint64, bool) { return 0, new(uint64), true },
		Pending: func() (int, bool) { return 0, true }, Overflows: func() uint64 { return 0 }, Mismatches: func() uint64 { return 0 }}).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := exposed{}
	for _, f := range families {
		labels := map[string][]string{}
		histogram := false
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
			}
			histogram = histogram || m.GetHistogram() != nil
		}
		if !histogram {
			there[f.GetName()] = labels
			continue
		}
		there[f.GetName()+"_sum"], there[f.GetName()+"_count"] = labels, labels
		buckets := maps.Clone(labels)
		buckets["le"] = nil
		there[f.GetName()+"_bucket"] = buckets
	}
	return there
}

// check holds an expression against what is exposed and returns the metrics that it names.
func (there exposed) check(expr string) (metrics []string, err error) {
	q, err := parseQuery(expr)
	if err != nil {
		return nil, err
	}
	labels := slices.Clone(addedByScrape)
	for _, s := range q.selectors {
		known, ok := there[s.metric]
		if !ok {
			return nil, fmt.Errorf("no metric %s", s.metric)
		}
		metrics = append(metrics, s.metric)
		labels = slices.AppendSeq(labels, maps.Keys(known))
		for _, m := range s.matchers {
			if slices.Contains(addedByScrape, m.label) {
				continue
			}
			values, ok := known[m.label]
			if !ok {
				return nil, fmt.Errorf("%s has no label %s", s.metric, m.label)
			}
			for _, alternative := range m.alternatives() { // each must be a value that there is, or the word is a wrong one
				if !slices.Contains(values, alternative) {
					return nil, fmt.Errorf("%s has no %s=%q", s.metric, m.label, alternative)
				}
			}
		}
	}
	for _, g := range q.groups {
		if !slices.Contains(labels, g) {
			return nil, fmt.Errorf("no label %s to group by", g)
		}
	}
	return metrics, nil
}

// alternatives are the values that a matcher names.
func (m matcher) alternatives() []string {
	if m.op == "=~" || m.op == "!~" {
		return strings.Split(m.value, "|")
	}
	return []string{m.value}
}

func TestQueryNames(t *testing.T) {
	there := exposed{"a_total": {"reason": {"oom", "stop"}}, "b": {}, "c_bucket": {"le": nil}}
	for expr, want := range map[string]string{
		`sum by (reason) (rate(a_total{reason!~"oom|stop", instance=~"$instance"}[5m])) > 0.9`: "",
		`histogram_quantile(0.99, sum by (le, instance) (rate(c_bucket[$__rate_interval])))`:   "",
		`b / b > 20`:                      "",
		`absent(b)`:                       "",
		`rate(a[5m])`:                     "no metric a",
		`a_total{step="x"}`:               "no label step",
		`a_total{reason="x"}`:             `no reason="x"`,
		`a_total{reason=~"oom|x"}`:        `no reason="x"`,
		`sum by (reason) (b)`:             "no label reason to group by",
		`rat(b[5m])`:                      `function "rat"`,
		`sum(b`:                           "parentheses +1",
		`b)`:                              "parentheses -1",
		`b[5 minutes]`:                    "range",
		`b{`:                              "matchers",
		`a_total{reason}`:                 "matchers",
		`a_total{reason="oom" step="x"}`:  "matchers",
		`sum by (reason b`:                "labels of by",
		`b & b`:                           "no PromQL",
		`"b"`:                             "wrong place",
		`0.9`:                             "0 metrics",
		`sum without (instance) (b) or`:   "no metric or",
		`b{instance="unterminated}`:       "no PromQL",
		`increase(a_total{reason="oom"})`: "",
	} {
		_, err := there.check(expr)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", expr, err, want)
		}
	}
}
