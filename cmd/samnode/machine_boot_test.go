package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/agents"
)

// machineImage is the stand-in for a provider's stock image with Docker.
const machineImage = "samnode/machine:latest"

// garage boots the servers of a cloud as containers with systemd and cloud-init,
// which do what their user-data says.
type garage struct {
	t    *testing.T
	dir  string
	mu   sync.Mutex
	made map[string]time.Time // by name: when it was ordered
}

func newGarage(t *testing.T) *garage {
	t.Helper()
	g := &garage{t: t, dir: t.TempDir(), made: map[string]time.Time{}}
	t.Cleanup(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for name := range g.made {
			if t.Failed() {
				out, _ := exec.Command("docker", "exec", name, "sh", "-c", "tail -n 40 /var/log/cloud-init-output.log; journalctl -u samnode --no-pager | tail -n 40").CombinedOutput()
				t.Logf("machine %s:\n%s", name, out)
			}
			_ = exec.Command("docker", "rm", "-fv", name).Run() // it may be gone
		}
	})
	return g
}

// boot starts a server's container; the provider's data source decodes base64.
func (g *garage) boot(s hetznertest.Server, userData []byte) {
	g.mu.Lock()
	g.made[s.Name] = time.Now()
	g.mu.Unlock()
	seed := filepath.Join(g.dir, s.Name)
	data, err := base64.StdEncoding.DecodeString(string(userData))
	if err == nil {
		err = os.MkdirAll(seed, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(seed, "user-data"), data, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(seed, "meta-data"), fmt.Appendf(nil, "instance-id: %d\nlocal-hostname: %s\n", s.ID, s.Name), 0o600)
	}
	if err != nil {
		g.t.Errorf("the seed of %s: %v", s.Name, err)
		return
	}
	out, err := exec.Command("docker", "run", "-d", "--name", s.Name, "--hostname", s.Name,
		"--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		"--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup", "--tmpfs", "/run", "--tmpfs", "/run/lock", "-v", seed+":/var/lib/cloud/seed/nocloud:ro", machineImage).CombinedOutput()
	if err != nil {
		g.t.Errorf("booting %s: %v %s", s.Name, err, out)
	}
}

// tellParts logs what the machine's script said, in seconds since the order.
func (g *garage) tellParts(machine string) {
	g.t.Helper()
	var up float64
	data, err := os.ReadFile("/proc/uptime")
	if err == nil {
		_, err = fmt.Sscan(string(data), &up)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	up -= time.Since(g.made[machine]).Seconds() // when it was ordered
	for line := range strings.Lines(dockerRun(g.t, "exec", machine, "grep", "^samnode: [0-9]", "/var/log/cloud-init-output.log")) {
		var at float64
		if _, err := fmt.Sscanf(line, "samnode: %f s:", &at); err != nil {
			g.t.Errorf("%q: %v", line, err)
		}
		_, what, _ := strings.Cut(strings.TrimSpace(line), " s: ")
		g.t.Logf("  %5.1f s %s", at-up, what)
	}
}

func (g *garage) scrap(s hetznertest.Server) {
	if out, err := exec.Command("docker", "rm", "-fv", s.Name).CombinedOutput(); err != nil {
		g.t.Errorf("deleting %s: %v %s", s.Name, err, out)
	}
}

// bridge is the address at which containers reach this machine.
func bridge(t *testing.T) string {
	t.Helper()
	i, err := net.InterfaceByName("docker0")
	if err != nil {
		t.Skipf("SKIPPED: no Docker bridge: %v", err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, ok := a.(*net.IPNet); ok && p.IP.To4() != nil {
			return p.IP.String()
		}
	}
	t.Fatal("the Docker bridge has no IPv4 address")
	return ""
}

// needMachineImage skips without the image, which scripts/setup makes.
func needMachineImage(t *testing.T) {
	t.Helper()
	needDocker(t)
	if err := exec.CommandContext(t.Context(), "docker", "image", "inspect", machineImage).Run(); err != nil {
		t.Skip("SKIPPED: needs the image of a machine (scripts/setup test)")
	}
}

// keysAPI is Tailscale's API of a control server that takes any key, and keeps
// what it was asked to forget.
type keysAPI struct {
	*httptest.Server
	control *meshtest.ControlServer
	mu      sync.Mutex
	forgot  []string
	minted  int
}

func newKeysAPI(t *testing.T, control *meshtest.ControlServer) *keysAPI {
	k := &keysAPI{control: control}
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Close)
	return k
}

func (k *keysAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch id, isDelete := strings.CutPrefix(r.URL.Path, "/api/v2/device/"); {
	case r.URL.Path == "/api/v2/oauth/token":
		fmt.Fprint(w, `{"access_token":"t"}`)
	case r.URL.Path == "/api/v2/tailnet/-/keys":
		k.minted++
		fmt.Fprint(w, `{"key":"tskey-auth-test"}`)
	case r.URL.Path == "/api/v2/tailnet/-/devices":
		type device struct {
			NodeID    string   `json:"nodeId"`
			Addresses []string `json:"addresses"`
		}
		var list []device
		for name, addrs := range k.control.Addresses() {
			d := device{NodeID: name}
			for _, a := range addrs {
				d.Addresses = append(d.Addresses, a.String())
			}
			list = append(list, d)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"devices": list}) // a test's own
	case isDelete && r.Method == http.MethodDelete:
		k.forgot = append(k.forgot, id)
	default:
		http.NotFound(w, r)
	}
}

func (k *keysAPI) forgotten() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.forgot)
}

