package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// apply applies a command at index, as many seconds after t0.
func apply(t testing.TB, s *State, index uint64, c Command) Pool {
	t.Helper()
	c.Version = Version
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(index, t0.Add(time.Duration(index)*time.Second), data); err != nil {
		t.Fatal(err)
	}
	p, _ := s.Pool()
	return p
}

// build applies commands from index 1 on.
func build(t testing.TB, commands ...Command) (*State, Pool) {
	t.Helper()
	s := NewState()
	var p Pool
	for i, c := range commands {
		p = apply(t, s, uint64(i+1), c)
	}
	return s, p
}

// hash stands for the SHA-256 of a secret.
func hash(secret string) string { return strings.Repeat(fmt.Sprintf("%02x", secret[0]), 32) }

func found(node string) Command {
	return Command{Found: &Found{Mesh: "m1", Node: Node{Name: node, Addr: "addr-" + node}}}
}

func invite(id string, core bool, expires time.Duration) Command {
	return Command{Invite: &Invite{ID: id, Hash: hash(id), Core: core, By: "ann@example.com", Expires: t0.Add(expires)}}
}

func join(id, node string, core bool) Command {
	return Command{Join: &Join{Invite: id, Hash: hash(id), Node: Node{Name: node, Addr: "addr-" + node, Core: core, Version: "1.0"}}}
}

func start(node, boot string, generation uint64, slots int) Command {
	return Command{Start: &Start{Node: node, Addr: "addr-" + node, Boot: boot, Generation: generation, Version: "1.0", Slots: slots, CPUs: 2, Mem: 4 << 30}}
}

func beats(list ...Beat) Command { return Command{Beats: &Beats{Beats: list}} }

// machine is the op of the time before there was a mesh.
func machine(node string, slots int) Command {
	return Command{Machine: &Machine{Node: node, State: Ready, Slots: slots}}
}

func drain(node string, on bool) Command { return Command{Drain: &Drain{Node: node, On: on}} }

func remove(node string) Command { return Command{Remove: &Remove{Node: node}} }

func grant(task, node, slot string) Command {
	return Command{Grant: &Grant{Task: task, Node: node, Slot: slot}}
}

func release(task string, token, index uint64) Command {
	return Command{Release: &Release{Task: task, Token: token, Index: index}}
}

