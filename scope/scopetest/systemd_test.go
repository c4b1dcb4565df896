package scopetest_test

import (
	"testing"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/scidex/lictor/scope/scopetest"
)

// The libraries that package scope is built on take the fake for the real one.
func TestSpokenToByGoSystemd(t *testing.T) {
	fake := scopetest.New(t)
	conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
		return dbus.Connect(fake.BusAddress(), dbus.WithAuth(dbus.AuthExternal("0")))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	const unit = "a-1.scope"
	if _, err := conn.StartTransientUnitContext(t.Context(), unit, "fail",
		[]sd.Property{sd.PropSlice("a-1.slice"), sd.PropDescription("x")}, done); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != "done" {
		t.Errorf("the job ended as %q", got)
	}
	if got, err := conn.GetUnitPropertyContext(t.Context(), unit, "Description"); err != nil || got.Value.Value() != "x" {
		t.Errorf("Description: got %v, %v", got, err)
	}
	if got := fake.Units(); len(got) != 2 {
		t.Errorf("units: got %v", got)
	}
	if _, err := conn.StopUnitContext(t.Context(), unit, "replace", done); err != nil {
		t.Error(err)
	}
	if got := <-done; got != "done" {
		t.Errorf("the stop job ended as %q", got)
	}
	if _, err := conn.StopUnitContext(t.Context(), unit, "replace", nil); err == nil {
		t.Error("a unit was stopped twice")
	}
}
