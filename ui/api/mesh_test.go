package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// threeNodes is a mesh that remembers what it was told to do.
type threeNodes struct {
	nodes  []Node
	quorum bool
	invite map[string]Invitation
	people map[chat.Person]string
	backup Backup
	values map[string]string
	did    []string
}

func newThreeNodes() *threeNodes {
	at := time.Date(2026, 11, 20, 14, 2, 0, 0, time.UTC)
	return &threeNodes{
		quorum: true,
		nodes: []Node{
			{Name: "core-1", URL: "http://core-1.ts.net", Self: true, Core: true, Voter: true, Leader: true, Online: true, Since: at, Version: "0.4.0", Slots: 2, Used: 1, Leases: []Lease{{Task: "T1", Slot: "slot-1", Token: 7, Since: at}}, Load: &Load{CPUs: 4, Load: 0.5, Memory: 1, MemoryMax: 2}},
			{Name: "core-2", URL: "http://core-2.ts.net:80/", Core: true, Voter: true, Version: "0.4.0", Since: at},
			{Name: "lap-3", URL: "http://lap-3.ts.net", Online: true, Version: "0.3.9", Path: &Path{Relay: "fra", LatencyMS: 41}, Warnings: []string{"The disk is 95 % full."}},
		},
		invite: map[string]Invitation{}, values: map[string]string{},
		people: map[chat.Person]string{"ana@example.com": "owner", "ben@example.com": "member"},
		backup: Backup{BackupSettings: BackupSettings{Destination: "/srv/backup", Schedule: "daily 03:00"}},
	}
}

func (m *threeNodes) note(by chat.Author, format string, args ...any) {
	m.did = append(m.did, string(by.Person)+" "+fmt.Sprintf(format, args...))
}

func (m *threeNodes) Mesh(context.Context) (MeshInfo, error) {
	return MeshInfo{ID: "M", Node: "core-1", Leader: "core-1", Members: []Member{{"core-1", true}, {"core-2", true}}, Voters: 2, Quorum: m.quorum, Version: "0.4.0", Index: 12, Backup: &m.backup}, nil
}

func (m *threeNodes) Nodes(context.Context) ([]Node, error) { return slices.Clone(m.nodes), nil }

func (m *threeNodes) find(name string) (*Node, error) {
	for i := range m.nodes {
		if m.nodes[i].Name == name {
			return &m.nodes[i], nil
		}
	}
	return nil, fmt.Errorf("%w: there is no node %q", chat.ErrNotFound, name)
}

func (m *threeNodes) Node(_ context.Context, name string) (NodeDetail, error) {
	n, err := m.find(name)
	if err != nil {
		return NodeDetail{}, err
	}
	return NodeDetail{Node: *n, Raft: &Raft{Role: "leader", Term: 3, Last: 12}, Peers: []Peer{{Node: "core-2", Contact: n.Since, Lag: 4}}, Docker: "28.5.2", Started: n.Since, Recent: []Event{{n.Since, "slow disk"}}}, nil
}

func (m *threeNodes) Label(_ context.Context, by chat.Author, node string, labels []string) error {
	n, err := m.find(node)
	if err == nil {
		n.Labels = labels
		m.note(by, "label %s %v", node, labels)
	}
	return err
}

func (m *threeNodes) Drain(_ context.Context, by chat.Author, node string, on bool) error {
	n, err := m.find(node)
	if err == nil {
		n.Draining = on
		m.note(by, "drain %s %v", node, on)
	}
	return err
}

func (m *threeNodes) Remove(_ context.Context, by chat.Author, node string) (string, error) {
	if node == "core-1" {
		return "", fmt.Errorf("%w: core-1 is the last core node that answers", chat.ErrRefused)
	}
	m.note(by, "remove %s", node)
	return node + "'s device stays", nil
}

func (m *threeNodes) Invitations(context.Context) ([]Invitation, error) {
	var list []Invitation
	for _, i := range m.invite {
		list = append(list, i)
	}
	return list, nil
}

func (m *threeNodes) Invite(_ context.Context, by chat.Author, id string, core bool, valid time.Duration) (Invitation, error) {
	if _, was := m.invite[id]; was {
		return Invitation{}, fmt.Errorf("%w: this invitation was shown before", chat.ErrRefused)
	}
	i := Invitation{ID: id, Core: core, By: by.Person, Expires: time.Date(2026, 11, 20, 15, 2, 0, 0, time.UTC), Token: "secret", Command: "samnode join secret"}
	m.invite[id] = i
	m.note(by, "invite core=%v %s", core, valid)
	return i, nil
}

