package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus/backup"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/git/gittest"
)

// TestMeshBackup loses a mesh and begins it again from its backup: all that was
// said, the projects, secrets and people are there, tasks go on, and the
// schedule, too. A backup that is damaged, or opened with another key, begins
// nothing.
func TestMeshBackup(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := foundMesh(t, "--slots", "1")
	a := m.nodes[0]
	w := m.join(a, "w", false, "--slots", "1")
	s := gittest.Start(t)
	s.Create("acme/app")
	gittest.Push(t, s.Path("acme/app"), "main", "first", map[string]string{"README.md": "# app\n"})
	must[chat.Project](a, "project", "add", "app", "--repo", s.CloneURL("acme/app"), "--mode", "everything")
	a.projectSecret("app", "GIT_PASSWORD", s.Grant("acme/app", time.Hour))
	a.secret("ANTHROPIC_API_KEY", "sk-ant-of-the-mesh")
	must[map[string]string](a, "people", "role", "eve@example.com", "member")
	m.awaitNode(a, "w", "there", func(x api.Node) bool { return x.Online && x.Slots == 1 })
	must[map[string]string](a, "node", "drain", "a") // the worker fetches and pushes with what a core node gives it
	v := a.runIdle("app", "Grüße, and "+sh("echo one > one.txt; seq 3000"))
	if v.Lease == nil || v.Lease.Node != "w" || !v.Change.Pushed {
		t.Errorf("the first task ran under %+v: %+v", v.Lease, v.Change)
	}
	failed := a.runFailed("app", "base that is not there "+sh("true"), "--base", "nothing")

	key, place := keyFile(t, a), t.TempDir()
	setsBackup(t, a, key, place)
	made := must[api.BackupMade](a, "backup", "now")
	if k := backupCheck(t, a); k.State != checkOK || !strings.Contains(k.Detail, place) {
		t.Errorf("with a backup the doctor says %+v", k)
	}
	list := must[[]backup.Info](a, "backup", "list", "--from", place)
	if len(list) != 1 || list[0].Index != made.Index || !strings.HasSuffix(made.Where, list[0].Name) {
		t.Fatalf("made %+v, the list has %+v", made, list)
	}
	data, err := os.ReadFile(filepath.Join(place, list[0].Name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "Grüße") || strings.Contains(string(data), "sk-ant") {
		t.Error("the backup can be read without its key")
	}
	before := map[chat.TaskID][]chat.Message{v.ID: a.items(v.ID), failed.ID: a.items(failed.ID)}
	w.stop()
	a.kill()

	d := &testNode{t: t, bin: a.bin, verb: "dev", state: filepath.Join(m.state, "r"), args: []string{"--slots", "1"}, log: &lockedBuffer{}}
	restoresNothing(t, d.state, key, keyFile(t, a), data)
	said, code := samnode(t, "restore", "--dev", "--state", d.state, "--name", "r", "--from", place, "--key-file", key)
	if code != exitDone || !strings.Contains(said, "samnode") {
		t.Fatalf("restore exits with %d: %s", code, said)
	}
	m.nodes = append(m.nodes, d)
	d.start()
	for id, want := range before {
		if diff := gocmp.Diff(want, d.items(id)); diff != "" {
			t.Errorf("the messages of %s (-before +after):\n%s", id, diff)
		}
	}
	restored(t, m, d, s.Path("acme/app"), v)

	// The schedule is that of the lost mesh.
	deadline := time.Now().Add(2 * time.Minute)
	for len(list) < 2 && time.Now().Before(deadline) {
		time.Sleep(500 * time.Millisecond)
		list = must[[]backup.Info](d, "backup", "list", "--from", place)
	}
	if len(list) < 2 || list[0].Mesh == list[1].Mesh {
		t.Errorf("the restored mesh made no backup of its own: %+v", list)
	}
}

// TestTailnetRestore begins a mesh again on a tailnet.
func TestTailnetRestore(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(func() { m.tearDown() })
	a, r := m.place("a"), m.place("r")
	flags := func(n *testNode) []string {
		return []string{"--state", n.state, "--name", filepath.Base(n.state), "--control", control.URL, "--auth-key", "tskey-auth-test", "--setup-only"}
	}
	m.setUpNode(a, append([]string{"init"}, flags(a)...))
	m.up(a)
	m.leader()
	must[chat.Project](a, "project", "add", "app", "--repo", "/nowhere.git")
	key, place := keyFile(t, a), t.TempDir()
	must[map[string]string](a, "backup", "set", "--to", place, "--key-file", key)
	must[api.BackupMade](a, "backup", "now")
	other := keyFile(t, a)
	a.kill()
	said, code := samnode(t, append([]string{"restore", "--from", place, "--key-file", other}, flags(r)...)...)
	isSaid(t, said, code, exitFailed, "made for another key")
	if _, err := os.Stat(filepath.Join(r.state, "tailnet")); err == nil {
		t.Error("a restore that failed went onto the tailnet")
	}
	m.setUpNode(r, append([]string{"restore", "--from", place, "--key-file", key}, flags(r)...))
	m.up(r)
	if list := must[[]chat.Project](r, "project", "list"); len(list) != 1 || list[0].Name != "app" {
		t.Errorf("the projects are %+v", list)
	}
	m.await("it to write", func() bool {
		_, _, code := r.cli("project", "add", "more", "--repo", "/nowhere.git")
		return code == exitDone
	})
	unharmed(t, m, r, "r")
}

// backupCheck is what the doctor says of backups.
func backupCheck(t *testing.T, n *testNode) check {
	t.Helper()
	out, errs, _ := n.cli("doctor", "--json", "--state", n.state)
	var list []check
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("the doctor prints %q: %v %s", out, err, errs)
	}
	i := slices.IndexFunc(list, func(c check) bool { return c.Name == "backup" })
	if i < 0 {
		t.Fatalf("the doctor does not look at backups: %s", out)
	}
	return list[i]
}

