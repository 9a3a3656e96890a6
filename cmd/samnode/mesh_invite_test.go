package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// TestMeshInvitations: an invitation works once, for what and for whom it is,
// and while it is good. All else is a sentence, and the mesh is as it was.
func TestMeshInvitations(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	b := &testNode{t: t, state: filepath.Join(m.state, "other")}
	if err := beginDev(b.state, "b"); err != nil {
		t.Fatal(err)
	}
	here := nodeHere(t, b.state, nil)
	b.url = here.base
	short, err := meshView{here}.Invite(t.Context(), chat.Author{Person: "ana"}, "", false, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	invite := func(n *testNode, more ...string) string {
		return must[api.Invitation](n, append([]string{"node", "invite"}, more...)...).Token
	}
	enters := func(token, name string) (string, int) {
		return samnode(t, "join", "--setup-only", "--state", filepath.Join(m.state, name), "--name", name, token)
	}

	used := invite(a)
	if said, code := enters(" "+used+"\n", "w1"); code != exitDone {
		t.Fatalf("joining exits with %d: %s", code, said)
	}
	withdrawn := must[api.Invitation](a, "node", "invite")
	if list := must[[]api.Invitation](a, "node", "invitations"); len(list) != 1 || list[0].Token != "" {
		t.Errorf("the open invitations are %+v, want one without its secret", list)
	}
	must[map[string]string](a, "node", "withdraw", withdrawn.ID)
	good := invite(a)
	changed := func(f func(v *invitation)) string { return changedInvitation(t, good, f) }
	foreign, err := parseInvitation(invite(b))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(short.Expires.Add(100 * time.Millisecond)))
	noneEnters(t, m, []badInvitation{
		{"run out", short.Token, nil, exitRefused, []string{"ran out", "samnode node invite"}},
		{"used", used, nil, exitRefused, []string{"w1 has joined with this invitation", "works once", "samnode node invite"}},
		{"withdrawn", withdrawn.Token, nil, exitRefused, []string{"does not know the invitation", "taken back", "samnode node invite"}},
		{"another mesh's", changed(func(v *invitation) { v.ID, v.Secret = foreign.ID, foreign.Secret }), nil, exitRefused, []string{"another mesh's", "samnode node invite"}},
		{"another secret", changed(func(v *invitation) { v.Secret = foreign.Secret }), nil, exitRefused, []string{"secret is not right", "samnode node invite"}},
		{"a mesh that is another now", changed(func(v *invitation) { v.Mesh = foreign.Mesh }), nil, exitRefused, []string{"samnode node invite"}},
		{"for a worker", good, []string{"--core"}, exitRefused, []string{"for a worker", "samnode node invite --core"}},
		{"for a worker, changed", changed(func(v *invitation) { v.Core = true }), []string{"--core"}, exitRefused, []string{"for a worker", "samnode node invite --core"}},
		{"run out long ago", changed(func(v *invitation) { v.Expires = time.Now().Add(-2 * time.Hour) }), nil, exitRefused, []string{"ran out", "samnode node invite"}},
		{"of a newer version", changed(func(v *invitation) { v.Version = 2 }), nil, exitFailed, []string{"newer samnode", "install"}},
		{"junk", "hello", nil, exitUsage, []string{"not an invitation", "samnode node invite"}},
		{"nothing", "", nil, exitUsage, []string{"not an invitation"}},
		{"cut", good[:len(good)/2], nil, exitUsage, []string{"cut off or changed", "to its end"}},
		{"cut at the end", good[:len(good)-3], nil, exitUsage, []string{"cut off or changed"}},
		{"the end only", good[len(good)/2:], nil, exitUsage, []string{"not an invitation"}},
		{"a taken name", good, []string{"--name", "a"}, exitRefused, []string{"has a node a", "--name a-2"}},
		{"no name", good, []string{"--name", "A b/c"}, exitUsage, []string{"cannot be a node's name", "lower-case"}},
		{"a directory in use", good, []string{"--state", a.state}, exitRefused, []string{"is in use by another samnode", "--state"}},
		{"no place", good, []string{"--state", "/dev/null/x"}, exitFailed, []string{"making the state directory", "/dev/null"}},
	})
	if _, errs, code := a.cli("node", "invite", "--valid", "1s"); code != exitUsage || !strings.Contains(errs, "a minute at least") {
		t.Errorf("an invitation for a second: exits with %d: %s", code, errs)
	}
	if _, errs, code := a.cli("node", "withdraw", short.ID+"x"); code != exitFailed || !strings.Contains(errs, "no invitation") {
		t.Errorf("withdrawing nothing exits with %d: %s", code, errs)
	}

	for token, want := range map[string]badInvitation{
		changed(func(v *invitation) { v.DevSecret = foreign.DevSecret }): {code: exitRefused, says: []string{"secret of this mesh", "samnode node invite"}},
		changed(func(v *invitation) { v.Cores[0].Addr = "127.0.0.1:1" }): {code: exitUnreachable, says: []string{"no core node of the mesh answers", "are they running?"}},
	} {
		cfg := Config{State: filepath.Join(t.TempDir(), "state"), Logger: slog.New(slog.DiscardHandler)}
		err := join(t.Context(), cfg, joinOptions{token: token, name: "patient", patience: 2 * time.Second})
		isSaid(t, fmt.Sprint(err), exitCode(err), want.code, want.says...)
	}

	if said, code := enters(good, "w2"); code != exitDone {
		t.Errorf("the good one was used up by all this: %d %s", code, said)
	}
	unharmed(t, m, a, "a", "w1", "w2")
}

