package events

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Prune forgets what the rules say of all hosts, or of one. A database of a server has no cap: MaxBytes is not looked at.
func (p *Postgres) Prune(ctx context.Context, rules PruneRules, host string) (sum Pruned, err error) {
	const events = `DELETE FROM watchdog_events WHERE position IN (
		SELECT position FROM watchdog_events e WHERE is_kill = $1 AND at < $2 AND ($3 = '' OR host = $3)
		AND NOT EXISTS (SELECT FROM watchdog_processes p WHERE p.run = e.run AND NOT p.ended) ORDER BY at LIMIT $4)`
	const runs = `DELETE FROM watchdog_processes WHERE run IN (
		SELECT run FROM watchdog_processes p WHERE ended AND started_at < $1 AND ($2 = '' OR host = $2)
		AND NOT EXISTS (SELECT FROM watchdog_events e WHERE e.run = p.run) LIMIT $3)`
	const analyses = `DELETE FROM analyses a WHERE first_seen < $1
		AND NOT EXISTS (SELECT FROM watchdog_events e WHERE e.analysis_id = a.analysis_id)
		AND NOT EXISTS (SELECT FROM watchdog_processes p WHERE p.analysis_id = a.analysis_id)`
	const batch = 10 * pruneBatch
	if !rules.Before.IsZero() {
		sum.Events, err = p.drop(ctx, batch, events, false, rules.Before, host, batch)
	}
	if err == nil && !rules.KillsBefore.IsZero() {
		var n int
		n, err = p.drop(ctx, batch, events, true, rules.KillsBefore, host, batch)
		sum.Events += n
	}
	if err == nil && !rules.Before.IsZero() {
		sum.Runs, err = p.drop(ctx, batch, runs, rules.Before, host, batch)
	}
	if err == nil && sum.Runs > 0 {
		_, err = p.drop(ctx, 1<<62, analyses, rules.Before)
	}
	return sum, p.wrap("prune", err)
}

// drop executes a statement that deletes up to a number of rows until there are fewer.
func (p *Postgres) drop(ctx context.Context, batch int, stmt string, args ...any) (sum int, err error) {
	for {
		n := 0
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
			defer cancel()
			return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, stmt, args...)
				n = int(tag.RowsAffected())
				return err
			})
		}()
		sum += n
		if err != nil || n < batch {
			return sum, err
		}
	}
}
