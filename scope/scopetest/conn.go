package scopetest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// conn is the server's side of one connection.
type conn struct {
	net.Conn
	s *Systemd

	mu     sync.Mutex // one message at a time
	ready  bool       // it is authenticated: messages may be sent
	serial uint32
}

func (c *conn) serve() {
	defer c.s.serving.Done()
	defer func() {
		_ = c.Close()
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		delete(c.s.conns, c)
	}()
	in := bufio.NewReader(c)
	if c.authenticate(in) != nil {
		return
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		if m.Type == dbus.TypeMethodCall {
			c.answer(m)
		}
	}
}

// authenticate is the server's side of the conversation that the D-Bus specification calls EXTERNAL. It believes everybody.
func (c *conn) authenticate(in *bufio.Reader) error {
	if b, err := in.ReadByte(); err != nil || b != 0 {
		return errors.New("no NUL byte")
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		answer := "ERROR"
		switch line = strings.TrimSpace(line); {
		case line == "BEGIN":
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ready = true
			return nil
		case line == "AUTH":
			answer = "REJECTED EXTERNAL"
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			answer = "OK 0123456789abcdef0123456789abcdef"
		}
		if _, err := c.Write([]byte(answer + "\r\n")); err != nil {
			return err
		}
	}
}

func (c *conn) answer(m *dbus.Message) {
	call := Call{Body: m.Body}
	call.Interface, _ = m.Headers[dbus.FieldInterface].Value().(string)
	call.Member, _ = m.Headers[dbus.FieldMember].Value().(string)
	call.Path, _ = m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	r, after := c.s.handle(call)
	if !r.Silent && m.Flags&dbus.FlagNoReplyExpected == 0 {
		c.send(reply(m, r))
	}
	after()
}

func reply(to *dbus.Message, r Reply) *dbus.Message {
	m := &dbus.Message{Type: dbus.TypeMethodReply, Body: r.Body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}}
	if r.Error != "" {
		m.Type = dbus.TypeError
		m.Headers[dbus.FieldErrorName] = dbus.MakeVariant(r.Error)
	}
	return m
}

// send writes a message with the next serial number. Whoever has hung up misses it.
func (c *conn) send(m *dbus.Message) {
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		panic(err) // a test made it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ready {
		return
	}
	c.serial++
	binary.LittleEndian.PutUint32(b.Bytes()[8:], c.serial)
	_, _ = c.Write(b.Bytes())
}
