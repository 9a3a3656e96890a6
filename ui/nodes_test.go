package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/ui/api"
)

func TestNodesAreShown(t *testing.T) {
	m := newFakeMesh()
	s := newSite(t, m.with)
	task := s.working(t, "Fix login redirect")
	m.set(func(a *around) { a.Nodes[0].Leases[0].Task = task.ID })
	for path, wants := range map[string][]string{
		"/nodes": {"5 nodes · 1 silent · 3 of 11 slots used · leader core-1", "Fix login redirect", "by relay fra, 41 ms", "1,204 log entries behind", "upgrade to 0.4.0",
			"Upgrade lap-of-ana to 0.4.0", "There is no backup", "The disk is 96 % full", "Draining, 1 task left", "Drained", "Silent", "asks core nodes", "Invite a machine", `data-events="/events/nodes"`},
		"/nodes/core-1":     {"Term", "41", "1,200,000", "slot-1", "9120", "Fix login redirect", "28.5.2", "Debian 13", "a write to the log took 2.1 s", "direct, 0.4 ms", `data-events="/events/nodes/core-1"`},
		"/nodes/lap-of-ana": {"upgrade to 0.4.0", "No task has a lease here."},
		"/start":            {"5 nodes share this conversation", "/nodes#invite"},
	} {
		w := s.get(t, path)
		for _, want := range wants {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("GET %s = %d, lacks %q", path, w.Code, want)
			}
		}
	}
	if w := s.get(t, "/nodes/nope"); w.Code != 404 {
		t.Errorf("an unknown node = %d", w.Code)
	}
	m.asleep = true
	if body := s.get(t, "/nodes/core-2").Body.String(); !strings.Contains(body, "core-2 does not answer. This is what the mesh knew last.") || !strings.Contains(body, "silent for") {
		t.Error("a node that does not answer is not shown as the mesh knows it")
	}
	s.role = Member
	if body := s.get(t, "/nodes").Body.String(); strings.Contains(body, "/drain") || strings.Contains(body, "/invitations") || !strings.Contains(body, "Only owners drain") {
		t.Error("a member may change nodes")
	}
}

func TestANodeAloneSaysSo(t *testing.T) {
	s := newSite(t)
	if w := s.get(t, "/nodes"); w.Code != 200 || !strings.Contains(w.Body.String(), "This node works alone") {
		t.Errorf("nodes without a mesh = %d", w.Code)
	}
	for path, code := range map[string]int{"/nodes/x": 501, "/nodes/x/remove": 501, "/events/nodes/x": 501} {
		if w := s.get(t, path); w.Code != code {
			t.Errorf("GET %s = %d, want %d", path, w.Code, code)
		}
	}
	for _, path := range []string{"/nodes/x/drain", "/nodes/x/remove", "/invitations", "/invitations/x/withdraw", "/settings/people", "/settings/backup", "/settings/backup/now"} {
		if w := s.post(t, path, url.Values{}); w.Code != 501 {
			t.Errorf("POST %s = %d, want 501", path, w.Code)
		}
	}
}