// setsBackup says where backups go, after some wrong ways to.
func setsBackup(t *testing.T, a *testNode, key, place string) {
	t.Helper()
	if k := backupCheck(t, a); k.State != checkWarn || !strings.Contains(k.Detail, "there is none") || !strings.Contains(k.Todo, "samnode backup set") {
		t.Errorf("without a backup the doctor says %+v", k)
	}
	said, code := samnode(t, "--api", a.url, "backup", "now")
	isSaid(t, said, code, exitRefused, "no place for backups is set", "samnode backup set")
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("not a key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--to", place}, exitUsage, "samnode backup keygen"},
		{[]string{"--key-file", key}, exitUsage, "--to"},
		{[]string{"--to", place, "--key-file", junk}, exitUsage, "key"},
		{[]string{"--to", place, "--recipient", "age1nonsense"}, exitUsage, "samnode backup keygen"},
		{[]string{"--to", place, "--key-file", key, "--schedule", "now and then"}, exitUsage, "is no schedule"},
		{[]string{"--to", place, "--key-file", key, "--schedule", "every 1s"}, exitUsage, "the least is a minute"},
		{[]string{"--to", "ftp://host/x", "--key-file", key}, exitUsage, "s3://"},
	} {
		said, code := samnode(t, append([]string{"--api", a.url, "backup", "set"}, c.args...)...)
		isSaid(t, said, code, c.code, c.says)
	}
	must[map[string]string](a, "backup", "set", "--to", place, "--key-file", key, "--schedule", "every 1m")
	if k := backupCheck(t, a); k.State == checkOK && !strings.Contains(k.Detail, place) {
		t.Errorf("before the first backup the doctor says %+v", k)
	}
}

