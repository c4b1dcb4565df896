package scope

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/scidex/lictor/cgroup"
)

const (
	systemdName    = "org.freedesktop.systemd1"
	managerPath    = dbus.ObjectPath("/org/freedesktop/systemd1")
	jobRemoved     = "org.freedesktop.systemd1.Manager.JobRemoved"
	propsChanged   = "org.freedesktop.DBus.Properties.PropertiesChanged"
	nameOwnerMoved = "org.freedesktop.DBus.NameOwnerChanged"
)

// callTimeout bounds one D-Bus call. systemd answers in milliseconds; under a heavy load, or while it re-executes itself,
// in seconds. It is the 25 s of libdbus.
const callTimeout = 25 * time.Second

// dialTimeout bounds the making of a connection. A manager that has frozen (a crash of PID 1) accepts and never answers.
const dialTimeout = 25 * time.Second

// joinTimeout is how long systemd may take to join a bus. A user's bus daemon is started by the first connection to its
// socket, which may be ours, and then systemd comes second.
const joinTimeout = 3 * time.Second

// Property is one property of a transient unit, as org.freedesktop.systemd1(5) names it.
type Property = sd.Property

// unitPath is the object of a unit on the bus.
func unitPath(unit string) dbus.ObjectPath {
	return managerPath + "/unit/" + dbus.ObjectPath(sd.PathBusEscape(unit))
}

// bus is one connection to a manager. go-systemd speaks the protocol; signals are taken by our own handler, because go-systemd's
// would believe any sender and because it never notices that the connection ended.
type bus struct {
	conn    *sd.Conn
	raw     *dbus.Conn
	cancel  context.CancelFunc
	signals *signalFilter

	questions, releases places // a release may wait for a job; a record waits for its question only

	users  int  // calls of a Launcher that use it; guarded by its mu
	leaver bool // the last of them closes it; guarded by the same
}

// dial connects to the first endpoint that answers. ctx bounds the dialling only.
func dial(ctx context.Context, endpoints ...endpoint) (*bus, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var errs []error
	for _, e := range endpoints {
		b, err := dialOne(ctx, e)
		if err == nil {
			return b, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.address, err))
	}
	return nil, fmt.Errorf("%w: %w", ErrNoManager, oneLine(errs...))
}

func dialOne(ctx context.Context, e endpoint) (*bus, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &bus{cancel: cancel, signals: newSignalFilter(e.private),
		questions: make(places, questionsAtOnce), releases: make(places, releasesAtOnce)}
	stop := context.AfterFunc(ctx, cancel)
	var err error
	b.conn, err = sd.NewConnection(func() (*dbus.Conn, error) { return b.connect(life, e) })
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return b, nil
}