// badInvitation is one that nobody enters the mesh with.
type badInvitation struct {
	name, token string
	more        []string
	code        int
	says        []string
}

func noneEnters(t *testing.T, m *testMesh, list []badInvitation) {
	t.Helper()
	for i, c := range list {
		t.Run(c.name, func(t *testing.T) {
			name := fmt.Sprintf("bad-%d", i)
			state := filepath.Join(m.state, name)
			args := append([]string{"join", "--setup-only", "--state", state, "--name", name}, c.more...)
			began := time.Now()
			said, code := samnode(t, append(args, "--", c.token)...)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s to say so", took)
			}
			isSaid(t, said, code, c.code, c.says...)
			if _, err := os.Stat(filepath.Join(state, identityFile)); err == nil {
				t.Error("the directory is a node's")
			}
		})
	}
}

// changedInvitation is a good one after somebody changed it.
func changedInvitation(t *testing.T, good string, change func(*invitation)) string {
	t.Helper()
	v, err := parseInvitation(good)
	if err != nil {
		t.Fatal(err)
	}
	change(&v)
	text, err := v.text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// isSaid holds that a command ended with a code and a sentence.
func isSaid(t testing.TB, said string, code, want int, parts ...string) {
	t.Helper()
	if code != want {
		t.Errorf("it exits with %d, want %d: %s", code, want, said)
	}
	for _, p := range parts {
		if !strings.Contains(said, p) {
			t.Errorf("it says %q, want %q in it", said, p)
		}
	}
	if strings.Count(strings.TrimSpace(said), "\n") > 1 {
		t.Errorf("it says more than a sentence: %s", said)
	}
}

// unharmed holds that the mesh is well and has these nodes, and none beside.
func unharmed(t testing.TB, m *testMesh, at *testNode, names ...string) {
	t.Helper()
	if out, errs, code := at.cli("status"); code != exitDone {
		t.Errorf("status exits with %d: %s%s", code, out, errs)
	}
	list := m.list(at)
	for _, name := range names {
		if _, ok := list[name]; !ok {
			t.Errorf("%s is not in the mesh", name)
		}
	}
	if len(list) != len(names) {
		t.Errorf("the mesh has %d nodes, want %v", len(list), names)
	}
}

// TestStateDirectories: a state directory is one node's of one mesh, for one
// process at a time.
func TestStateDirectories(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	m, other := foundMesh(t), foundMesh(t)
	a, b := m.nodes[0], other.nodes[0]
	for _, args := range [][]string{
		{"init", "--state", a.state, "--name", "x", "--setup-only"},
		{"join", "--state", a.state, "--setup-only", must[api.Invitation](b, "node", "invite").Token},
		{"restore", "--dev", "--state", a.state, "--from", t.TempDir(), "--key-file", keyFile(t, a)},
		{"recover", "--state", a.state, "--yes"},
	} {
		said, code := samnode(t, args...)
		isSaid(t, said, code, exitRefused, "is in use by another samnode", "--state")
	}
	for _, verb := range []string{"run", "dev"} {
		said, code := samnode(t, verb, "--state", a.state, "--listen", "127.0.0.1:0")
		isSaid(t, said, code, exitFailed, "is in use by another samnode")
	}
	unharmed(t, m, a, "a")

	w := m.join(a, "w", false)
	w.stop()
	a.stop()
	for _, state := range []string{a.state, w.state} {
		for _, args := range [][]string{
			{"init", "--state", state, "--name", "x", "--setup-only"},
			{"join", "--state", state, "--setup-only", must[api.Invitation](b, "node", "invite").Token},
			{"restore", "--dev", "--state", state, "--from", t.TempDir(), "--key-file", keyFile(t, b)},
		} {
			said, code := samnode(t, args...)
			isSaid(t, said, code, exitRefused, "is node "+filepath.Base(state)+" of mesh", "samnode run", "samnode leave")
		}
	}
	said, code := samnode(t, "run", "--state", filepath.Join(m.state, "nothing"), "--listen", "127.0.0.1:0")
	isSaid(t, said, code, exitRefused, "belongs to no mesh", "samnode init", "samnode join")
	said, code = samnode(t, "recover", "--state", filepath.Join(m.state, "nothing"), "--yes")
	isSaid(t, said, code, exitRefused, "belongs to no mesh")
	said, code = samnode(t, "recover", "--state", w.state, "--yes")
	isSaid(t, said, code, exitRefused, "w is a worker", "core node")

	// The log of one mesh under the name of another.
	b.stop()
	mixed := filepath.Join(m.state, "mixed")
	copyState(t, a.state, mixed)
	copyOver(t, b.state, mixed, "raft", "chat", "mesh.key")
	n := &testNode{t: t, bin: a.bin, verb: "run", state: mixed, args: meshTimes()}
	out, code := n.runsOut()
	if code != exitRefused || !strings.Contains(out, "state of another node or mesh") || !strings.Contains(out, "restore") {
		t.Errorf("a directory of two meshes: exits with %d: %s", code, out)
	}
	// One without its identity is nobody's.
	if err := os.Remove(filepath.Join(mixed, identityFile)); err != nil {
		t.Fatal(err)
	}
	said, code = samnode(t, "init", "--state", mixed, "--setup-only", "--name", "x")
	isSaid(t, said, code, exitRefused, "holds the state of another mesh", "--state")
	said, code = samnode(t, "dev", "--state", mixed, "--listen", "127.0.0.1:0", "--name", "x")
	isSaid(t, said, code, exitRefused, "state of another node or mesh", `it belongs to node "a"`)
	for _, broken := range []string{"", "{", `{"mesh":1}`, `{}`, "\x00\x00\x00\x00"} {
		if err := os.WriteFile(filepath.Join(mixed, identityFile), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := n.runsOut(); code == exitDone || !strings.Contains(out, "restore the file, or remove the directory and join") {
			t.Errorf("with the identity %q it exits with %d: %s", broken, code, out)
		}
	}
	a.start()
	b.start()
	w.start()
	m.awaitNode(a, "w", "back", func(x api.Node) bool { return x.Online })
	unharmed(t, m, a, "a", "w")
	unharmed(t, other, b, "a")
}

// keyFile is a key that opens backups.
func keyFile(t testing.TB, n *testNode) string {
	t.Helper()
	out, errs, code := n.cli("backup", "keygen")
	if code != exitDone {
		t.Fatalf("backup keygen exits with %d: %s", code, errs)
	}
	file := filepath.Join(t.TempDir(), "backup.key")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func copyState(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying a state directory: %v\n%s", err, out)
	}
}

// copyOver replaces parts of a state directory by another's.
func copyOver(t testing.TB, from, to string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err := os.RemoveAll(filepath.Join(to, p)); err != nil {
			t.Fatal(err)
		}
		copyState(t, filepath.Join(from, p), filepath.Join(to, p))
	}
}
