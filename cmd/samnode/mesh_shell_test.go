package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/ui/api"
)

// TestTailnetSharedShell: two people are in one shell, one in the page of a
// node, one by ssh at another, and a third watches. The node of the page dies:
// the page goes on elsewhere, ssh notices nothing. Who was there is in the log,
// and what they saw in a recording.
func TestTailnetSharedShell(t *testing.T) {
	needDocker(t)
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := newTailnetMesh(t, control, "--slots", "1")
	ana, ben, vic := meshtest.Person(t, control, "ana-laptop"), meshtest.Person(t, control, "ben-desk"), meshtest.Person(t, control, "vic-phone")
	runs, paged, door := m.nodes[2], m.nodes[0], m.nodes[1]
	for d, role := range map[*meshtest.Device]string{ana: "member", ben: "member", vic: "viewer"} {
		must[map[string]string](door, "people", "role", d.Login, role)
	}
	for _, n := range []*testNode{paged, door} {
		must[map[string]string](n, "node", "drain", filepath.Base(n.state))
	}
	must[chat.Project](door, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything", "--record")
	v := must[taskView](door, "task", "run", "--project", "app", "--wait", sh("echo hello > hello.txt"))
	if string(v.Lease.Node) != filepath.Base(runs.state) {
		t.Fatalf("the task runs on %s", v.Lease.Node)
	}

	paged.proxy = proxyFor(t, ana)
	p := newTab(t, paged)
	p.expect(`ERR_|Failed to load|EventSource|WebSocket|net::`)
	p.do(chromedp.Navigate(paged.page + "/t/" + string(v.ID) + "/terminal"))
	p.needTerminal()
	p.wait(terminalText + `.includes("$")`)
	p.enter("PS1='> '; echo from-a''na")
	p.wait(terminalText + `.includes("from-ana")`)

	bens := sshBy(t, ben, door, "-o", "SetEnv=SAMNODE_SHELL=t1").shell(string(v.ID) + "@" + filepath.Base(door.state))
	bens.shows(" (page) is here too]\r\n[samnode: this shell is recorded]\r\n")
	bens.shows("from-ana")
	bens.say("echo from-b''en")
	p.wait(terminalText + `.includes("from-ben")`)
	p.wait(chips(`"ssh"`) + `&& document.querySelector("#term-people .rec")`)

	vics := watchBy(t, vic, paged, v.ID)
	vics.shows("from-ben")
	vics.send(t, websocket.MessageBinary, "echo evil\n")
	vics.send(t, websocket.MessageText, `{"rows":5,"cols":5}`)
	p.wait(chips(`"watches"`))
	p.shots("shared-terminal")
	checkShells(t, runs, v.ID, ana, ben, vic)

	m.await("the log to know of who watches", func() bool { // a kill loses what began in the last second
		return strings.Contains(fmt.Sprint(must[[]api.Visit](door, "task", "visits", string(v.ID))), vic.Login)
	})
	paged.kill()
	bens.say("echo on-an''d-on")
	bens.shows("on-and-on")
	p.wait(fmt.Sprintf(`location.host !== %q && location.pathname.endsWith("/terminal")`, strings.TrimPrefix(paged.page, "http://")))
	p.wait(terminalText + `.includes("on-and-on") && ` + terminalText + `.split("from-ana").length <= 3`)
	p.wait(chips(`"ssh"`))
	p.click("#term")
	p.enter("echo back-a''na")
	bens.shows("back-ana")
	if out := bens.out.String(); strings.Contains(out, "evil") {
		t.Errorf("who watches typed: %q", out)
	}
	bens.say("exit")
	p.wait(`document.querySelector("#term-note").textContent.includes("has ended")`)
	if _ = bens.cmd.Wait(); bens.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("ssh = %d", bens.cmd.ProcessState.ExitCode())
	}
	checkCast(t, door, v.ID, bens.out.String())
	p.do(chromedp.Navigate(script[string](p, "location.origin") + "/t/" + string(v.ID) + "/access"))
	p.shots("shared-access")
	checkVisits(t, m, door, paged, v.ID, ana, ben, vic)
}

// chips waits for a chip of the people in a shell that says so.
func chips(text string) string {
	return `[...document.querySelectorAll("#term-people .chip")].some((el) => el.textContent.includes(` + text + `))`
}

// shots takes pictures in both themes, and as a phone shows it.
func (p *tab) shots(name string) {
	p.t.Helper()
	p.shot("light-" + name)
	p.theme("dark")
	p.shot("dark-" + name)
	p.theme("light")
	p.phone(390, 844)
	p.shot("phone-" + name)
	p.size(1440, 900)
}

// watcher is a WebSocket that is no page's.
type watcher struct {
	*websocket.Conn
	out *lockedBuffer
	t   *testing.T
}