func TestNodesAreChangedByOwnersWithoutScripts(t *testing.T) {
	m := newFakeMesh()
	s := newSite(t, m.with)
	for _, role := range []Role{Viewer, Member} {
		s.role = role
		for _, path := range []string{"/nodes/core-2/drain", "/nodes/core-2/remove", "/invitations", "/invitations/x/withdraw", "/settings/people", "/settings/backup", "/settings/backup/now"} {
			if w := s.post(t, path, url.Values{}); w.Code != 403 {
				t.Errorf("POST %s as %s = %d, want 403", path, role, w.Code)
			}
		}
		if w := s.get(t, "/nodes/core-2/remove"); w.Code != 403 {
			t.Errorf("the form to remove as %s = %d", role, w.Code)
		}
	}
	s.role = Owner
	s.post(t, "/nodes/core-2/drain", url.Values{"on": {"1"}})
	if body := s.get(t, "/nodes").Body.String(); strings.Count(body, "Undrain") != 3 {
		t.Error("the drain does not show at once")
	}
	s.post(t, "/nodes/core-2/drain", url.Values{})
	form := s.get(t, "/nodes/core-3/remove").Body.String()
	for _, want := range []string{"leaves the mesh for good", "1 task on it", "queued again", "Keep it"} {
		if !strings.Contains(form, want) {
			t.Errorf("the form to remove lacks %q", want)
		}
	}
	for range 2 {
		if w := s.post(t, "/nodes/core-3/remove", url.Values{}); w.Code != 303 || w.Header().Get("Location") != "/nodes" {
			t.Errorf("removing = %d %s", w.Code, w.Body)
		}
	}
	if w := s.post(t, "/nodes/core-1/remove", url.Values{}); w.Code != 409 || !strings.Contains(w.Body.String(), "the last core node that answers") {
		t.Errorf("a refused removal = %d", w.Code)
	}
	if w := s.get(t, "/nodes/core-3/remove"); w.Code != 404 {
		t.Errorf("the form of a node that is gone = %d", w.Code)
	}
	want := []string{"ana@example.com drain core-2 true", "ana@example.com drain core-2 false", "ana@example.com remove core-3", "ana@example.com remove core-3"}
	if !slices.Equal(m.did, want) {
		t.Errorf("done = %q, want %q", m.did, want)
	}
}

func TestEffectsOfARemovalAreSaid(t *testing.T) {
	core := func(name string, voter, online bool) api.Node {
		return api.Node{Name: name, Core: true, Voter: voter, Online: online}
	}
	three := []api.Node{core("a", true, true), core("b", true, true), core("c", true, true)}
	for name, c := range map[string]struct {
		nodes []api.Node
		want  string
	}{
		"one of three":   {three, "2 voters remain, and if one of them is lost the mesh is read-only"},
		"with a spare":   {append(slices.Clone(three), core("d", false, true)), "a spare core node takes its place"},
		"a silent spare": {append(slices.Clone(three), core("d", false, false)), "2 voters remain"},
		"one of five":    {append(slices.Clone(three), core("d", true, true), core("e", true, true)), "4 voters remain, of which 1 may be lost"},
		"the only one":   {three[:1], "removing it is refused"},
	} {
		if got := strings.Join(effects(c.nodes[0], around{Nodes: c.nodes}), " "); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
	if got := strings.Join(effects(api.Node{Name: "w"}, around{}), " "); strings.Contains(got, "voter") {
		t.Errorf("a worker: %s", got)
	}
}

func TestAnInvitationIsShownOnce(t *testing.T) {
	m := newFakeMesh()
	s := newSite(t, m.with)
	form := url.Values{"id": {idIn(t, s.get(t, "/nodes").Body.String(), "/invitations")}, "kind": {"core"}, "valid": {"24h0m0s"}}
	w := s.post(t, "/invitations", form)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "samnode join s3cret") || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("inviting = %d %v", w.Code, w.Header())
	}
	if w := s.post(t, "/invitations", form); w.Code != 409 || strings.Contains(w.Body.String(), "s3cret") || !strings.Contains(w.Body.String(), "shown before") {
		t.Errorf("the same form a second time = %d", w.Code)
	}
	body := s.get(t, "/nodes").Body.String()
	if strings.Contains(body, "s3cret") || !strings.Contains(body, "by ana") || !strings.Contains(body, "runs out in") {
		t.Error("the list shows a token, or not who invited")
	}
	for _, bad := range []string{"", "forever", "1s", "9000h"} {
		if w := s.post(t, "/invitations", url.Values{"valid": {bad}, "kind": {"core"}}); w.Code != 422 || !strings.Contains(w.Body.String(), `value="core" checked`) {
			t.Errorf("an invitation for %q = %d, or the choice is lost", bad, w.Code)
		}
	}
	id := slices.Collect(func(yield func(string) bool) {
		for id := range m.invited {
			yield(id)
		}
	})[0]
	if w := s.post(t, "/invitations/"+id+"/withdraw", url.Values{}); w.Code != 303 || len(m.invited) != 0 {
		t.Errorf("withdrawing = %d", w.Code)
	}
	if w := s.post(t, "/invitations/"+id+"/withdraw", url.Values{}); w.Code != 404 || !strings.Contains(w.Body.String(), "used or withdrawn before") {
		t.Errorf("withdrawing again = %d", w.Code)
	}
}

