package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// send runs script as root in the guest with data on its standard input.
//
// The data go over a plain TCP connection, which the guest opens with bash's /dev/tcp and which a random word makes
// ours. An emulated cipher would be the slowest part of a test run.
func (g *guest) send(ctx context.Context, data io.Reader, script string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("guest %q: send: %w", g.Name, err)
	}
	word := rand.Text()
	sent := make(chan error, 1) // one slot: the guest's failure is enough to return
	go func() { sent <- serveOnce(l, word, data) }()
	_, err = g.output(ctx, fmt.Sprintf("bash -c %s", quote(fmt.Sprintf(
		"exec 3<>/dev/tcp/10.0.2.2/%d && echo %s >&3 && { %s\n} <&3", l.Addr().(*net.TCPAddr).Port, word, script))))
	l.Close()
	if err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("guest %q: send: %w", g.Name, err)
	}
	return nil
}

// serveOnce writes data to the first connection that says word.
func serveOnce(l net.Listener, word string, data io.Reader) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		said := make([]byte, len(word)+1)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return errors.Join(err, conn.Close())
		}
		if _, err := io.ReadFull(conn, said); err != nil || string(said) != word+"\n" {
			conn.Close()
			continue
		}
		_, err = io.Copy(conn, data)
		return errors.Join(err, conn.Close())
	}
}
