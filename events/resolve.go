package events

import (
	"context"
	"fmt"
	"strings"
)

// ShortIDLen is how many characters of a run id people are shown.
const ShortIDLen = 8

// Short returns what people are shown of a run id.
func (id RunID) Short() string {
	return string(id[:min(len(id), ShortIDLen)])
}

// maxCandidates is how many runs are named when several match.
const maxCandidates = 5

// Resolve finds the run that a person means, for every kind of Store. An exact id wins; then the latest run of an analysis
// or of a name; then a prefix of one id. A label that is also somebody else's id as it is shown is ambiguous: labels are
// chosen by strangers and ids end up in `lictor stop`.
//
// byPrefix returns up to limit runs whose id has a prefix; byLabel returns the latest run whose analysis id or name is
// text, or nil.
func Resolve(ctx context.Context, text string,
	byPrefix func(ctx context.Context, prefix string, limit int) ([]*Run, error),
	byLabel func(ctx context.Context, text string) (*Run, error),
) (*Run, error) {
	text = Clean(text)
	if text == "" {
		return nil, fmt.Errorf("%w: no id was given", ErrNotFound)
	}
	prefixed, err := byPrefix(ctx, text, maxCandidates+1)
	if err != nil {
		return nil, err
	}
	if len(prefixed) > 0 && string(prefixed[0].Run) == text {
		return prefixed[0], nil
	}
	labelled, err := byLabel(ctx, text)
	if err != nil {
		return nil, err
	}
	switch {
	case labelled != nil && (len(text) < ShortIDLen || len(prefixed) == 0 || sameRun(prefixed, labelled)):
		return labelled, nil
	case labelled != nil:
		return nil, ambiguous(text, append([]*Run{labelled}, prefixed...))
	case len(prefixed) == 0:
		return nil, fmt.Errorf("%w: %q", ErrNotFound, text)
	case len(prefixed) > 1:
		return nil, ambiguous(text, prefixed)
	default:
		return prefixed[0], nil
	}
}

func sameRun(runs []*Run, r *Run) bool {
	return len(runs) == 1 && runs[0].Run == r.Run
}

func ambiguous(text string, candidates []*Run) error {
	var ids []string
	for i, r := range candidates {
		if i == maxCandidates {
			ids = append(ids, "…")
			break
		}
		ids = append(ids, string(r.Run))
	}
	return fmt.Errorf("%w %q: %s", ErrAmbiguous, text, strings.Join(ids, ", "))
}

// latestLabelled returns the latest run whose analysis id or name is text, nil if there is none.
func latestLabelled(ctx context.Context, s Reader, text string) (*Run, error) {
	list, err := s.Runs(ctx, RunQuery{AnalysisID: text, Limit: 1})
	if err != nil {
		return nil, err
	}
	named, err := s.Runs(ctx, RunQuery{Name: text, Limit: 1})
	return latest(append(list, named...)), err
}

// only is the run that was found by its id.
func only(runs []*Run, id RunID, err error) (*Run, error) {
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	return runs[0], nil
}
