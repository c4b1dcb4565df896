package api

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/scidex/lictor/events/eventstest"
)

// What a launcher and the daemon say to each other, with a first message that comes with the request.
func TestKeep(t *testing.T) {
	f, c, _ := start(t, 1000)
	heard := make(chan FromLauncher, 3)
	f.keep = func(p Peer, conn *Conn) {
		defer conn.Close()
		defer close(heard)
		first, err := conn.First()
		if err != nil || p.UID != 1000 || p.PID != os.Getpid() {
			t.Errorf("first %+v, %v, from %+v", first, err, p)
			return
		}
		heard <- first
		_ = conn.Tell(ToLauncher{Confined: &Confined{Degraded: []string{"x"}}})
		for {
			m, err := conn.Next()
			if err != nil {
				return
			}
			heard <- m
			if m.Exit != nil {
				_ = conn.Tell(ToLauncher{Ended: first.Offer.Run})
			}
		}
	}
	conn, err := Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run := eventstest.NewRun("aaaaaaaaaaaa")
	run.Command = []string{strings.Repeat("x", 1<<20)}
	if err := conn.Begin(t.Context(), FromLauncher{Offer: &Offer{Run: run, Child: Process{PID: 5, StartTicks: 6}}}); err != nil {
		t.Fatal(err)
	}
	if m, err := conn.Hear(); err != nil || m.Confined == nil || m.Confined.Degraded[0] != "x" {
		t.Fatalf("heard %+v, %v", m, err)
	}
	if err := errors.Join(conn.Say(FromLauncher{Opening: true}), conn.Say(FromLauncher{Exit: &Exit{Code: 3}})); err != nil {
		t.Fatal(err)
	}
	if m, err := conn.Hear(); err != nil || m.Ended == nil || m.Ended.Run != run.Run {
		t.Fatalf("heard %+v, %v", m, err)
	}
	conn.Close()
	var got []FromLauncher
	for m := range heard {
		got = append(got, m)
	}
	if len(got) != 3 || got[0].Offer.Child.StartTicks != 6 || !got[1].Opening || got[2].Exit.Code != 3 {
		t.Errorf("the daemon heard %+v", got)
	}
}

// Messages that are too long or no messages end the conversation, and nothing else.
func TestKeepRefusesGarbage(t *testing.T) {
	f, c, _ := start(t, 1000)
	errs := make(chan error, 1)
	f.keep = func(_ Peer, conn *Conn) {
		defer conn.Close()
		_, err := conn.First()
		if err == nil {
			_, err = conn.Next()
		}
		errs <- err
	}
	for _, text := range []string{"{{{\n", `{"offer":3}` + "\n", `{"opened":true}` + "\n" + strings.Repeat("x", maxMessage+1) + "\n"} {
		conn, err := c.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /api/v1/keep HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n%s", upgrade, text)
		if err := <-errs; err == nil {
			t.Errorf("%.20q was taken", text)
		}
		conn.Close()
	}
}