// newBuyer is a mesh of one core node on a tailnet that takes no tasks itself
// and buys machines from the cloud.
func newBuyer(t *testing.T, cloud *hetznertest.Cloud, args ...string) (*testNode, *keysAPI) {
	t.Helper()
	at := bridge(t)
	control := meshtest.ControlWith(t, meshtest.ControlConfig{Listen: net.JoinHostPort(at, "0"), NodePrefix: "samnode"})
	keys := newKeysAPI(t, control)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	name := "core" + strings.ToLower(chat.NewID()[18:])
	n := &testNode{t: t, bin: bin, verb: "run", state: filepath.Join(t.TempDir(), name), log: &lockedBuffer{}, args: append([]string{
		"--hetzner-api", cloud.URL, "--keys-api", keys.URL, "--serve-binary", net.JoinHostPort(at, "0"),
	}, args...)}
	m := &testMesh{t: t, state: t.TempDir(), nodes: []*testNode{n}}
	t.Cleanup(m.tearDown)
	m.setUpNode(n, []string{"init", "--control", control.URL, "--state", n.state, "--name", name, "--auth-key", "tskey-auth-test", "--setup-only"})
	n.start()
	must[map[string]string](n, "node", "drain", name)
	n.secret(secretHetzner, "token")
	n.secret(secretClientID, "id")
	n.secret(secretClientSecret, "secret")
	return n, keys
}

func (n *testNode) poolNow() api.PoolInfo {
	n.t.Helper()
	return must[api.PoolInfo](n, "pool", "list")
}

// awaitPool waits for the pool to be so.
func (n *testNode) awaitPool(what string, for_ time.Duration, ok func(api.PoolInfo) bool) api.PoolInfo {
	n.t.Helper()
	for end := time.Now().Add(for_); ; time.Sleep(200 * time.Millisecond) {
		p := n.poolNow()
		if ok(p) {
			return p
		}
		if time.Now().After(end) {
			ops, _ := json.MarshalIndent(p.Ops, "", " ")
			n.t.Fatalf("never %s: %+v, %s %v\n%s", what, p.Machines, p.Stopped, p.Alarms, ops)
		}
	}
}

// soon tells whether something comes about in time.
func (n *testNode) soon(within time.Duration, ok func() bool) bool {
	for end := time.Now().Add(within); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// film is the pool's page, open all the time, with a picture of each moment.
type film struct {
	page *tab // nil: there is no browser here
	n    int
}

func newFilm(n *testNode) *film {
	n.t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		n.t.Log("no Chromium: nobody looks at the pool's page")
		return &film{}
	}
	f := &film{page: newTab(n.t.(*testing.T), n)}
	f.page.size(1280, 1600)
	f.page.open("/pool")
	return f
}

// take waits until the page says that, by itself, of the machine or at all.
func (f *film) take(name, machine, pattern string) {
	if f.page == nil {
		return
	}
	f.page.t.Helper()
	at := "main"
	if machine != "" {
		at = "#machine-" + machine
	}
	f.page.wait(fmt.Sprintf(`new RegExp(%q).test(document.querySelector(%q)?.innerText ?? "")`, pattern, at))
	f.n++
	f.page.shot(fmt.Sprintf("pool-%d-%s", f.n, name))
}

