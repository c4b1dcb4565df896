package scope

import "context"

// Connect makes sure that systemd answers. The error wraps ErrNoManager.
func (l *Launcher) Connect(ctx context.Context) error {
	return l.use(ctx, func(*bus) error { return nil })
}

// Disconnect closes the connection to systemd, if there is one, as soon as no call uses it; the next call that needs one
// makes it again. On its private socket systemd tells everything about every unit, so nobody should sit on an idle
// connection.
func (l *Launcher) Disconnect() {
	l.mu.Lock()
	b := l.bus
	l.bus = nil
	idle := b != nil && b.users == 0
	if b != nil {
		b.leaver = true
	}
	l.mu.Unlock()
	if idle {
		b.close()
	}
}

// use calls fn with a connection to systemd, which stays open until fn returns unless systemd ends it.
func (l *Launcher) use(ctx context.Context, fn func(*bus) error) error {
	b, err := l.acquire(ctx)
	if err != nil {
		return err
	}
	defer l.release(b)
	return fn(b)
}

// acquire returns the connection and makes it if there is none. Only one goroutine dials; the others wait no longer than
// they want to.
func (l *Launcher) acquire(ctx context.Context) (*bus, error) {
	if b := l.existing(); b != nil {
		return b, nil
	}
	select {
	case l.dialling <- struct{}{}:
		defer func() { <-l.dialling }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b := l.existing(); b != nil {
		return b, nil
	}
	b, err := dial(ctx, l.manager.endpoints()...)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bus, b.users = b, 1
	return b, nil
}

// existing returns the connection if there is one that works.
func (l *Launcher) existing() *bus {
	l.mu.Lock()
	b := l.bus
	if b.connected() {
		b.users++
		l.mu.Unlock()
		return b
	}
	l.bus = nil
	l.mu.Unlock()
	if b != nil {
		b.close() // whoever still uses it has lost it anyway
	}
	return nil
}

func (l *Launcher) release(b *bus) {
	l.mu.Lock()
	b.users--
	last := b.leaver && b.users == 0
	l.mu.Unlock()
	if last {
		b.close()
	}
}