func (m *threeNodes) Withdraw(_ context.Context, by chat.Author, id string) error {
	if _, was := m.invite[id]; !was {
		return fmt.Errorf("%w: there is no such invitation", chat.ErrNotFound)
	}
	delete(m.invite, id)
	return nil
}

func (m *threeNodes) People(context.Context) ([]Person, error) {
	return []Person{{Person: "ana@example.com", Role: m.people["ana@example.com"]}, {Person: "ben@example.com", Role: m.people["ben@example.com"]}}, nil
}

func (m *threeNodes) SetRole(_ context.Context, by chat.Author, person chat.Person, role string) error {
	if person == "ana@example.com" {
		return fmt.Errorf("%w: ana is the last owner", chat.ErrRefused)
	}
	m.people[person] = role
	return nil
}

func (m *threeNodes) Backup(context.Context) (Backup, error) { return m.backup, nil }

func (m *threeNodes) SetBackup(_ context.Context, _ chat.Author, set BackupSettings) error {
	if set.Schedule == "sometimes" {
		return fmt.Errorf(`%w: write "daily 03:00"`, chat.ErrInvalid)
	}
	m.backup.BackupSettings = set
	return nil
}

func (m *threeNodes) BackUp(context.Context, chat.Author) (BackupMade, error) {
	made := BackupMade{At: time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC), Where: m.backup.Destination + "/a.samnode", Size: 10, Index: 12}
	m.backup.Last = &made
	return made, nil
}

func (m *threeNodes) Setting(name string) string { return m.values[name] }

func (m *threeNodes) SetSetting(_ context.Context, _ chat.Author, name, value string) error {
	m.values[name] = value
	return nil
}

func withMesh(m *threeNodes) func(*Config) {
	return func(c *Config) {
		c.Mesh, c.NodeKeeper, c.Invitations, c.People, c.Backups, c.Settings = m, m, m, m, m, m
	}
}

