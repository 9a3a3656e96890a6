package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/forge/githubtest"
	"github.com/samnode/samnode/workspace/git/gittest"
)

// yard boots the servers of a cloud as processes of this machine: they join with
// the keys of their user-data, and nothing else of it is done. The garage does
// all of it, and takes longer.
type yard struct {
	t   *testing.T
	bin string
	dir string
	ctx context.Context // of those who join
	wg  sync.WaitGroup
	mu  sync.Mutex
	run map[string]*exec.Cmd // by name; nil: it was deleted
	log map[string]*lockedBuffer
}

func newYard(t *testing.T) *yard {
	t.Helper()
	needDocker(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "yd")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	y := &yard{t: t, bin: bin, ctx: ctx, dir: dir, run: map[string]*exec.Cmd{}, log: map[string]*lockedBuffer{}}
	t.Cleanup(func() { cancel(); y.close() })
	return y
}

func (y *yard) close() {
	y.wg.Wait()
	for name, log := range y.log {
		y.end(name)
		n := testNode{t: y.t, state: filepath.Join(y.dir, name)}
		n.clean()
		if y.t.Failed() {
			y.t.Logf("log of %s:\n%s", name, lastLines(log.String(), 40))
		}
	}
	if err := os.RemoveAll(y.dir); err != nil {
		y.t.Error(err)
	}
}

// boot begins to start a server's process.
func (y *yard) boot(s hetznertest.Server, userData []byte) {
	log := &lockedBuffer{}
	y.mu.Lock()
	y.log[s.Name] = log
	y.mu.Unlock()
	data := bytes.Clone(userData)
	y.wg.Go(func() {
		if err := y.join(s.Name, data, log); err != nil && y.ctx.Err() == nil && y.alive(s.Name) {
			y.t.Errorf("booting %s: %v\n%s", s.Name, err, log)
		}
	})
}

func (y *yard) alive(name string) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	_, was := y.run[name]
	return !was || y.run[name] != nil
}

var bootKey = regexp.MustCompile(`(?m)^\s*(AUTH_KEY|WORD)='?([^'\s]+)'?$`)

// join does what the machine's script does with its keys.
func (y *yard) join(name string, userData []byte, log *lockedBuffer) error {
	text, err := unzipped(userData)
	if err != nil {
		return err
	}
	keys := map[string]string{}
	for _, m := range bootKey.FindAllStringSubmatch(text, -1) {
		keys[m[1]] = m[2]
	}
	slots := regexp.MustCompile(`--slots (\d+)`).FindStringSubmatch(text)
	if len(keys) != 2 || len(slots) != 2 {
		return fmt.Errorf("the user-data has %d keys and slots %v:\n%s", len(keys), slots, text)
	}
	state := filepath.Join(y.dir, name)
	cmd := exec.CommandContext(y.ctx, y.bin, "join", "--name", name, "--state", state, "--setup-only", keys["WORD"])
	cmd.Env = append(os.Environ(), "TS_AUTHKEY="+keys["AUTH_KEY"])
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("joining: %w", err)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if _, gone := y.run[name]; gone {
		return nil
	}
	run := exec.Command(y.bin, "run", "--state", state, "--listen", "off", "--slots", slots[1])
	run.Stdout, run.Stderr = log, log
	if err := run.Start(); err != nil {
		return err
	}
	y.run[name] = run
	return nil
}

func unzipped(userData []byte) (string, error) {
	data, err := base64.StdEncoding.DecodeString(string(userData))
	if err != nil {
		return "", err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}

// scrap takes a server's power away.
func (y *yard) scrap(s hetznertest.Server) { y.end(s.Name) }

func (y *yard) end(name string) {
	y.mu.Lock()
	run := y.run[name]
	y.run[name] = nil
	y.mu.Unlock()
	if run != nil {
		_ = run.Process.Kill() // it may have ended by itself
		_ = run.Wait()
	}
}

// quick is a cloud whose actions take no time, and that boots in the yard.
func (y *yard) quick() hetznertest.Config {
	return hetznertest.Config{CreateTime: -1, StartTime: -1, DeleteTime: -1, OnCreate: y.boot, OnDelete: y.scrap}
}

// buysFor makes a mesh that buys from the cloud, with a project.
func buysFor(t *testing.T, cloud *hetznertest.Cloud) (*testNode, *keysAPI) {
	t.Helper()
	hub := githubtest.StartAt(t, net.JoinHostPort(bridge(t), "0"))
	hub.Create(widget)
	gittest.Push(t, hub.Dir(widget), "main", "first", map[string]string{"README.md": "# widget\n"})
	n, keys := newBuyer(t, cloud, apiFlag(hub)...)
	n.secret("GITHUB_TOKEN", hub.Grant(githubtest.Token{Login: "ana"}))
	must[chat.Project](n, "project", "add", "widget", "--repo", hub.Git.CloneURL(widget), "--mode", "everything", "--publish", "ready")
	n.awaitPool("something for sale", time.Minute, func(p api.PoolInfo) bool { return len(p.Choices) > 0 && p.Stopped == "" })
	return n, keys
}

// TestTenTasksThreeMachines: ten tasks at once, and three machines of two slots
// at most: each runs, those that wait say why, and no slot has two.
func TestTenTasksThreeMachines(t *testing.T) {
	y := newYard(t)
	cloud := hetznertest.Start(t, y.quick())
	n, _ := buysFor(t, cloud)
	ids := map[chat.TaskID]bool{}
	for i := range 10 {
		ids[n.run("widget", shell(fmt.Sprintf("sleep 1; echo %d > %d.txt", i, i))).ID] = true
	}
	explained, most := map[string]bool{}, 0
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(300 * time.Millisecond) {
		done, slots := 0, map[string]chat.TaskID{}
		for _, v := range must[[]taskView](n, "task", "list") {
			if v.State == chat.Failed {
				t.Fatalf("task failed: %+v", v.Failure)
			}
			if v.Turns == 1 && v.Turn == nil || v.State == chat.Idle && v.Turns == 1 {
				done++
			}
			if v.Lease != nil {
				slot := string(v.Lease.Node) + " " + v.Lease.Slot
				if other, taken := slots[slot]; taken {
					t.Errorf("slot %s is of %s and of %s", slot, other, v.ID)
				}
				slots[slot] = v.ID
			}
			if v.State == chat.Queued || v.State == chat.Buying || v.State == chat.Booting {
				explained[must[api.Explanation](n, "task", "explain", string(v.ID)).Reason] = true
			}
		}
		most = max(most, len(slots))
		if done == len(ids) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d tasks are done after %d slots were in use: %+v", done, len(ids), most, explained)
		}
	}
	if got := len(cloud.Ever()); got != 3 || most > 6 {
		t.Errorf("%d machines were bought, and %d slots were in use at once; want 3, and at most 6", got, most)
	}
	var caps int
	for reason := range explained {
		if strings.Contains(reason, "3 of at most 3 machines are bought") {
			caps++
		}
	}
	if caps == 0 {
		t.Errorf("no task was told that there are as many machines as there may be: %v", explained)
	}
	t.Logf("%d slots were in use at once on %d machines; tasks were told %d different sentences", most, len(cloud.Ever()), len(explained))
}

