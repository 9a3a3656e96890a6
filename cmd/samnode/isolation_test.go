package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/agents"
)

// latest is a task's conversation: the last form of each message, in order.
func (n *testNode) latest(task chat.TaskID) []chat.Message {
	n.t.Helper()
	var list []chat.Message
	at := map[string]int{}
	for _, m := range n.items(task) {
		if i, known := at[m.ID]; known {
			list[i] = m
			continue
		}
		at[m.ID] = len(list)
		list = append(list, m)
	}
	return list
}

// printed is what the tools of a task printed, all of it.
func printed(items []chat.Message) string {
	var b strings.Builder
	for _, m := range items {
		if m.Tool != nil {
			b.WriteString(m.Tool.Output + "\n")
		}
	}
	return b.String()
}

// notes are the sentences that samnode itself said.
func notes(items []chat.Message) []string {
	var list []string
	for _, m := range items {
		if m.Kind == chat.KindStatus || m.Kind == chat.KindError {
			list = append(list, strings.TrimSpace(m.Text+" "+m.Detail))
		}
	}
	return list
}

// said fails the test unless one sentence has all the parts.
func said(t *testing.T, list []string, parts ...string) {
	t.Helper()
	for _, s := range list {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(s, p)
		}
		if all {
			return
		}
	}
	t.Errorf("no note has %q in:\n%s", parts, strings.Join(list, "\n"))
}

// sh is a script agent's prompt.
func sh(lines ...string) string {
	return "Run\n\n```sh\n" + strings.Join(lines, "\n") + "\n```\n"
}

// runIdle runs a task to its rest and demands that it went well.
func (n *testNode) runIdle(project, text string) taskView {
	n.t.Helper()
	out, errs, code := n.cli("task", "run", "--project", project, "--wait", "--json", text)
	var v taskView
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		n.t.Fatalf("task run exits with %d, prints %q: %v %s", code, out, err, errs)
	}
	if code != exitDone || v.State != chat.Idle {
		n.t.Fatalf("task run exits with %d: %s: %+v\n%s", code, v.State, v.Failure, strings.Join(notes(n.items(v.ID)), "\n"))
	}
	return v
}

// runFailed runs a task that has to fail, and returns it.
func (n *testNode) runFailed(project, text string, more ...string) taskView {
	n.t.Helper()
	out, errs, code := n.cli(append([]string{"task", "run", "--project", project, "--wait", "--json", text}, more...)...)
	var v taskView
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		n.t.Fatalf("task run exits with %d, prints %q: %v %s", code, out, err, errs)
	}
	if code != exitFailed || v.State != chat.Failed || v.Failure == nil {
		n.t.Fatalf("task run exits with %d, the task is %s, want it failed: %+v", code, v.State, v.Failure)
	}
	return v
}

// retry queues a task again and waits for its rest.
func (n *testNode) retry(task chat.TaskID) taskView {
	n.t.Helper()
	must[taskView](n, "task", "retry", string(task))
	return n.until(task, "at rest", func(v taskView) bool { return rests(v.Task) })
}

// container is what the engine says of a task's container.
type container struct {
	HostConfig struct {
		Privileged     bool
		CapAdd         []string
		CapDrop        []string
		SecurityOpt    []string
		NetworkMode    string
		PidMode        string
		ReadonlyRootfs bool
		Binds          []string
	}
	Config struct{ User string }
	Mounts []struct {
		Type, Source, Destination string
		RW                        bool
	}
}

