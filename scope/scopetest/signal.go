package scopetest

import (
	"strings"

	"github.com/godbus/dbus/v5"
)

// Signal is what [Systemd.Emit] sends.
type Signal struct {
	Sender string // a unique name; empty is systemd's
	Path   dbus.ObjectPath
	Name   string // interface and member
	Body   []any
}

// Emit sends a signal to every connection, in anybody's name.
func (s *Systemd) Emit(sig Signal) {
	if sig.Sender == "" {
		sig.Sender = s.sender()
	}
	dot := strings.LastIndexByte(sig.Name, '.')
	headers := map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(sig.Path),
		dbus.FieldInterface: dbus.MakeVariant(sig.Name[:dot]),
		dbus.FieldMember:    dbus.MakeVariant(sig.Name[dot+1:]),
		dbus.FieldSender:    dbus.MakeVariant(sig.Sender),
	}
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.send(&dbus.Message{Type: dbus.TypeSignal, Headers: headers, Body: sig.Body})
	}
}

// RemoveJob sends JobRemoved, as systemd does when a job ends.
func (s *Systemd) RemoveJob(id uint32, unit, result string) { s.Emit(JobRemoved("", id, unit, result)) }

// JobRemoved is the signal that tells the end of a job, in the name of sender.
func JobRemoved(sender string, id uint32, unit, result string) Signal {
	return Signal{Sender: sender, Path: managerPath, Name: systemdName + ".Manager.JobRemoved",
		Body: []any{id, jobPath(id), unit, result}}
}

// Reexec gives systemd another unique name on the bus and says so, as when it executes itself anew.
func (s *Systemd) Reexec(owner string) {
	s.mu.Lock()
	old := s.owner
	s.owner = owner
	s.mu.Unlock()
	s.Emit(Signal{Sender: daemonName, Path: "/org/freedesktop/DBus", Name: daemonName + ".NameOwnerChanged",
		Body: []any{systemdName, old, owner}})
}

// Change sets properties of a unit and tells everybody, as systemd does.
func (s *Systemd) Change(unit, iface string, properties map[string]any) {
	s.Set(unit, properties)
	changed := map[string]dbus.Variant{}
	for name, v := range properties {
		changed[name] = dbus.MakeVariant(v)
	}
	s.Emit(Signal{Path: unitPath(unit), Name: "org.freedesktop.DBus.Properties.PropertiesChanged",
		Body: []any{systemdName + "." + iface, changed, []string{}}})
}

func unitPath(unit string) dbus.ObjectPath {
	var path strings.Builder
	path.WriteString(string(managerPath) + "/unit/")
	for _, b := range []byte(unit) {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' {
			path.WriteByte(b)
			continue
		}
		const digits = "0123456789abcdef"
		path.Write([]byte{'_', digits[b>>4], digits[b&15]})
	}
	return dbus.ObjectPath(path.String())
}
