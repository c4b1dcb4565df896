package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events/eventstest"
)

// startTCP serves a fake backend on TCP, and returns its address and a token of this user's.
func startTCP(t *testing.T) (f *fake, tokens *Tokens, address, secret string) {
	t.Helper()
	tokens, err := OpenTokens(filepath.Join(t.TempDir(), "tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f = &fake{store: &eventstest.Memory{}}
	s := NewServer(f, nil, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.ServeTCP(l, tokens) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	secret, _, err = tokens.Issue(uint32(os.Getuid()), client.TokenProgram, "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return f, tokens, l.Addr().String(), secret
}

// request sends one, with headers given as pairs, and returns the status and the body.
func request(t *testing.T, hc *http.Client, method, target string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	answer, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode >= 400 {
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Status != answer.StatusCode || p.Detail == "" {
			t.Errorf("%s %s: %d is no problem document: %s", method, target, answer.StatusCode, body)
		}
	}
	return answer.StatusCode, string(body)
}

// X17 another name in Host (DNS rebinding), X18 a request of another site's page, X19 no token.
func TestX17toX19(t *testing.T) {
	_, tokens, address, secret := startTCP(t)
	port := address[strings.LastIndex(address, ":"):]
	bearer := []string{"Authorization", "Bearer " + secret}
	expired, _, err := tokens.Issue(uint32(os.Getuid()), client.TokenProgram, "", time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	session, _, err := tokens.Issue(uint32(os.Getuid()), client.TokenSession, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := tokens.Issue(nobody-7, client.TokenProgram, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path string
		headers            []string
		want               int
	}{
		{"a token", "GET", "/api/v1/runs", bearer, 200},
		{"localhost", "GET", "/api/v1/runs", append([]string{"Host", "localhost" + port}, bearer...), 200},
		{"IPv6", "GET", "/api/v1/runs", append([]string{"Host", "[::1]:8080"}, bearer...), 200},
		{"a tunnel's port", "GET", "/api/v1/runs", append([]string{"Host", "127.0.0.1:1"}, bearer...), 200},
		{"X17: another name", "GET", "/api/v1/runs", append([]string{"Host", "evil.example" + port}, bearer...), 403},
		{"X17: a name that begins like this machine's", "GET", "/healthz", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"X17: the address of another machine", "GET", "/healthz", []string{"Host", "10.0.0.1"}, 403},
		{"X18: another origin", "POST", "/api/v1/runs", append([]string{"Origin", "http://evil.example"}, bearer...), 403},
		{"X18: another site, says the browser", "POST", "/api/v1/runs", []string{"Sec-Fetch-Site", "cross-site", "Cookie", sessionCookie + "=" + session}, 403},
		{"X18: another port of this machine", "POST", "/api/v1/runs", append([]string{"Origin", "http://127.0.0.1:1"}, bearer...), 403},
		{"X18: the own origin", "POST", "/api/v1/runs", append([]string{"Origin", "http://" + address}, bearer...), 400}, // no command
		{"X19: nothing", "GET", "/api/v1/runs", nil, 401},
		{"X19: the old watchdog's section", "GET", "/api/quests/status", nil, 401},
		{"X19: metrics, which nobody serves here", "GET", "/metrics", nil, 401},
		{"X19: an empty token", "GET", "/api/v1/runs", []string{"Authorization", "Bearer "}, 401},
		{"X19: a wrong secret", "GET", "/api/v1/runs", []string{"Authorization", "Bearer " + secret[:len(secret)-1] + "x"}, 401},
		{"X19: another scheme", "GET", "/api/v1/runs", []string{"Authorization", "Basic " + secret}, 401},
		{"X19: too old", "GET", "/api/v1/runs", []string{"Authorization", "Bearer " + expired}, 401},
		{"X19: of an account that is no more", "GET", "/api/v1/runs", []string{"Authorization", "Bearer " + stranger}, 401},
		{"X19: a log-in is no program's token", "GET", "/api/v1/runs", []string{"Authorization", "Bearer " + session}, 401},
		{"X19: a program's token is no log-in", "GET", "/api/v1/runs", []string{"Cookie", sessionCookie + "=" + secret}, 401},
		{"a log-in", "GET", "/api/v1/runs", []string{"Cookie", sessionCookie + "=" + session}, 200},
		{"whether it is there may be asked by all", "GET", "/healthz", nil, 200},
		{"launchers hand over on the socket", "POST", "/api/v1/keep", append([]string{"Upgrade", upgrade}, bearer...), 403},
		{"a link that was never given", "GET", "/login?code=x", nil, 403},
	} {
		if got, body := request(t, http.DefaultClient, c.method, "http://"+address+c.path, c.headers...); got != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, got, c.want, body)
		}
	}
}

// The client calls by URL, with a token that can be revoked.
func TestTokens(t *testing.T) {
	f, tokens, address, secret := startTCP(t)
	begin(t, f, "aaaaaaaaaaaa", uint32(os.Getuid()))
	c, err := client.New("http://"+address, secret)
	if err != nil {
		t.Fatal(err)
	}
	if run, err := c.Store().Run(t.Context(), "aaaaaaaaaaaa"); err != nil || run.UID != uint32(os.Getuid()) {
		t.Errorf("%+v, %v", run, err)
	}
	made, err := c.CreateToken(t.Context(), "another", time.Hour)
	if err != nil || made.Name != "another" || !strings.HasPrefix(made.Secret, "lictor_"+made.ID+"_") {
		t.Fatalf("%+v, %v", made, err)
	}
	if text, err := os.ReadFile(tokens.path); err != nil || strings.Contains(string(text), made.Secret) || !strings.Contains(string(text), made.ID) {
		t.Errorf("the file: %s, %v", text, err)
	}
	if fi, err := os.Stat(tokens.path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", fi.Mode(), err)
	}
	if list, err := c.Tokens(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	again, err := OpenTokens(tokens.path)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := again.Check(made.Secret); !ok || k.ID != made.ID {
		t.Errorf("after a restart: %+v, %v", k, ok)
	}
	if err := c.RevokeToken(t.Context(), made.ID); err != nil {
		t.Error(err)
	}
	other, err := client.New("http://"+address, made.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Tokens(t.Context()); err == nil || !strings.Contains(err.Error(), "who calls?") {
		t.Errorf("revoked: %v", err)
	}
	if err := c.RevokeToken(t.Context(), made.ID); err == nil {
		t.Error("revoked twice")
	}
	if _, err := c.CreateToken(t.Context(), "", 500*24*time.Hour); err == nil {
		t.Error("a token for 500 days")
	}
	others := uint32(12345)
	if err := tokens.Revoke(strings.Split(secret, "_")[1], &others); err == nil {
		t.Error("somebody else has revoked it")
	}
}

// A log-in link is good once, for its owner, and not for long. The oldest log-in gives way, a program's token does not.
func TestLogin(t *testing.T) {
	_, tokens, address, secret := startTCP(t)
	c, err := client.New("http://"+address, secret)
	if err != nil {
		t.Fatal(err)
	}
	login, err := c.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if status, _ := request(t, browser, "GET", login.URL); status != http.StatusSeeOther {
		t.Errorf("the link: %d", status)
	}
	if status, _ := request(t, browser, "GET", "http://"+address+"/api/v1/runs"); status != 200 {
		t.Errorf("logged in: %d", status)
	}
	u, err := url.Parse(login.URL)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := request(t, http.DefaultClient, "GET", u.String()); status != http.StatusForbidden {
		t.Errorf("the link again: %d", status)
	}
	if status, _ := request(t, browser, "POST", "http://"+address+"/logout"); status != http.StatusSeeOther {
		t.Errorf("logged out: %d", status)
	}
	if status, _ := request(t, browser, "GET", "http://"+address+"/api/v1/runs"); status != http.StatusUnauthorized {
		t.Errorf("after that: %d", status)
	}
	late := tokens.Invite(1)
	tokens.now = func() time.Time { return time.Now().Add(codeTime + time.Second) }
	if _, _, err := tokens.Redeem(late); err == nil {
		t.Error("a link that was too old")
	}
	tokens.now = time.Now
	for range maxTokens + 5 {
		if _, _, err := tokens.Redeem(tokens.Invite(5)); err != nil {
			t.Fatal(err)
		}
	}
	five := uint32(5)
	if n := len(tokens.List(&five)); n != maxTokens {
		t.Errorf("%d log-ins, want %d", n, maxTokens)
	}
	for i := range maxTokens + 1 {
		if _, _, err := tokens.Issue(6, client.TokenProgram, "", time.Hour); (err == nil) != (i < maxTokens) {
			t.Errorf("token %d: %v", i, err)
		}
	}
}

// Nobody is talked to from elsewhere, and nobody sends a token in the clear to elsewhere.
func TestLoopbackOnly(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := NewServer(&fake{}, nil, slog.New(slog.DiscardHandler)).ServeTCP(l, nil); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("every address: %v", err)
	}
	for host, ok := range map[string]bool{"": true, "/run/x.sock": true, "unix:/run/x.sock": true, "http://127.0.0.1:7717": true, "http://[::1]:7717/": true,
		"http://localhost": true, "https://box.example": true, "http://box.example:7717": false, "http://": false, "https://box/prefix": false, "box": false} {
		if _, err := client.New(host, "t"); (err == nil) != ok {
			t.Errorf("host %q: %v", host, err)
		}
	}
}
