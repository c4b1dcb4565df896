package main

import (
	"io"
	"net"
	"strings"
	"testing"
)

func TestMarkWriter(t *testing.T) {
	for name, test := range map[string]struct {
		input, want string
	}{
		"after a line":      {"one\ntwo\n" + exitMark + "7\n", "one\ntwo\n"},
		"after half a line": {"one\ntwo" + exitMark + "7\n", "one\ntwo\n"},
		"alone":             {exitMark + "7\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			w := &markWriter{out: &out, seen: make(chan int, 1)}
			for _, b := range []byte(test.input) {
				if _, err := w.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			if got := out.String(); got != test.want {
				t.Errorf("output %q, want %q", got, test.want)
			}
			if got := <-w.seen; got != 7 {
				t.Errorf("exit status %d, want 7", got)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	if got, want := quote("it's", "$x", ""), `'it'\''s' '$x' ''`; got != want {
		t.Errorf("quote: %s, want %s", got, want)
	}
}

func TestServeOnceServesOnlyWhoKnowsTheWord(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { served <- serveOnce(l, "sesame", strings.NewReader("data")) }()
	for _, test := range []struct{ word, want string }{{"simsim", ""}, {"sesame", "data"}} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, test.word+"\n"); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != test.want {
			t.Errorf("who says %q got %q, %v, want %q", test.word, got, err, test.want)
		}
		conn.Close()
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