func TestTheMeshIsShownAndChanged(t *testing.T) {
	m := newThreeNodes()
	f := newFixture(t, withMesh(m))
	if v := get[MeshInfo](t, f.want(200, "GET", "/api/v1/mesh", "")); v.Leader != "core-1" || !v.Quorum || len(v.Members) != 2 || v.Versions == nil || v.Warnings == nil {
		t.Errorf("mesh = %+v", v)
	}
	list := get[struct{ Nodes []Node }](t, f.want(200, "GET", "/api/v1/nodes", ""))
	if diff := cmp.Diff(m.nodes, list.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if n := get[NodeDetail](t, f.want(200, "GET", "/api/v1/nodes/core-1", "")); n.Raft.Term != 3 || n.Peers[0].Lag != 4 || n.Docker == "" {
		t.Errorf("node = %+v", n)
	}
	f.want(404, "GET", "/api/v1/nodes/nope", "")

	if n := get[Node](t, f.want(200, "POST", "/api/v1/nodes/lap-3/drain", "")); !n.Draining {
		t.Error("a drain without a body does not drain")
	}
	if n := get[Node](t, f.want(200, "POST", "/api/v1/nodes/lap-3/drain", `{"on":false}`)); n.Draining {
		t.Error("on=false drains")
	}
	f.want(404, "POST", "/api/v1/nodes/nope/drain", "")
	if n := get[Node](t, f.want(200, "PUT", "/api/v1/nodes/lap-3/labels", `{"labels":["gpu"]}`)); len(n.Labels) != 1 || n.Labels[0] != "gpu" {
		t.Errorf("labelled: %+v", n)
	}
	f.want(404, "PUT", "/api/v1/nodes/nope/labels", `{"labels":[]}`)
	if out := get[Removed](t, f.want(200, "DELETE", "/api/v1/nodes/lap-3", "")); out != (Removed{"lap-3", "lap-3's device stays"}) {
		t.Errorf("removing answers %+v", out)
	}
	if text := f.want(409, "DELETE", "/api/v1/nodes/core-1", ""); !strings.Contains(text, "the last core node") {
		t.Errorf("refusal = %s", text)
	}
	want := []string{"ana@example.com drain lap-3 true", "ana@example.com drain lap-3 false", "ana@example.com label lap-3 [gpu]", "ana@example.com remove lap-3"}
	if diff := cmp.Diff(want, m.did); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}

func TestInvitationsShowTheirTokenOnce(t *testing.T) {
	m := newThreeNodes()
	f := newFixture(t, withMesh(m))
	made := get[Invitation](t, f.want(201, "POST", "/api/v1/invitations", `{"id":"I1","core":true,"valid":"24h"}`))
	if made.Token == "" || made.Command == "" || made.ID != "I1" {
		t.Errorf("made = %+v", made)
	}
	f.want(409, "POST", "/api/v1/invitations", `{"id":"I1"}`)
	f.want(201, "POST", "/api/v1/invitations", "")
	if want := []string{"ana@example.com invite core=true 24h0m0s", "ana@example.com invite core=false 1h0m0s"}; !slices.Equal(m.did, want) {
		t.Errorf("asked for %q, want %q", m.did, want)
	}
	for _, bad := range []string{`{"valid":"soon"}`, `{"valid":"1s"}`, `{"valid":"1000h"}`} {
		f.want(400, "POST", "/api/v1/invitations", bad)
	}
	if list := f.want(200, "GET", "/api/v1/invitations", ""); strings.Contains(list, "secret") || !strings.Contains(list, "I1") {
		t.Errorf("list = %s; want the id without the token", list)
	}
	f.want(204, "DELETE", "/api/v1/invitations/I1", "")
	f.want(404, "DELETE", "/api/v1/invitations/I1", "")
}

func TestPeopleBackupsAndSettings(t *testing.T) {
	f := newFixture(t, withMesh(newThreeNodes()))
	f.want(204, "PUT", "/api/v1/people/ben@example.com", `{"role":"viewer"}`)
	f.want(400, "PUT", "/api/v1/people/ben@example.com", `{"role":"king"}`)
	f.want(400, "PUT", "/api/v1/people/ben@example.com", `{}`)
	f.want(204, "PUT", "/api/v1/people/cy@example.com", `{"role":""}`)
	f.want(409, "PUT", "/api/v1/people/ana@example.com", `{"role":"viewer"}`)
	if list := f.want(200, "GET", "/api/v1/people", ""); !strings.Contains(list, `{"person":"ben@example.com","role":"viewer"}`) {
		t.Errorf("people = %s", list)
	}
	f.want(400, "PUT", "/api/v1/backup", `{"destination":"/b","schedule":"sometimes"}`)
	f.want(200, "PUT", "/api/v1/backup", `{"destination":"/b","schedule":"every 6h","recipient":"age1x"}`)
	if made := get[BackupMade](t, f.want(200, "POST", "/api/v1/backup", "")); made.Where != "/b/a.samnode" || made.Index != 12 {
		t.Errorf("made = %+v", made)
	}
	if b := get[Backup](t, f.want(200, "GET", "/api/v1/backup", "")); b.Last == nil || b.Schedule != "every 6h" {
		t.Errorf("backup = %+v", b)
	}
	f.want(200, "PUT", "/api/v1/settings/colour", `{"value":"red"}`)
	if text := f.want(200, "GET", "/api/v1/settings/colour", ""); strings.TrimSpace(text) != `{"name":"colour","value":"red"}` {
		t.Errorf("setting = %s", text)
	}
}

// meshRoutes are those of the mesh, with what they need.
var meshRoutes = []struct {
	method, path, body string
	owner              bool
}{
	{"GET", "/api/v1/mesh", "", false}, {"GET", "/api/v1/nodes", "", false}, {"GET", "/api/v1/nodes/core-1", "", false},
	{"PUT", "/api/v1/nodes/core-1/labels", "{}", true}, {"POST", "/api/v1/nodes/core-1/drain", "", true}, {"DELETE", "/api/v1/nodes/core-1", "", true},
	{"GET", "/api/v1/invitations", "", false}, {"POST", "/api/v1/invitations", "", true}, {"DELETE", "/api/v1/invitations/x", "", true},
	{"GET", "/api/v1/people", "", false}, {"PUT", "/api/v1/people/x", `{"role":"owner"}`, true},
	{"GET", "/api/v1/backup", "", false}, {"PUT", "/api/v1/backup", `{"destination":"","schedule":""}`, true}, {"POST", "/api/v1/backup", "", true},
	{"GET", "/api/v1/settings/x", "", false}, {"PUT", "/api/v1/settings/x", `{"value":""}`, true},
}

func TestMeshRoutesAskForTheirRoleAndTheirPart(t *testing.T) {
	alone, with := newFixture(t), newFixture(t, withMesh(newThreeNodes()))
	with.role = "member"
	for _, r := range meshRoutes {
		alone.want(501, r.method, r.path, r.body)
		if code, text := with.call(r.method, r.path, r.body); (code == 403) != r.owner {
			t.Errorf("%s %s as a member = %d %s", r.method, r.path, code, text)
		}
	}
}

func TestAMeshThatCannotWriteSaysUntilWhen(t *testing.T) {
	m := newThreeNodes()
	lost := errors.New("leadership lost")
	f := newFixture(t, withMesh(m), func(c *Config) { c.Unavailable = func(err error) bool { return errors.Is(err, lost) } })
	f.kit.Project(t, "web")
	f.kit.Log.Fail = func() error { return lost }
	for _, quorum := range []bool{true, false} {
		m.quorum = quorum
		want := map[bool]string{true: "The mesh has no leader at this moment.", false: "it is read-only until core-2 is back."}[quorum]
		if text := f.want(503, "POST", "/api/v1/tasks", `{"project":"web","text":"x"}`); !strings.Contains(text, want) || strings.Contains(text, "leadership") {
			t.Errorf("quorum %v: %s, want %q", quorum, text, want)
		}
	}
	f.kit.Log.Fail = func() error { return fmt.Errorf("proposing: %w", ErrNoMajority) }
	f.want(503, "POST", "/api/v1/tasks", `{"project":"web","text":"x"}`)
	f.kit.Log.Fail = func() error { return errors.New("disk on fire") }
	f.want(500, "POST", "/api/v1/tasks", `{"project":"web","text":"x"}`)
}

func TestOnlyPagesOfTheMeshReadTheVersion(t *testing.T) {
	f := newFixture(t, withMesh(newThreeNodes()))
	for origin, allowed := range map[string]bool{
		"http://core-2.ts.net": true, "http://lap-3.ts.net": true, "http://lap-3.ts.net:3000": false,
		"https://core-2.ts.net": false, "https://evil.example": false, "null": false, "": false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", f.server.URL+"/api/v1/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := resp.Header.Get("Access-Control-Allow-Origin")
		if want := map[bool]string{true: origin}[allowed]; resp.StatusCode != 200 || got != want {
			t.Errorf("version for %q = %d, allowed %q, want %q", origin, resp.StatusCode, got, want)
		}
		if resp.Header.Get("Vary") != "Origin" || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("version for %q: headers %v", origin, resp.Header)
		}
	}
	resp, err := http.Get(f.server.URL + "/api/v1/tasks")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("another path than the version may be read by others")
	}
}