// restoresNothing tries backups that are not whole, and another key. Nothing is
// left, and the directory can be used afterwards.
func restoresNothing(t *testing.T, state, key, other string, data []byte) {
	t.Helper()
	flipped := slices.Clone(data)
	flipped[len(flipped)*2/3] ^= 1
	header := slices.Clone(data)
	header[10] ^= 1
	for name, c := range map[string]struct {
		data []byte
		key  string
		says string
	}{
		"another key":  {data, other, "key"},
		"cut":          {data[:len(data)*2/3], key, "cut"},
		"cut early":    {data[:40], key, ""},
		"empty":        {nil, key, ""},
		"a bit":        {flipped, key, ""},
		"a bit first":  {header, key, ""},
		"no backup":    {[]byte(strings.Repeat("hello\n", 1000)), key, ""},
		"more at end":  {append(slices.Clone(data), "more"...), key, ""},
		"without last": {data[:len(data)-1], key, "cut"},
	} {
		file := filepath.Join(t.TempDir(), "x.age")
		if err := os.WriteFile(file, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		said, code := samnode(t, "restore", "--dev", "--state", state, "--name", "r", "--from", file, "--key-file", c.key)
		if code == exitDone || !strings.Contains(said, c.says) || len(said) < 20 || strings.Count(said, "\n") > 1 {
			t.Errorf("%s: restore exits with %d: %s", name, code, said)
		}
		for _, left := range []string{identityFile, "raft", "chat", "mesh.key"} {
			if _, err := os.Stat(filepath.Join(state, left)); err == nil {
				t.Errorf("%s: restore leaves %s", name, left)
			}
		}
	}
	for _, args := range [][]string{
		{"--from", t.TempDir(), "--key-file", key}, {"--from", filepath.Join(state, "nowhere"), "--key-file", key},
	} {
		said, code := samnode(t, append([]string{"restore", "--dev", "--state", state}, args...)...)
		if code == exitDone || !strings.Contains(said, "backup") {
			t.Errorf("restore %q exits with %d: %s", args, code, said)
		}
	}
	said, code := samnode(t, "restore", "--dev", "--state", state, "--from", state)
	isSaid(t, said, code, exitUsage, "--key-file is needed")
}

// restored holds that the mesh is what it was, on one new node, and works.
func restored(t *testing.T, m *testMesh, d *testNode, repo string, v taskView) {
	t.Helper()
	unharmed(t, m, d, "r")
	if p := must[chat.Project](d, "project", "show", "app"); p.Mode != "everything" {
		t.Errorf("the project is %+v", p)
	}
	people := must[[]api.Person](d, "people", "list")
	if !slices.ContainsFunc(people, func(p api.Person) bool { return p.Person == "eve@example.com" && p.Role == "member" }) ||
		!slices.ContainsFunc(people, func(p api.Person) bool { return p.Role == "owner" }) {
		t.Errorf("the people are %+v", people)
	}
	if out, _, _ := d.cli("secret", "list"); !strings.Contains(out, "ANTHROPIC_API_KEY") {
		t.Errorf("the secrets are %s", out)
	}
	if out, _, _ := d.cli("task", "list", "--state", "failed"); !strings.Contains(out, "base that is not there") {
		t.Errorf("the failed tasks are %s", out)
	}
	// Both need the project's secret, and the first what the lost mesh pushed.
	must[taskView](d, "task", "say", string(v.ID), sh("cat one.txt; echo two > two.txt"))
	again := d.runIdle("app", sh("echo new > new.txt"))
	v = d.until(v.ID, "going on", func(v taskView) bool { return v.State == chat.Idle && v.Workspace == 2 && v.Change.Files == 2 })
	for _, c := range [][3]string{{v.Branch, "one.txt", "one"}, {v.Branch, "two.txt", "two"}, {again.Branch, "new.txt", "new"}} {
		if got := gitIn(t, repo, "show", c[0]+":"+c[1]); got != c[2] {
			t.Errorf("%s on %s = %q", c[1], c[0], got)
		}
	}
}
