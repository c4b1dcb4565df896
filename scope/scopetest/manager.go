package scopetest

import (
	"maps"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// handle answers a call. What is to happen after the answer was sent is in after.
func (s *Systemd) handle(c Call) (r Reply, after func()) {
	s.mu.Lock()
	s.calls = append(s.calls, c)
	own := s.handlers[c.Member]
	s.mu.Unlock()
	if own != nil {
		return own(c), func() {}
	}
	return s.byDefault(c)
}

func (s *Systemd) byDefault(c Call) (r Reply, after func()) {
	switch c.Member {
	case "Hello":
		return Reply{Body: []any{":1.42"}}, func() {}
	case "AddMatch", "Subscribe", "ResetFailedUnit":
		return Reply{}, func() {}
	case "GetNameOwner":
		return Reply{Body: []any{s.sender()}}, func() {}
	case "StartTransientUnit":
		return s.start(c)
	case "StopUnit":
		return s.stop(c)
	case "GetAll", "Get":
		return s.get(c), func() {}
	}
	return Fail("org.freedesktop.DBus.Error.UnknownMethod", "no method "+c.Member), func() {}
}

func (s *Systemd) sender() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner
}

// start makes a transient unit, and the slice that it names.
func (s *Systemd) start(c Call) (Reply, func()) {
	unit, properties := c.Unit(), c.Properties()
	s.mu.Lock()
	if s.units[unit] != nil {
		s.mu.Unlock()
		return Fail("org.freedesktop.systemd1.UnitExists", "Unit "+unit+" was already loaded."), func() {}
	}
	s.jobs++
	id, result, onUnit := s.jobs, s.result, s.onUnit
	state := maps.Clone(properties)
	state["ActiveState"], state["SubState"] = dbus.MakeVariant("active"), dbus.MakeVariant("running")
	state["Result"] = dbus.MakeVariant("success")
	s.units[unit] = state
	if slice, ok := properties["Slice"].Value().(string); ok {
		s.units[slice] = map[string]dbus.Variant{"ActiveState": dbus.MakeVariant("active")}
	}
	s.mu.Unlock()
	return Reply{Body: []any{jobPath(id)}}, func() {
		if result == "" {
			return
		}
		if onUnit != nil {
			onUnit(unit, properties)
		}
		s.RemoveJob(id, unit, result)
	}
}

func (s *Systemd) stop(c Call) (Reply, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[c.Unit()] == nil {
		return Fail("org.freedesktop.systemd1.NoSuchUnit", "Unit "+c.Unit()+" not loaded."), func() {}
	}
	delete(s.units, c.Unit())
	s.jobs++
	id := s.jobs
	return Reply{Body: []any{jobPath(id)}}, func() { s.RemoveJob(id, c.Unit(), "done") }
}

// get answers for one property or for all. The interface does not matter.
func (s *Systemd) get(c Call) Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]dbus.Variant{"LoadState": dbus.MakeVariant("not-found"), "ActiveState": dbus.MakeVariant("inactive"),
		"SubState": dbus.MakeVariant("dead"), "Result": dbus.MakeVariant("success"), "Job": dbus.MakeVariant(Job{0, "/"}),
		"Version": dbus.MakeVariant("257.8-1~fake")}
	if unit := s.units[unitOf(c.Path)]; unit != nil {
		all["LoadState"] = dbus.MakeVariant("loaded")
		maps.Copy(all, unit)
	}
	if c.Member == "GetAll" {
		return Reply{Body: []any{all}}
	}
	v, ok := all[c.text(1)]
	if !ok {
		return Fail("org.freedesktop.DBus.Error.UnknownProperty", "no property "+c.text(1))
	}
	return Reply{Body: []any{v}}
}

// Job is the property of that name of a unit. ID 0 is none.
type Job struct {
	ID   uint32
	Path dbus.ObjectPath
}

// Properties returns the properties in a call of StartTransientUnit.
func (c Call) Properties() map[string]dbus.Variant {
	ps := map[string]dbus.Variant{}
	if len(c.Body) < 3 {
		return ps
	}
	list, _ := c.Body[2].([][]any)
	for _, p := range list {
		name, _ := p[0].(string)
		ps[name], _ = p[1].(dbus.Variant)
	}
	return ps
}

// Default answers as the fake does by default: for a Handler that wants to do so only sometimes. What otherwise follows the
// answer, such as the end of the job, then comes before it.
func (s *Systemd) Default(c Call) Reply {
	r, after := s.byDefault(c)
	after()
	return r
}

func jobPath(id uint32) dbus.ObjectPath {
	return managerPath + "/job/" + dbus.ObjectPath(strconv.FormatUint(uint64(id), 10))
}

// unitOf is the name of the unit of an object path: systemd writes what is neither letter nor digit as _ and two digits.
func unitOf(path dbus.ObjectPath) string {
	escaped := strings.TrimPrefix(string(path), string(managerPath)+"/unit/")
	var name strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] == '_' && i+2 < len(escaped) {
			if n, err := strconv.ParseUint(escaped[i+1:i+3], 16, 8); err == nil {
				name.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		name.WriteByte(escaped[i])
	}
	return name.String()
}