func TestVersionsAreCompared(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"0.3.0", "0.4.0", -1}, {"v0.10.0", "0.9.9", 1}, {"0.4", "0.4.0", 0}, {"0.4.0-rc1", "0.4.0", -1},
		{"0.4.0+dirty", "v0.4.0", 0}, {"devel", "0.4.0", 0}, {"", "0.4.0", 0},
	} {
		if got := CompareVersions(c.a, c.b); got != c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
	newest, old := Outdated(newThreeNodes().nodes)
	if newest != "0.4.0" || !slices.Equal(old, []string{"lap-3"}) {
		t.Errorf("Outdated = %q, %q", newest, old)
	}
}

func TestOriginsAreWhatBrowsersWrite(t *testing.T) {
	for url, want := range map[string]string{
		"http://core-1.ts.net": "http://core-1.ts.net", "http://Core-1.ts.net:80/": "http://core-1.ts.net", "https://a:443": "https://a",
		"http://127.0.0.1:7071": "http://127.0.0.1:7071", "http://[fd7a::1]:80": "http://[fd7a::1]",
		"": "", "ftp://a": "", "http://": "", "http://a; script-src *": "", "javascript:alert(1)": "", "http://a,b": "",
	} {
		if got := (Node{URL: url}).Origin(); got != want {
			t.Errorf("origin of %q = %q, want %q", url, got, want)
		}
	}
}