// connect is called twice by go-systemd, for calls and for signals; one connection serves both and costs half.
func (b *bus) connect(life context.Context, e endpoint) (*dbus.Conn, error) {
	if b.raw != nil {
		return b.raw, nil
	}
	conn, err := dbus.Dial(e.address, dbus.WithContext(life), dbus.WithSignalHandler(b.signals))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	b.raw = conn
	if e.private {
		return conn, nil
	}
	if err := b.join(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// join makes a connection to a bus daemon usable: a name, and the identity of the only sender we listen to.
func (b *bus) join(conn *dbus.Conn) error {
	if err := conn.Hello(); err != nil {
		return err
	}
	daemon := conn.BusObject()
	if err := daemon.Call("org.freedesktop.DBus.AddMatch", 0, "type='signal',sender='org.freedesktop.DBus',"+
		"interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='"+systemdName+"'").Err; err != nil {
		return err
	}
	var owner string
	err := daemon.Call("org.freedesktop.DBus.GetNameOwner", 0, systemdName).Store(&owner)
	var e dbus.Error
	switch {
	case err == nil:
		b.signals.setOwner(owner)
	case errors.As(err, &e) && e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner":
		select {
		case <-b.signals.joined:
		case <-conn.Context().Done():
			return conn.Context().Err()
		case <-time.After(joinTimeout):
			return err
		}
	default:
		return err
	}
	return conn.Object(systemdName, managerPath).Call(systemdName+".Manager.Subscribe", 0).Err
}

// gone is closed when the connection has ended.
func (b *bus) gone() <-chan struct{} { return b.raw.Context().Done() }

func (b *bus) connected() bool { return b != nil && b.raw.Connected() }

func (b *bus) close() {
	b.conn.Close()
	b.cancel()
}

// How many questions, and how many releases, a connection has under way. systemd takes one after the other; of a hundred and fifty that
// were asked at once, by a daemon with a tenth of a processor, none was answered in time, and the answers came to nobody.
const (
	questionsAtOnce = 16
	releasesAtOnce  = 8 // each is two calls, and waits for a job
)

// places are those that calls of one kind take while they are under way.
type places chan struct{}

// inTurn calls fn when there is a place. The time that a call may take begins with it.
func (b *bus) inTurn(ctx context.Context, p places, fn func() error) error {
	select {
	case p <- struct{}{}: // whether ctx has ended or not
	default:
		select {
		case p <- struct{}{}:
		case <-b.gone():
			return ErrDisconnected
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-p }()
	return fn()
}

// start queues a transient unit and waits until its job is done. ctx bounds the whole.
func (b *bus) start(ctx context.Context, unit string, ps []Property) error {
	done := b.signals.expect(unit)
	defer b.signals.forget(unit)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := b.conn.StartTransientUnitContext(call, unit, "fail", ps, nil); err != nil {
		return fmt.Errorf("start %q: %w", unit, b.failure(err))
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("start %q: %w as %q", unit, errJobFailed, result)
		}
		return nil
	case <-b.gone():
		return fmt.Errorf("start %q: %w", unit, ErrDisconnected)
	case <-ctx.Done():
		return fmt.Errorf("start %q: the job did not finish: %w", unit, ctx.Err())
	}
}

// startUnit starts a unit that exists, or a slice.
func (b *bus) startUnit(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := b.conn.StartUnitContext(ctx, unit, "replace", nil)
	return b.failure(err)
}

// stop asks for a unit to be stopped and does not wait for it.
func (b *bus) stop(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := b.conn.StopUnitContext(ctx, unit, "replace", nil)
	return ignoreNoUnit(b.failure(err))
}

// stopped asks for a unit to be stopped and waits until it is.
func (b *bus) stopped(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done := b.signals.expect(unit)
	defer b.signals.forget(unit)
	_, err := b.conn.StopUnitContext(ctx, unit, "replace", nil)
	if err := b.failure(err); err != nil {
		return ignoreNoUnit(err)
	}
	select {
	case <-done:
		return nil
	case <-b.gone():
		return fmt.Errorf("stop %q: %w", unit, ErrDisconnected)
	case <-ctx.Done():
		return fmt.Errorf("stop %q: the job did not finish: %w", unit, ctx.Err())
	}
}

// resetFailed lets systemd forget a failed unit. One that it does not know is fine.
func (b *bus) resetFailed(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return ignoreNoUnit(b.failure(b.conn.ResetFailedUnitContext(ctx, unit)))
}

// get reads properties of a unit, each named INTERFACE.NAME without the common prefix. All questions are sent before the first
// answer is read: one round trip, and next to nothing for systemd, whose scopes have three hundred properties.
func (b *bus) get(ctx context.Context, unit string, names ...string) (values []any, err error) {
	err = b.inTurn(ctx, b.questions, func() error {
		values, err = b.getNow(ctx, unit, names)
		return err
	})
	return values, err
}

func (b *bus) getNow(ctx context.Context, unit string, names []string) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	object := b.raw.Object(systemdName, unitPath(unit))
	calls := make([]*dbus.Call, len(names))
	for i, name := range names {
		iface, property, _ := strings.Cut(name, ".")
		calls[i] = object.GoWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, make(chan *dbus.Call, 1),
			systemdName+"."+iface, property)
	}
	values := make([]any, len(names))
	for i, call := range calls {
		var v dbus.Variant
		if err := (<-call.Done).Store(&v); err != nil {
			return nil, b.failure(err)
		}
		values[i] = v.Value()
	}
	return values, nil
}

// activeState reads what verify needs.
func (b *bus) activeState(ctx context.Context, unit string) (string, error) {
	v, err := b.get(ctx, unit, "Unit.ActiveState")
	if err != nil {
		return "", fmt.Errorf("unit %q: %w", unit, err)
	}
	return text(v[0]), nil
}

func ignoreNoUnit(err error) error {
	if errors.Is(err, ErrNoUnit) {
		return nil
	}
	return err
}

// busErrors maps the names of D-Bus errors to what a caller does about them.
var busErrors = map[string]error{
	"org.freedesktop.systemd1.NoSuchUnit":         ErrNoUnit,
	"org.freedesktop.systemd1.ScopeNotRunning":    ErrNoUnit,
	"org.freedesktop.DBus.Error.UnknownObject":    ErrNoUnit,
	"org.freedesktop.systemd1.UnitExists":         ErrUnitExists,
	"org.freedesktop.DBus.Error.PropertyReadOnly": ErrUnknownProperty,
	"org.freedesktop.DBus.Error.UnknownProperty":  ErrUnknownProperty,
	"org.freedesktop.DBus.Error.NoReply":          ErrDisconnected,
	"org.freedesktop.DBus.Error.Disconnected":     ErrDisconnected,
	// One of the PIDs of a new scope has ended.
	"org.freedesktop.DBus.Error.UnixProcessIdUnknown": cgroup.ErrNoProcess,
}

// failure says of the error of a call what callers branch on.
func (b *bus) failure(err error) error {
	var e dbus.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &e):
		if known := busErrors[e.Name]; known != nil {
			return fmt.Errorf("%w: %w", known, err)
		}
		return err
	case !b.connected(): // io.EOF for calls that were under way, dbus.ErrClosed for later ones
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return err
}