func TestPeopleAndBackupsAreSet(t *testing.T) {
	m := newFakeMesh()
	s := newSite(t, m.with)
	if body := s.get(t, "/settings").Body.String(); !strings.Contains(body, "There is no backup. If the disks") || !strings.Contains(body, "ben@example.com") || !strings.Contains(body, "Say first where to.") {
		t.Error("the settings lack people or backups")
	}
	if w := s.post(t, "/settings/people", url.Values{"person": {"ben@example.com"}, "role": {"viewer"}}); w.Code != 303 || m.roles["ben@example.com"] != "viewer" {
		t.Errorf("setting a role = %d", w.Code)
	}
	for role, want := range map[string]int{"king": 422, "viewer": 409} {
		if w := s.post(t, "/settings/people", url.Values{"person": {"ana@example.com"}, "role": {role}}); w.Code != want {
			t.Errorf("the last owner as %s = %d, want %d", role, w.Code, want)
		}
	}
	s.WhoIs = func(*http.Request) (chat.Person, Role, error) { return "cy@example.com", "", nil }
	if w := s.get(t, "/"); w.Code != 403 || !strings.Contains(w.Body.String(), "an owner has to give you a role first, under Settings, People: ask ana@example.com") {
		t.Errorf("a person without a role = %d %s", w.Code, w.Body)
	}
	s.WhoIs = func(*http.Request) (chat.Person, Role, error) { return "ana@example.com", s.role, nil }
	set := url.Values{"destination": {"/srv/backup"}, "schedule": {"sometimes"}, "recipient": {"age1x"}, "keep": {"7"}}
	if w := s.post(t, "/settings/backup", set); w.Code != 422 || !strings.Contains(w.Body.String(), `value="sometimes"`) || !strings.Contains(w.Body.String(), "write &#34;daily 03:00&#34;") {
		t.Errorf("a schedule that is none = %d, or what was typed is lost", w.Code)
	}
	set.Set("schedule", "every 6h")
	if w := s.post(t, "/settings/backup", set); w.Code != 303 || m.backup.Keep != 7 || m.backup.Recipient != "age1x" {
		t.Errorf("setting backups = %d, %+v", w.Code, m.backup)
	}
	set.Set("keep", "some")
	if w := s.post(t, "/settings/backup", set); w.Code != 422 {
		t.Errorf("keeping some = %d", w.Code)
	}
	if w := s.post(t, "/settings/backup/now", url.Values{}); w.Code != 303 {
		t.Errorf("backing up = %d", w.Code)
	}
	body := s.get(t, "/settings").Body.String()
	if !strings.Contains(body, "41 MB, everything up to index 1,204") || strings.Contains(body, "There is no backup") {
		t.Error("the last backup does not show")
	}
	m.backup.Failed = &api.BackupFailed{At: sampleNow, Text: "AccessDenied"}
	s.role = Member
	if body := s.get(t, "/settings").Body.String(); !strings.Contains(body, "failed: AccessDenied") || strings.Contains(body, `name="destination"`) || !strings.Contains(body, "To /srv/backup, every 6h. Only owners change this.") {
		t.Error("a member does not see how backups are, or may change them")
	}
}