// agentComesTo waits for the agents that the core node has.
func (n *testNode) agentComesTo(machine string) {
	n.t.Helper()
	if agents.Ready(os.Getenv("SAMNODE_AGENTS"), "claude") != nil {
		return // scripts/setup says so
	}
	began := time.Now()
	if !n.soon(2*time.Minute, func() bool {
		return exec.CommandContext(n.t.Context(), "docker", "exec", machine, "/var/lib/samnode/agents/bin/claude", "--version").Run() == nil
	}) {
		n.t.Errorf("Claude Code never came to machine %s", machine)
	}
	n.t.Logf("Claude Code runs there %s later", time.Since(began).Round(100*time.Millisecond))
}

// TestBoughtMachine: a task that finds no slot has a machine bought, which
// boots, joins and runs it to its pull request; the next one starts there; when
// nobody needs it any more it is deleted, and nothing of it is left.
func TestBoughtMachine(t *testing.T) {
	needMachineImage(t)
	g := newGarage(t)
	cloud := hetznertest.Start(t, hetznertest.Config{CreateTime: -1, StartTime: -1, DeleteTime: 3 * time.Second, OnCreate: func(s hetznertest.Server, data []byte) { go g.boot(s, bytes.Clone(data)) }, OnDelete: g.scrap})
	n, keys := buysFor(t, cloud)

	f := newFilm(n)
	f.take("empty", "", `Machines bought\s+0`)
	id := n.run("widget", shell("sleep 3; echo one > one.txt; uname -n")).ID
	p := n.awaitPool("a machine on its way", time.Minute, func(p api.PoolInfo) bool {
		return slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Bought })
	})
	machine := p.Machines[slices.IndexFunc(p.Machines, func(m api.PoolMachine) bool { return m.Bought })].Name
	f.take("booting", machine, "Booting")
	n.until(id, "waiting for its machine", func(v taskView) bool { return v.State == chat.Buying || v.State == chat.Booting })
	n.awaitPool("ready", 3*time.Minute, func(p api.PoolInfo) bool {
		return slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Name == machine && m.State == "ready" })
	})
	t.Logf("from the order to ready: %s", time.Since(g.made[machine]).Round(100*time.Millisecond))
	g.tellParts(machine)
	if !n.soon(time.Minute, func() bool { return must[taskView](n, "task", "show", string(id)).Lease != nil }) {
		out, errs, _ := n.cli("task", "explain", string(id))
		t.Fatalf("the task is not placed: %s%s", out, errs)
	}
	f.take("at-work", machine, "1 of 2 slots free")
	v := n.turn(id, 1)
	t.Logf("from the order to the end of the task: %s", time.Since(g.made[machine]).Round(100*time.Millisecond))
	if string(v.Lease.Node) != machine || v.PullRequest == nil || v.PullRequest.Number != 1 {
		t.Fatalf("the task ran under %+v, and its pull request is %+v", v.Lease, v.PullRequest)
	}
	if got := len(cloud.Ever()); got != 1 {
		t.Errorf("%d servers were made for one task", got)
	}

	next := n.run("widget", shell("echo two > two.txt")).ID
	if v := n.turn(next, 1); string(v.Lease.Node) != machine || len(cloud.Ever()) != 1 {
		t.Errorf("the next task ran on %s after %d servers were made, want it warm on %s", v.Lease.Node, len(cloud.Ever()), machine)
	}
	n.agentComesTo(machine)
	if out := dockerRun(t, "exec", machine, "ip", "route"); !strings.Contains(out, "blackhole 169.254.169.254") {
		t.Errorf("the machine's way to the provider's metadata is open:\n%s", out)
	}

	for _, task := range []chat.TaskID{id, next} {
		must[taskView](n, "task", "release", string(task))
	}
	f.take("warm", machine, "It is kept for the next task")
	must[api.PoolSettings](n, "pool", "set", "--warm", "0", "--whole-hours=false", "--free", "0")
	f.take("goes", machine, "Deleting|Draining")
	p = n.awaitPool("deleted", 2*time.Minute, func(p api.PoolInfo) bool {
		return !slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Bought })
	})
	f.take("gone", "", `Machines bought\s+0`)
	if left := cloud.Alive(); len(left) > 0 {
		t.Errorf("servers are left: %+v", left)
	}
	if list := must[[]api.Node](n, "node", "list"); len(list) != 1 {
		t.Errorf("nodes are left: %+v", list)
	}
	if got := keys.forgotten(); !slices.Contains(got, hostnameOf(machine)) || keys.minted != 1 {
		t.Errorf("the tailnet was asked to forget %v after %d keys, want %s after one", got, keys.minted, hostnameOf(machine))
	}
	if p.Today <= 0 {
		t.Errorf("the machine cost %v today", p.Today)
	}
}
