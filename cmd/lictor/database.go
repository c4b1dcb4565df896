package main

import (
	"context"
	"errors"
	"time"

	"github.com/scidex/lictor/events"
)

// databaseURL returns where the PostgreSQL database is, if one is configured.
func (a *App) databaseURL() (string, error) {
	c, err := a.LoadConfig()
	if err != nil {
		return "", err
	}
	if url := c.Settings[keyDatabase].Text; url != "" {
		return url, nil
	}
	return "", withHint(errors.New("no database is configured"), `database = "postgres://user@host/database" in /etc/lictor/lictor.toml, or LICTOR_DATABASE_URL`)
}

// openDatabase opens the PostgreSQL database. Nothing is dialled yet.
func (a *App) openDatabase(ctx context.Context) (*events.Postgres, error) {
	url, err := a.databaseURL()
	if err != nil {
		return nil, err
	}
	return events.OpenPostgres(ctx, url)
}

// pruneRules are what the configuration says of the store.
func (a *App) pruneRules() (rules events.PruneRules, err error) {
	c, err := a.LoadConfig()
	if err != nil {
		return rules, err
	}
	rules.Spooled = c.Settings[keyDatabase].Text != ""
	if rules.Before, err = a.ago(keyRetention, c.Settings[keyRetention].Text); err != nil {
		return rules, err
	}
	if rules.KillsBefore, err = a.ago(keyRetentionKills, c.Settings[keyRetentionKills].Text); err != nil {
		return rules, err
	}
	n, infinite, err := ParseBytes(keyStoreMax, c.Settings[keyStoreMax].Text, 0)
	if !infinite {
		rules.MaxBytes = int64(min(n, 1<<62))
	}
	return rules, err
}

// ago is the point in time a time span before now; that of an infinite one is zero.
func (a *App) ago(name, span string) (time.Time, error) {
	d, infinite, err := ParseTimespan(name, span)
	if err != nil || infinite {
		return time.Time{}, err
	}
	return a.Now().Add(-d), nil
}

// prune forgets what is too old, or too much.
func (a *App) prune(ctx context.Context) (events.Pruned, error) {
	rules, err := a.pruneRules()
	if err != nil {
		return events.Pruned{}, err
	}
	s, err := a.openStore(ctx)
	if err != nil {
		return events.Pruned{}, err
	}
	defer s.Close()
	return s.Prune(ctx, rules)
}
