package events

import "context"

// Resolve implements Store.
func (s *SQLite) Resolve(ctx context.Context, text string) (*Run, error) {
	return Resolve(ctx, text, s.byPrefix, s.byLabel)
}

const byPrefixSQL = `WHERE run >= ?1 AND run < ?2 ORDER BY run LIMIT ?3`

func (s *SQLite) byPrefix(ctx context.Context, prefix string, limit int) ([]*Run, error) {
	return s.reading().queryRuns(ctx, byPrefixSQL, prefix, prefix+beyond, limit)
}

// The latest run of the analysis or of the name, each found by its own index.
const byLabelSQL = `WHERE run IN (
	SELECT * FROM (SELECT run FROM watchdog_processes WHERE label = ?1 ORDER BY started_at DESC, run DESC LIMIT 1)
	UNION ALL
	SELECT * FROM (SELECT run FROM watchdog_processes WHERE name = ?1 AND name <> '' ORDER BY started_at DESC, run DESC LIMIT 1)
) ORDER BY started_at DESC, run DESC LIMIT 1`

func (s *SQLite) byLabel(ctx context.Context, text string) (*Run, error) {
	runs, err := s.reading().queryRuns(ctx, byLabelSQL, text)
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return runs[0], nil
}