func watchBy(t *testing.T, d *meshtest.Device, n *testNode, task chat.TaskID) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url := n.page + "/t/" + string(task) + "/terminals/t1/ws?rows=5&cols=20"
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: d.Client, HTTPHeader: http.Header{"Origin": {n.page}}})
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{Conn: conn, out: &lockedBuffer{}, t: t}
	t.Cleanup(func() { _ = conn.CloseNow() }) // its node was killed
	conn.SetReadLimit(1 << 20)
	go func() {
		for {
			_, b, err := conn.Read(t.Context())
			if err != nil {
				return
			}
			_, _ = w.out.Write(b)
		}
	}()
	return w
}

func (w *watcher) shows(text string) {
	w.t.Helper()
	m := &testMesh{t: w.t}
	m.await("a watcher to see "+text, func() bool { return strings.Contains(w.out.String(), text) })
}

func (w *watcher) send(t *testing.T, kind websocket.MessageType, text string) {
	t.Helper()
	if err := w.Write(t.Context(), kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// checkShells asks who is in the shell.
func checkShells(t *testing.T, n *testNode, task chat.TaskID, ana, ben, vic *meshtest.Device) {
	t.Helper()
	list := must[[]api.Shell](n, "task", "shells", string(task))
	if len(list) != 1 || list[0].ID != "t1" || list[0].Maker != ana.Login || !list[0].Recorded || list[0].Rows < 10 || len(list[0].People) != 3 {
		t.Fatalf("shells %+v", list)
	}
	for i, want := range []api.Present{{Person: ana.Login, By: "page"}, {Person: ben.Login, By: "ssh"}, {Person: vic.Login, By: "page", Watches: true}} {
		if got := list[0].People[i]; got.Person != want.Person || got.By != want.By || got.Watches != want.Watches || got.Device == "" {
			t.Errorf("somebody in the shell is %+v, want %+v", got, want)
		}
	}
	if !list[0].People[1].Leads {
		t.Errorf("who typed last does not lead: %+v", list[0].People)
	}
}

// checkCast replays the recording: it shows what ssh did.
func checkCast(t *testing.T, n *testNode, task chat.TaskID, seen string) {
	t.Helper()
	list := must[[]api.Recording](n, "task", "recording", string(task))
	if len(list) != 1 || !strings.HasPrefix(list[0].Name, "t1-") {
		t.Fatalf("recordings %+v", list)
	}
	cast, errs, code := n.cli("task", "recording", string(task), list[0].Name)
	if code != exitDone {
		t.Fatalf("the recording: %d, %s", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(cast), "\n")
	var head struct{ Version, Width, Height int }
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil || head.Version != 2 || head.Width < 20 || head.Height < 10 {
		t.Errorf("the recording begins %q, %v", lines[0], err)
	}
	var text strings.Builder
	for _, l := range lines[1:] {
		var e []any
		if err := json.Unmarshal([]byte(l), &e); err != nil || len(e) != 3 {
			t.Fatalf("the recording has %q, %v", l, err)
		}
		if e[1] == "o" {
			text.WriteString(e[2].(string))
		}
	}
	for _, want := range []string{"from-ana", "from-ben", "on-and-on", "back-ana"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the recording lacks %q", want)
		}
	}
	if !strings.Contains(seen, text.String()) {
		t.Errorf("the recording shows\n%q\nand ssh\n%q", text.String(), seen)
	}
}

// checkVisits: all who were there are in the log, and the node that was killed
// ends what it had begun when it is back.
func checkVisits(t *testing.T, m *testMesh, door, paged *testNode, task chat.TaskID, ana, ben, vic *meshtest.Device) {
	t.Helper()
	killed := chat.Node(filepath.Base(paged.state))
	var list []api.Visit
	has := func(d *meshtest.Device, by chat.VisitBy, what string, state ...string) bool {
		for _, v := range list {
			if string(v.Person) == d.Login && v.By == by && v.What == what && strings.Contains(strings.Join(state, " "), v.State) && v.Device != "" {
				return true
			}
		}
		return false
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("visits at last: %+v", list)
		}
	})
	m.await("the visits", func() bool {
		list = must[[]api.Visit](door, "task", "visits", string(task))
		return has(ana, chat.VisitPage, "t1", "over") && has(ana, chat.VisitPage, "t1", "unknown live") &&
			has(ben, chat.VisitShell, "t1", "over") && has(vic, chat.VisitPage, "t1, watching", "unknown live")
	})
	paged.start()
	m.await("the killed node to end its visits", func() bool {
		list = must[[]api.Visit](door, "task", "visits", string(task))
		for _, v := range list {
			if v.Node == killed && v.State != "lost" {
				return false
			}
		}
		return true
	})
	if out, _, _ := door.cli("task", "export", string(task)); !strings.Contains(out, ben.Login+" from ") {
		t.Errorf("the export does not say who was there: %s", out)
	}
	said := fmt.Sprint(door.items(task))
	if !strings.Contains(said, ben.Login+" is in the workspace, from ") && !strings.Contains(said, ben.Login+" was in the workspace for ") {
		t.Errorf("the chat does not say who was there: %s", said)
	}
}