// trap is the way to a cloud on which one call of a kind can be caught.
type trap struct {
	cloud  http.Handler
	mu     sync.Mutex
	kind   string // method and path of the call; empty: none is caught
	when   string // before it is made, after it, or when it was answered
	sprung chan struct{}
}

// set catches the next call of that kind.
func (p *trap) set(kind, when string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kind, p.when, p.sprung = kind, when, make(chan struct{})
	return p.sprung
}

func (p *trap) catches(r *http.Request) (when string, sprung chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kind == "" || !strings.HasPrefix(r.Method+" "+r.URL.Path, p.kind) {
		return "", nil
	}
	p.kind = ""
	return p.when, p.sprung
}

// ServeHTTP implements http.Handler.
func (p *trap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	when, sprung := p.catches(r)
	switch when {
	case "":
		p.cloud.ServeHTTP(w, r)
	case beforeCall:
		close(sprung)
		_, _ = io.Copy(io.Discard, r.Body) // only then the server looks whether the client is there
		<-r.Context().Done()
	case beforeAnswer:
		p.cloud.ServeHTTP(httptest.NewRecorder(), r)
		close(sprung)
		<-r.Context().Done()
	case afterAnswer:
		p.cloud.ServeHTTP(w, r)
		_ = http.NewResponseController(w).Flush() // the leader may be quick enough to take it
		close(sprung)
	}
}

// The moments at which a leader dies.
const (
	beforeCall   = "before the call"
	beforeAnswer = "after the call, before its answer"
	afterAnswer  = "after the answer"
)

// TestTheLeaderDiesWhileItBuys: kill -9 of the leader at each moment of buying
// and of deleting: one server for one task, and none that is left over. What
// the log knows at each of them is the crash matrix of provision/keeper.
func TestTheLeaderDiesWhileItBuys(t *testing.T) {
	y := newYard(t)
	cloud := hetznertest.New(y.quick())
	way := &trap{cloud: cloud}
	srv := httptest.NewServer(way)
	t.Cleanup(srv.Close)
	cloud.URL = srv.URL + "/v1"
	n, _ := buysFor(t, cloud)
	must[api.PoolSettings](n, "pool", "set", "--warm", "0", "--whole-hours=false", "--free", "0")
	for i, when := range []string{beforeCall, beforeAnswer, afterAnswer} {
		sprung := way.set("POST /v1/servers", when)
		id := n.run("widget", shell(fmt.Sprintf("echo %d > %d.txt", i, i))).ID
		n.dies(sprung)
		if v := n.turn(id, 1); v.PullRequest == nil {
			t.Errorf("%s it was made: no pull request", when)
		}
		if got := len(cloud.Ever()); got != i+1 {
			t.Fatalf("%s it was made: %d servers for %d tasks", when, got, i+1)
		}
		sprung = way.set("DELETE /v1/servers", when)
		must[taskView](n, "task", "release", string(id))
		n.dies(sprung)
		p := n.awaitPool("deleted", time.Minute, func(p api.PoolInfo) bool {
			return !slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Bought })
		})
		if left := cloud.Alive(); len(left) > 0 {
			t.Errorf("%s it was deleted: servers are left: %+v", when, left)
		}
		if nodes := must[[]api.Node](n, "node", "list"); len(nodes) != 1 {
			t.Errorf("%s it was deleted: nodes are left: %+v", when, nodes)
		}
		if len(p.Alarms) > 0 {
			t.Errorf("%s it was deleted: %q", when, p.Alarms)
		}
	}
}

// dies kills the node when that happens, and starts it again.
func (n *testNode) dies(when <-chan struct{}) {
	n.t.Helper()
	select {
	case <-when:
		n.again()
	case <-time.After(time.Minute):
		n.t.Fatal(errors.New("the call was never made"))
	}
}