func TestEveryPageSaysThatTheMeshCannotWrite(t *testing.T) {
	m := newFakeMesh()
	lost := errors.New("leadership lost at 10.0.0.7")
	s := newSite(t, m.with, func(c *Config) { c.Unavailable = func(err error) bool { return errors.Is(err, lost) } })
	task := s.working(t, "Fix it")
	if body := s.get(t, "/").Body.String(); strings.Contains(body, "read-only") {
		t.Error("a mesh that can write is called read-only")
	}
	m.set(func(a *around) { a.Mesh.Quorum, a.Mesh.BehindMS, a.Mesh.Lag = false, 12_000, 1204 })
	s.lookout.forget()
	for _, path := range []string{"/", "/nodes", "/settings", "/t/" + string(task.ID)} {
		body := s.get(t, path).Body.String()
		if !strings.Contains(body, "it is read-only until core-2 is back.") || !strings.Contains(body, "it has lacked 1,204 log entries for 12 s.") {
			t.Errorf("GET %s does not say that the mesh cannot write, or that the node lags", path)
		}
	}
	for _, err := range []error{lost, fmt.Errorf("proposing: %w", api.ErrNoMajority)} {
		s.kit.Log.Fail = func() error { return err }
		w := s.post(t, "/t/"+string(task.ID)+"/say", url.Values{"text": {"a long thought"}})
		if body := w.Body.String(); w.Code != 503 || !strings.Contains(body, "read-only until core-2 is back") || !strings.Contains(body, "a long thought") || strings.Contains(body, "10.0.0.7") {
			t.Errorf("%v: %d, or the text is gone, or internals show", err, w.Code)
		}
		if w := s.post(t, "/t/"+string(task.ID)+"/say", url.Values{"text": {"x"}}, "X-Samnode", "1"); w.Code != 503 || !strings.Contains(w.Body.String(), "read-only") {
			t.Errorf("the script got %d %s", w.Code, w.Body)
		}
	}
}

func TestThePolicyNamesTheOtherNodes(t *testing.T) {
	m := newFakeMesh()
	m.set(func(a *around) {
		a.Nodes[4].URL = "http://evil; script-src *"
		a.Nodes[2].URL = "http://core-3.example.ts.net:80/"
	})
	s := newSite(t, m.with)
	task := s.working(t, "Fix it")
	const want = "connect-src 'self' http://core-3.example.ts.net http://lap-of-ana http://core-2.example.ts.net" // the silent one may come back
	m.set(func(a *around) { a.Nodes[3].URL = "http://lap-of-ana" })
	for _, path := range []string{"/", "/nodes", "/t/" + string(task.ID), "/t/" + string(task.ID) + "/terminal"} {
		w := s.get(t, path)
		if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, want+";") || strings.Contains(got, "script-src *") {
			t.Errorf("GET %s: policy = %s", path, got)
		}
		if body := w.Body.String(); !strings.Contains(body, `data-others="http://core-3.example.ts.net http://lap-of-ana"`) || !strings.Contains(body, `data-self="http://core-1.example.ts.net"`) {
			t.Errorf("GET %s does not say where to go on", path)
		}
	}
	if w := s.get(t, "/static/app.js"); strings.Contains(w.Header().Get("Content-Security-Policy"), "core-3") {
		t.Error("everybody is told of the nodes")
	}
	s.role = ""
	if w := s.get(t, "/"); strings.Contains(w.Header().Get("Content-Security-Policy")+w.Body.String(), "core-3") {
		t.Error("a stranger is told of the nodes")
	}
	if m.asked > 1 {
		t.Errorf("the mesh was asked %d times for one second's pages", m.asked)
	}
}

func TestOnlyAPageOfTheMeshIsMoved(t *testing.T) {
	s := newSite(t, newFakeMesh().with)
	for from, moved := range map[string]string{
		"http://core-2.example.ts.net/": "core-2", "": "", "https://evil.example/": "", "http://core-2.example.ts.net:3000/": "", "http://core-1.example.ts.net/t/x": "",
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://core-1.example.ts.net/", nil)
		r.Header.Set("Referer", from)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if want := `data-moved="` + moved + `"`; !strings.Contains(w.Body.String(), want) {
			t.Errorf("a page from %q: want %s", from, want)
		}
	}
}

