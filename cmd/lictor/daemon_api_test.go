package main

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scidex/lictor/cmd/lictor/internal/api"
)

// What is wrong with the dashboard keeps the daemon from nothing else: it says so, and closes the address.
func TestServeTCPDoesWithout(t *testing.T) {
	for _, c := range []struct{ name, address, tokens, want string }{
		{"a file of tokens that is none", "127.0.0.1:0", "{", "tokens.json"},
		{"an address that is everybody's", "0.0.0.0:0", "[]", "loopback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			app, dir, log := testApp(nil), t.TempDir(), &bytes.Buffer{}
			app.Getenv = func(key string) string { return map[string]string{"LICTOR_STATE_DIR": dir}[key] }
			if err := os.WriteFile(filepath.Join(dir, "tokens.json"), []byte(c.tokens), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", c.address)
			if err != nil {
				t.Fatal(err)
			}
			d := &daemon{app: app, log: slog.New(slog.NewTextHandler(log, nil))}
			server := api.NewServer(unmeasured{&backend{daemon: d}}, nil, d.log)
			defer server.Close()
			d.serveTCP(server, []net.Listener{l}, func(_ net.Addr, serve func() error) {
				if err := serve(); err != nil {
					d.log.Error("served", "error", err)
				}
			})
			if !strings.Contains(log.String(), c.want) {
				t.Errorf("it said %q, want something of %s", log, c.want)
			}
			if _, err := l.Accept(); err == nil {
				t.Error("it still listens")
			}
		})
	}
}
