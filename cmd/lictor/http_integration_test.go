//go:build integration

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"

	"github.com/scidex/lictor/cmd/lictor/client"
	"github.com/scidex/lictor/events"
)

const httpAddress = "http://127.0.0.1:7717"

// overTCP: the daemon answers on TCP as it is shipped, though it has no network: programs with a token, browsers that were logged in,
// and nobody else. What alice may do there is what she may do on the socket.
func (b *bed) overTCP() {
	// What the daemon has systemd start is its own program, by its own name.
	const program = "/usr/bin/" + realName
	must(os.Link("/usr/bin/lictor", program))
	defer os.Remove(program)
	const dropIn = "/run/systemd/system/lictor.service.d/zz-program.conf" // after that of the test, which stays
	must(os.WriteFile(dropIn, []byte("[Service]\nExecStart=\nExecStart="+program+" --system watch\nExecPaths="+program+"\n"), 0o644))
	defer func() {
		must(os.Remove(dropIn))
		b.systemctl("daemon-reload")
		b.systemctl("restart", "lictor.service")
	}()
	b.systemctl("daemon-reload")
	b.systemctl("stop", "lictor.service")
	b.systemctl("start", "lictor-http.socket")
	b.serve()
	if got := b.property("PrivateNetwork"); got != "yes" {
		b.Errorf("PrivateNetwork=%s", got)
	}
	alice := newUserBed(b.T, ModeSystem, "alice")
	alice.host = client.Path
	say := func(args ...string) string {
		b.Helper()
		r := alice.lictor(args...)
		if r.code != 0 {
			b.Fatalf("%v: %+v", args, r)
		}
		return strings.TrimSpace(r.stdout)
	}
	token := say("token", "create", "--name", "test")
	c, err := client.New(httpAddress, token)
	must(err)

	run, err := c.Launch(b.Context(), &client.Launch{Command: []string{"sh", "-c", "sleep 2; exec tail /dev/zero"}, AnalysisID: "over-tcp",
		Limits: map[string]client.Amount{"memory_max": "24M"}})
	must(err)
	if live, err := c.Live(b.Context()); err != nil || len(live) != 1 || live[0].Run != run.Run {
		b.Errorf("alive: %+v, %v", live, err)
	}
	ended, err := c.Wait(b.Context(), run.Run)
	must(err)
	if ended.Reason != events.ReasonOOM || int(ended.UID) != alice.uid() {
		b.Errorf("ended: %+v", ended)
	}
	for _, cmd := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"ps", "-a"}, 0, "over-tcp"},
		{[]string{"why", "over-tcp"}, 0, "it reached its own memory limit"},
		{[]string{"status"}, 0, "1 kill in 24h"},
		{[]string{"wait", "over-tcp"}, 137, ""},
		{[]string{"run", "-d", "--analysis-id", "again", "--", "sh", "-c", "exit 3"}, 0, ""},
		{[]string{"wait", "again"}, 3, ""},
		{[]string{"run", "--", "true"}, exitRefused, "only detached"},
		{[]string{"doctor"}, exitUsage, "not possible over --host URL"},
	} {
		p := alice.prepare(append([]string{"--host", httpAddress}, cmd.args...)...)
		p.Env = append(p.Env, "LICTOR_TOKEN="+token)
		must(p.Start())
		if r := alice.finishCommand(p); r.code != cmd.code || !strings.Contains(r.stdout+r.stderr, cmd.want) {
			b.Errorf("%v: %+v, want %d and %q", cmd.args, r, cmd.code, cmd.want)
		}
	}

	jar, err := cookiejar.New(nil)
	must(err)
	browser := &http.Client{Jar: jar}
	get := func(hc *http.Client, host, path string) (int, string) {
		b.Helper()
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
		must(err)
		req.Host = host
		req.Header.Set("Accept", "text/html")
		answer, err := hc.Do(req)
		must(err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		must(err)
		return answer.StatusCode, string(body)
	}
	if status, body := get(browser, "", say("dashboard")); status != 200 || !strings.Contains(body, "Kills in 24 h") {
		b.Errorf("the dashboard: %d %s", status, body)
	}
	page := httpAddress + "/runs/" + string(run.Run)
	if status, body := get(browser, "", page); status != 200 || !strings.Contains(body, "it reached its own memory limit") || !strings.Contains(body, `<path class="line"`) {
		b.Errorf("its page, with what its black box has: %d %s", status, body)
	}
	if status, _ := get(http.DefaultClient, "", page); status != http.StatusUnauthorized {
		b.Errorf("X19: %d", status)
	}
	if status, _ := get(browser, "evil.example", page); status != http.StatusForbidden {
		b.Errorf("X17: %d", status)
	}
	bob := newUserBed(b.T, ModeSystem, "bob")
	bob.host = client.Path
	his := &http.Client{}
	his.Jar, err = cookiejar.New(nil)
	must(err)
	link := bob.lictor("dashboard")
	if status, body := get(his, "", strings.TrimSpace(link.stdout)); status != 200 || strings.Contains(body, "over-tcp") {
		b.Errorf("bob sees %d %s", status, body)
	}
	if status, _ := get(his, "", page); status != http.StatusNotFound {
		b.Errorf("X4: bob sees her run: %d", status)
	}
	if list := say("token", "list", "--no-legend"); strings.Count(list, "\n") != 1 || !strings.Contains(list, "session") {
		b.Errorf("her tokens: %s", list)
	}
	say("token", "revoke", strings.Split(token, "_")[1])
	if _, err := c.Tokens(b.Context()); err == nil {
		b.Error("a revoked token is good")
	}
	b.systemctl("stop", "lictor.service", "lictor-http.socket")
	b.serve()
	if r := alice.lictor("dashboard"); r.code == 0 || !strings.Contains(r.stderr, "does not listen on TCP") || !strings.Contains(r.stderr, "lictor-http.socket") {
		b.Errorf("without TCP: %s", fmt.Sprintf("%+v", r))
	}
}