// behind delays what the node's log gets.
func TestAPageWaitsForWhatItsReaderHasSeen(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	w := s.post(t, "/t/"+string(task.ID)+"/edit", url.Values{"id": {newID()}, "title": {"A new title"}})
	cookie := w.Header().Get("Set-Cookie")
	if want := fmt.Sprintf("samnode-at=%d;", s.kit.Index()); !strings.HasPrefix(cookie, want) || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") {
		t.Fatalf("cookie = %q, want %q", cookie, want)
	}
	ahead := s.kit.Index() + 1
	for name, prepare := range map[string]func() string{
		"by the cookie":  func() string { return "/" },
		"by the address": func() string { return fmt.Sprintf("/?after=%d", ahead) },
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", prepare(), nil)
		if name == "by the cookie" {
			r.Header.Set("Cookie", fmt.Sprintf("samnode-at=%d", ahead))
		}
		title := "Later, " + name
		timer := time.AfterFunc(50*time.Millisecond, func() {
			if _, err := s.kit.Do(t.Context(), chattest.Ana, "", chat.Op{TaskEdit: &chat.TaskEdit{Task: task.ID, Title: &title}}); err != nil {
				t.Error(err)
			}
		})
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		timer.Stop()
		if !strings.Contains(w.Body.String(), title) {
			t.Errorf("%s: the page did not wait", name)
		}
		ahead++
	}
	began := time.Now()
	if w := s.get(t, "/?after=yesterday"); w.Code != 200 || time.Since(began) > time.Second {
		t.Errorf("a cursor that is none: %d after %s", w.Code, time.Since(began))
	}
}

func TestATaskThatIsOnItsWayHereIsWaitedFor(t *testing.T) {
	s := newSite(t)
	s.kit.Project(t, "web")
	id := chat.NewID()
	timer := time.AfterFunc(50*time.Millisecond, func() {
		op := chat.Op{TaskCreate: &chat.TaskCreate{ID: chat.TaskID(id), Project: "web", Message: chat.NewID(), Text: "Fix it"}}
		if _, err := s.kit.Do(t.Context(), chattest.Ana, "", op); err != nil {
			t.Error(err)
		}
	})
	defer timer.Stop()
	if w := s.get(t, "/t/"+id); w.Code != 200 {
		t.Errorf("a task that came while its page was asked for = %d", w.Code)
	}
}

func TestNodesStream(t *testing.T) {
	t.Parallel()
	m := newFakeMesh()
	s := newSite(t, m.with)
	server := listen(t, s)
	f := openFeed(t, server, "/events/nodes", "")
	f.until(`id="nodes"`)
	m.set(func(a *around) { a.Nodes[1].Online = true })
	if e := f.until(`id="node-core-2"`); strings.Contains(e.Data, `id="node-core-3"`) || !strings.Contains(e.Data, "Online") {
		t.Errorf("a node came back: %s", e.Data)
	}
	one := openFeed(t, server, "/events/nodes/core-1", "")
	one.until(`id="node"`)
	m.set(func(a *around) { a.Nodes[0].Draining = true })
	one.until("Undrain")
	m.set(func(a *around) { a.Nodes = a.Nodes[:4] })
	f.until(`id="nodes"`)
}

func TestAStreamTellsWhereToGoOn(t *testing.T) {
	m := newFakeMesh()
	s := newSite(t, m.with)
	s.beatEvery = 100 * time.Millisecond
	task := s.working(t, "Fix it")
	server := listen(t, s)
	f := openFeed(t, server, fmt.Sprintf("/t/%s/events?after=%d", task.ID, task.Index), "")
	var hint struct {
		Node, Self string
		Others     []string
	}
	next := func() {
		for {
			if e := f.next(); e.Name == "nodes" {
				if err := json.Unmarshal([]byte(e.Data), &hint); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	s.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "one"})
	if next(); hint.Node != "core-1" || hint.Self != "http://core-1.example.ts.net" || len(hint.Others) != 0 {
		t.Errorf("hint = %+v", hint)
	}
	m.set(func(a *around) { a.Nodes[1].Online, a.Mesh.Quorum = true, false })
	if next(); !slices.Equal(hint.Others, []string{"http://core-2.example.ts.net"}) {
		t.Errorf("after core-2 came back: %+v", hint)
	}
	if e := f.until(`id="mesh"`); !strings.Contains(e.Data, "read-only") || e.ID != "" {
		t.Errorf("the lost majority = %+v, want a patch that leaves the cursor", e)
	}
}