func inspect(t *testing.T, task chat.TaskID) container {
	t.Helper()
	id := strings.TrimSpace(command(t, "docker", "ps", "-aq", "--filter", "label=samnode.task="+string(task)))
	var list []container
	if err := json.Unmarshal([]byte(command(t, "docker", "inspect", id)), &list); err != nil || len(list) != 1 {
		t.Fatalf("docker inspect %q: %v", id, err)
	}
	return list[0]
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// unprivileged holds what every workspace's container is, whatever was asked.
func unprivileged(t *testing.T, n *testNode, task chat.TaskID) {
	t.Helper()
	c := inspect(t, task)
	h := c.HostConfig
	got := fmt.Sprintf("%v %v %v %v %v %q %v %s", h.Privileged, h.CapAdd, h.CapDrop, h.SecurityOpt, h.NetworkMode, h.PidMode, h.ReadonlyRootfs, c.Config.User)
	if want := `false [] [ALL] [no-new-privileges] none "" true 1000:1000`; got != want {
		t.Errorf("container = %s, want %s", got, want)
	}
	for _, m := range c.Mounts {
		ours := m.Type == "volume" || strings.HasPrefix(m.Source, n.state+"/") || m.Source == n.bin ||
			m.Destination == agents.Root && !m.RW
		if !ours || strings.Contains(m.Source, "docker.sock") {
			t.Errorf("the container sees %s at %s", m.Source, m.Destination)
		}
	}
}

// look prints what a workspace has of rights and of the host.
const look = `id -u; grep CapEff /proc/self/status; ls -d /hostetc /var/run/docker.sock /run/docker.sock 2>/dev/null || true; echo "env=$FROM_DEV $(cat created.txt)"`

const lookWant = "1000\nCapEff:\t0000000000000000\nenv=dev created\n"

// TestHostTakeOversByDevContainer: the four ways in which "devcontainer up"
// hands the host to a repository. Each is left out with a note, and the rest
// of the dev container is used.
func TestHostTakeOversByDevContainer(t *testing.T) {
	needDocker(t)
	t.Parallel()
	owned := filepath.Join(t.TempDir(), "owned")
	const rest = `"containerEnv": {"FROM_DEV": "dev"}, "postCreateCommand": "echo created > created.txt"`
	const dockerfile = "FROM " + defaultImage + "\n"
	metadata := `LABEL devcontainer.metadata="[{\"privileged\": true, \"mounts\": [\"source=/etc,target=/hostetc,type=bind\"], \"initializeCommand\": \"touch ` + owned + `\", \"containerEnv\": {\"FROM_DEV\": \"dev\"}}]"` + "\n"
	const feature = `{"id": "evil", "version": "1.0.0", "name": "evil", "privileged": true, "capAdd": ["ALL"], "mounts": ["source=/etc,target=/hostetc,type=bind", "source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind"]}`
	n := newNode(t)
	for name, c := range map[string]struct {
		files map[string]string
		notes [][]string
		npm   bool
	}{
		"initialize-command": {
			files: map[string]string{".devcontainer/devcontainer.json": `{"image": "` + defaultImage + `", "initializeCommand": "touch ` + owned + `", ` + rest + `}`},
			notes: [][]string{{"initializeCommand", "devcontainer.json", "would run on the host", "The rest was used"}},
		},
		"mounts-and-run-args": {
			files: map[string]string{".devcontainer.json": `{"image": "` + defaultImage + `", "mounts": ["source=/etc,target=/hostetc,type=bind"], "runArgs": ["--privileged", "--pid=host"], ` + rest + `}`},
			notes: [][]string{{"mounts", "sees its own volume only"}, {"runArgs", "open the host"}},
		},
		"a-local-feature": {
			files: map[string]string{
				".devcontainer/devcontainer.json":              `{"image": "` + defaultImage + `", "features": {"./evil": {}}, ` + rest + `}`,
				".devcontainer/evil/devcontainer-feature.json": feature,
				".devcontainer/evil/install.sh":                "#!/bin/sh\nid -u > /etc/feature-ran\n",
			},
			notes: [][]string{{"privileged", "feature", "no rights on the host"}, {"mounts", "feature"}, {"capAdd", "feature"}},
			npm:   true,
		},
		"the-label-of-the-image": {
			files: map[string]string{
				".devcontainer/devcontainer.json": `{"build": {"dockerfile": "Dockerfile"}, "postCreateCommand": "echo created > created.txt"}`,
				".devcontainer/Dockerfile":        dockerfile + metadata,
			},
			notes: [][]string{{"privileged in image"}, {"mounts in image"}, {"initializeCommand in image"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("npm"); err != nil && c.npm {
				t.Skip("features need npm")
			}
			n := n.in(t)
			must[chat.Project](n, "project", "add", name, "--repo", localRepo(t, c.files), "--mode", "everything")
			v := n.runIdle(name, sh(look))
			items := n.latest(v.ID)
			if out := printed(items); !strings.Contains(out, lookWant) {
				t.Errorf("inside = %q, want %q", out, lookWant)
			}
			for _, parts := range c.notes {
				said(t, notes(items), parts...)
			}
			unprivileged(t, n, v.ID)
			if _, err := os.Stat(owned); !os.IsNotExist(err) {
				t.Errorf("the repository ran a command on the host: %v", err)
			}
		})
	}
}

// in is the node seen from a subtest.
func (n *testNode) in(t *testing.T) *testNode {
	m := *n
	m.t = t
	return &m
}

// TestWorkspaceIsClosed: what a task may not do is refused, and said.
func TestWorkspaceIsClosed(t *testing.T) {
	needDocker(t)
	t.Parallel()
	const key = "sk-ant-the-mesh-key-0123456789"
	n := newNode(t)
	n.secret("ANTHROPIC_API_KEY", key)
	n.secret("GIT_PASSWORD", "hunter2hunter2")
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	repo, other := localRepo(t, nil), localRepo(t, nil)
	gitIn(t, repo, "tag", "v1")
	gitIn(t, repo, "branch", "old")
	was := gitIn(t, repo, "for-each-ref", "--format=%(refname) %(objectname)")
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	v := n.runIdle("app", sh(
		`say() { echo "$1: $(tr '\n' ' ' < /tmp/out)"; }`,
		`try() { what=$1; shift; if "$@" > /tmp/out 2>&1; then echo "OPEN $what"; say "$what"; else say "closed $what"; fi; }`,
		`git commit -q --allow-empty -m mine; git tag v2`,
		`try main git push origin HEAD:main`,
		`try tag git push origin v2`,
		`try force git push --force origin HEAD:refs/heads/main HEAD`,
		`try delete git push origin --delete old`,
		`try mirror git push --mirror origin`,
		`try other-path git push `+other+` HEAD:main`,
		`try other-url git push https://github.com/acme/other.git HEAD:main`,
		`try other-proxy git push http://127.0.0.1:7102/other.git HEAD:main`,
		`try traversal git push http://127.0.0.1:7102/repo.git/../other.git HEAD:main`,
		`try unlisted curl -sS --fail --max-time 20 https://unlisted.example/`,
		`try plain curl -sS --fail --max-time 20 http://unlisted.example/`,
		`try metadata curl -sS --fail --max-time 20 http://169.254.169.254/latest/meta-data/`,
		`try metadata-direct curl -sS --fail --noproxy '*' --max-time 5 http://169.254.169.254/`,
		`try host-direct curl -sS --fail --max-time 5 http://`+host.Addr().String()+`/`,
		`try host-proxy curl -sS --fail --noproxy '' --max-time 5 http://`+host.Addr().String()+`/`,
		`try node curl -sS --fail --noproxy '' --max-time 5 `+n.url+`/api/v1/secrets`,
		`try docker curl -sS --fail --unix-socket /var/run/docker.sock http://docker/info`,
		`try sudo sudo -n id`,
		`try mount mount -t tmpfs none /mnt`,
		`try shim sh -c 'echo x >> /opt/samnode-shim/samnode'`,
		`try broker sh -c 'rm /run/samnode/broker/*.sock'`,
		`try mirror-write sh -c 'for d in `+n.state+`/mirrors/*; do touch $d/x; done'`,
		`try state sh -c 'cat `+n.state+`/mesh.key `+n.state+`/chat/chat.db'`,
		`env > everything.txt; cat /proc/1/environ /proc/*/environ 2>/dev/null | tr '\0' '\n' >> everything.txt`,
		`cat /proc/*/cmdline 2>/dev/null | tr '\0' '\n' >> everything.txt; git credential fill >> everything.txt 2>&1 <<X`,
		"protocol=https\nhost=github.com\n",
		`X`,
		`echo; echo "env: $(grep -ciE 'key|token|password|secret' everything.txt) lines"`,
	))
	items := n.latest(v.ID)
	out := printed(items)
	for _, what := range []string{
		"main", "tag", "force", "delete", "mirror", "other-path", "other-url", "other-proxy", "traversal", "unlisted", "plain", "metadata",
		"metadata-direct", "host-direct", "host-proxy", "node", "docker", "sudo", "mount", "shim", "broker", "mirror-write", "state",
	} {
		if !strings.Contains(out, "closed "+what+": ") {
			t.Errorf("%s is not closed", what)
		}
	}
	for _, line := range []string{
		"[remote rejected] HEAD -> main (samnode: only " + v.Branch + " may be pushed)",
		"only this task's repository is served here",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("the agent does not read %q", line)
		}
	}
	all := notes(items)
	said(t, all, "push to refs/heads/main", "only "+v.Branch+" may be pushed")
	said(t, all, "push to refs/tags/v2")
	said(t, all, "push to refs/heads/old")
	said(t, all, "other.git", "only this task's repository")
	said(t, all, "unlisted.example")
	said(t, all, "github.com")
	said(t, all, "169.254.169.254")
	if t.Failed() {
		t.Logf("printed:\n%s\nnotes:\n%s", out, strings.Join(all, "\n"))
	}
	seen := gitIn(t, repo, "show", v.Branch+":everything.txt")
	for _, secret := range []string{key, "hunter2", "sk-ant"} {
		if strings.Contains(seen+out, secret) {
			t.Errorf("the workspace reads %s", secret)
		}
	}
	if !strings.Contains(seen, "SAMNODE_TASK=") {
		t.Errorf("the workspace's own environment was not read: %q", seen)
	}
	var others []string
	for _, l := range strings.Split(gitIn(t, repo, "for-each-ref", "--format=%(refname) %(objectname)"), "\n") {
		if !strings.HasPrefix(l, "refs/heads/"+v.Branch+" ") {
			others = append(others, l)
		}
	}
	if diff := cmp.Diff(strings.Split(was, "\n"), others); diff != "" {
		t.Errorf("the remote's other refs changed (-was +now):\n%s", diff)
	}
	if got := gitIn(t, other, "rev-list", "--count", "--all"); got != "1" {
		t.Errorf("the other repository has %s commits, want its own", got)
	}
	unprivileged(t, n, v.ID)
}

// secret sets a secret of the mesh by standard input, as a person does.
func (n *testNode) secret(name, value string) {
	n.t.Helper()
	var out strings.Builder
	if code := execute(n.t.Context(), []string{"--api", n.url, "secret", "set", name}, strings.NewReader(value), &out, &out); code != exitDone {
		n.t.Fatalf("secret set exits with %d: %s", code, out.String())
	}
}

// TestDevContainerOutlivesTheNode: a node that was killed attaches to the
// workspace, and a new agent there has the dev container's environment, too.
func TestDevContainerOutlivesTheNode(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, map[string]string{".devcontainer.json": `{"image": "` + defaultImage + `", "containerEnv": {"FROM_DEV": "dev"}, "remoteEnv": {"TOO": "${containerEnv:FROM_DEV}-too"}}`})
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	v := n.runIdle("app", sh(`echo "first $FROM_DEV $TOO"`))
	n.kill()
	n.start()
	n.cli("task", "say", string(v.ID), "--wait", sh("kill -9 $PPID; sleep 60")) // how that ends is another test's
	n.until(v.ID, "asking what became of the turn", func(v taskView) bool { return v.State == chat.NeedsYou && len(v.Asks) == 1 })
	must[taskView](n, "task", "answer", string(v.ID), "discard")
	n.cli("task", "say", string(v.ID), "--wait", sh(`echo "third $FROM_DEV $TOO"`))
	n.until(v.ID, "idle", func(v taskView) bool { return v.State == chat.Idle && rests(v.Task) })
	if out := printed(n.latest(v.ID)); !strings.Contains(out, "first dev dev-too") || !strings.Contains(out, "third dev dev-too") {
		t.Errorf("printed %q\n%s", out, strings.Join(notes(n.latest(v.ID)), "\n"))
	}
}