// show writes a pool in few words.
func show(p Pool) string {
	var b strings.Builder
	for _, n := range p.Nodes {
		fmt.Fprintf(&b, "%s %s %s#%d; ", n.kind(), n.Name, n.Boot, n.Generation)
	}
	for _, i := range p.Invites {
		fmt.Fprintf(&b, "invite %s>%s; ", i.ID, i.Node)
	}
	for _, m := range p.Machines {
		fmt.Fprintf(&b, "%s %s/%d; ", m.State, m.Node, m.Slots)
	}
	for _, o := range p.Ops {
		fmt.Fprintf(&b, "%s %s %s#%d; ", o.Kind, o.ID, o.State, o.Attempt)
	}
	if p.Breaker.Reason != "" {
		fmt.Fprintf(&b, "breaker %s#%d; ", p.Breaker.Trouble, p.Breaker.Strikes)
	}
	for _, l := range p.Leases {
		fmt.Fprintf(&b, "%s=%s@%d renewed %d; ", l.Slot, l.Task, l.Token, l.Index)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestUnknownCommandStopsTheNode(t *testing.T) {
	for _, data := range []string{
		`{"v":2,"grant":{}}`, `{"v":1,"sell":{}}`, `{"v":1}`, `{"v":1,"grant":{},"release":{}}`, `x`, ``,
		`{"v":1,"start":{"gpu":1}}`, `{"v":1,"beats":{"beats":[{"report":{"heat":3}}]}}`,
	} {
		if err := NewState().Apply(1, t0, []byte(data)); !errors.Is(err, ErrNewer) {
			t.Errorf("Apply(%s) = %v, want ErrNewer", data, err)
		}
	}
	if err := NewState().Restore(strings.NewReader(`{"index":3,"robots":[]}`)); !errors.Is(err, ErrNewer) {
		t.Errorf("Restore(newer) = %v, want ErrNewer", err)
	}
}

// TestOldLog reads what a lone node wrote before there was a mesh, and founds
// one on it: the node goes on with its lease.
func TestOldLog(t *testing.T) {
	s := NewState()
	if err := s.Restore(strings.NewReader(`{"machines":[{"node":"a","state":"ready","slots":2,"cpus":0,"mem":0,"since":"2026-10-01T12:00:00Z"},
		{"node":"old","state":"ready","slots":1,"cpus":0,"mem":0,"since":"2026-10-01T12:00:00Z"}],
		"leases":[{"task":"t1","node":"a","slot":"a/1","token":2,"since":"2026-10-01T12:00:00Z"},
		{"task":"t2","node":"old","slot":"old/1","token":3,"since":"2026-10-01T12:00:00Z"}],"index":3}`)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, 4, machine("a", 3))
	apply(t, s, 5, found("a"))
	p := apply(t, s, 6, start("a", "x", 1, 2))
	if got, want := show(p), "core node a x#1; ready a/2; a/1=t1@2 renewed 6"; got != want {
		t.Errorf("pool = %s, want %s", got, want)
	}
	if got := show(apply(t, s, 7, machine("b", 3))); got != show(p) {
		t.Errorf("a lone node's machine came into a mesh: %s", got)
	}
}

// TestOutcomes asks what became of commands: the first apply of an id counts,
// and only the newest are remembered.
func TestOutcomes(t *testing.T) {
	s, _ := build(t, found("a"))
	c := remove("a")
	c.ID = "c1"
	apply(t, s, 2, c)
	out, ok := s.Outcome("c1")
	if !ok || out.Index != 2 || !errors.Is(out.Err(), ErrRefused) || !strings.Contains(out.Err().Error(), "last core node") {
		t.Fatalf("outcome = %+v", out)
	}
	if again, ok := Refusal(fmt.Errorf("removing: %w", out.Err())); !ok || again.Code != out.Code || again.Text != out.Text {
		t.Errorf("Refusal = %+v, %t", again, ok)
	}
	if _, ok := Refusal(errors.New("disk")); ok {
		t.Error("a failure passed for a refusal")
	}
	same := start("a", "x", 1, 2)
	same.ID = "c1"
	if p := apply(t, s, 3, same); len(p.Machines) > 0 {
		t.Errorf("a second command of the same id was applied: %s", show(p))
	}
	for i := range uint64(MaxCommands) {
		c := drain("nobody", true)
		c.ID = fmt.Sprint("d", i)
		apply(t, s, 4+i, c)
	}
	if _, ok := s.Outcome("c1"); ok || len(s.outcomes.byID) != MaxCommands || len(s.outcomes.list) != MaxCommands {
		t.Errorf("%d and %d outcomes are remembered, the first: %t", len(s.outcomes.byID), len(s.outcomes.list), ok)
	}
	if out, ok := s.Outcome("d0"); !ok || !errors.Is(out.Err(), ErrNotFound) {
		t.Errorf("outcome of d0 = %+v, %t", out, ok)
	}
	if _, ok := s.Outcome(""); ok {
		t.Error("commands without an id have an outcome")
	}
}

// TestReaders keeps a pool while the state goes on, and waits for the change.
func TestReaders(t *testing.T) {
	s, _ := build(t, found("a"), start("a", "x", 1, 2), invite("i1", false, time.Hour), grant("t1", "a", "a/2"))
	before, changed := s.Pool()
	was := show(before)
	apply(t, s, 5, beats(Beat{Node: "a", Boot: "x", Report: &Report{Used: 1}})) // first: an insert may move the list
	apply(t, s, 6, drain("a", true))
	apply(t, s, 7, grant("t2", "a", "a/1"))
	apply(t, s, 8, join("i1", "b", false))
	if got := show(before); got != was || before.Nodes[0].Report != nil {
		t.Errorf("a reader's pool changed to %s", got)
	}
	select {
	case <-changed:
	default:
		t.Error("the reader was not told")
	}
}
