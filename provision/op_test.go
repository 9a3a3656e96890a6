package provision

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// member is a mesh of core node a and worker b, both started, at index 5.
func member(more ...Command) []Command {
	return append([]Command{found("a"), invite("i1", false, time.Hour), join("i1", "b", false), start("a", "x", 1, 1), start("b", "y", 1, 2)}, more...)
}

const memberShown = "core node a x#1; worker b y#1; invite i1>b; ready a/1; ready b/2"

// TestOps applies commands; the last one's outcome and the pool are checked,
// and that a second apply, a retry with another id, changes nothing.
func TestOps(t *testing.T) {
	other := func(c Command, change func(c *Command)) Command { change(&c); return c }
	for _, c := range []struct {
		name string
		do   []Command
		want string
		err  error
		text string
	}{
		{name: "found", do: []Command{found("a")}, want: "core node a #0"},
		{name: "found twice", do: []Command{found("a"), found("a")}, want: "core node a #0"},
		{name: "found another", do: []Command{found("a"), {Found: &Found{Mesh: "m2", Node: Node{Name: "z"}}}}, want: "core node a #0",
			err: ErrRefused, text: "This is the mesh m1, founded on 1 November 2026 12:00 UTC: start another in a state directory of its own."},
		{name: "found with another node", do: []Command{found("a"), found("b")}, want: "core node a #0", err: ErrRefused},
		{name: "found over a backup", do: member(grant("t1", "b", "b/1"), Command{Found: &Found{Mesh: "m2", Over: "m1", Node: Node{Name: "z"}}}), want: "core node z #0"},
		{name: "found over nothing", do: []Command{{Found: &Found{Mesh: "m2", Over: "m1", Node: Node{Name: "z"}}}}, err: ErrRefused, text: "no mesh m1 here"},
		{name: "found over another", do: []Command{found("a"), {Found: &Found{Mesh: "m2", Over: "m3", Node: Node{Name: "z"}}}}, want: "core node a #0", err: ErrRefused},
		{name: "found with a bad name", do: []Command{found("A b")}, err: ErrInvalid, text: `"A b" cannot be a node's name: use 1 to 63`},
		{name: "found without an id", do: []Command{{Found: &Found{Node: Node{Name: "a"}}}}, err: ErrInvalid},

		{name: "invite", do: []Command{found("a"), invite("i1", true, time.Hour)}, want: "core node a #0; invite i1>"},
		{name: "invite before the mesh", do: []Command{invite("i1", true, time.Hour)}, err: ErrRefused, text: "samnode init"},
		{name: "invite into the past", do: []Command{found("a"), invite("i1", true, 0)}, want: "core node a #0", err: ErrInvalid, text: "would have run out"},
		{name: "invite with the secret itself", do: []Command{found("a"), {Invite: &Invite{ID: "i1", Hash: "secret", Expires: t0.Add(time.Hour)}}}, want: "core node a #0", err: ErrInvalid},
		{name: "invite with an id in use", do: []Command{found("a"), invite("i1", true, time.Hour), {Invite: &Invite{ID: "i1", Hash: hash("z"), Expires: t0.Add(time.Hour)}}},
			want: "core node a #0; invite i1>", err: ErrRefused},
		{name: "invitations that ran out are dropped", do: []Command{found("a"), invite("i1", true, 3*time.Second), invite("i2", true, 5*time.Second), invite("i3", true, time.Hour), invite("i4", true, time.Hour)},
			want: "core node a #0; invite i3>; invite i4>"},
		{name: "uninvite", do: []Command{found("a"), invite("i1", true, time.Hour), {Uninvite: &Uninvite{ID: "i1"}}}, want: "core node a #0"},
		{name: "uninvite the unknown", do: []Command{found("a"), {Uninvite: &Uninvite{ID: "i1"}}}, want: "core node a #0", err: ErrNotFound},
		{name: "uninvite a member", do: member(Command{Uninvite: &Uninvite{ID: "i1"}}), want: memberShown, err: ErrRefused, text: "samnode node remove b"},

		{name: "join as a core node", do: []Command{found("a"), invite("i1", true, time.Hour), join("i1", "b", true)}, want: "core node a #0; core node b #0; invite i1>b"},
		{name: "join as a worker with a core node's invitation", do: []Command{found("a"), invite("i1", true, time.Hour), join("i1", "b", false)}, want: "core node a #0; worker b #0; invite i1>b"},
		{name: "join again", do: member(join("i1", "b", false)), want: memberShown},
		{name: "join again after the invitation ran out", do: []Command{found("a"), invite("i1", false, 4*time.Second), join("i1", "b", false), invite("i2", false, time.Hour), join("i1", "b", false)},
			want: "core node a #0; worker b #0; invite i2>"},
		{name: "join again with another invitation", do: member(invite("i2", false, time.Hour), join("i2", "b", false)), want: "core node a x#1; worker b y#1; invite i1>b; invite i2>; ready a/1; ready b/2"},
		{name: "join again as something else", do: member(invite("i2", true, time.Hour), join("i2", "b", true)), want: "core node a x#1; worker b y#1; invite i1>b; invite i2>; ready a/1; ready b/2",
			err: ErrRefused, text: "Node b is in this mesh already, as a worker: to change that, remove it first (samnode node remove b)."},
		{name: "join with a used invitation", do: member(join("i1", "c", false)), want: memberShown, err: ErrRefused, text: "Node b has joined with this invitation, and each works once. Ask for a new one: samnode node invite"},
		{name: "join with an unknown invitation", do: member(join("i9", "c", false)), want: memberShown, err: ErrNotFound, text: "Ask for a new one: samnode node invite"},
		{name: "join with a wrong secret", do: []Command{found("a"), invite("i1", false, time.Hour), other(join("i1", "b", false), func(c *Command) { c.Join.Hash = hash("z") })},
			want: "core node a #0; invite i1>", err: ErrRefused, text: "secret is not right"},
		{name: "join too late", do: []Command{found("a"), invite("i1", false, 3*time.Second), join("i1", "b", false)}, want: "core node a #0; invite i1>", err: ErrRefused,
			text: "This invitation ran out on 1 November 2026 12:00 UTC. Ask for a new one: samnode node invite"},
		{name: "join as a core node with a worker's invitation", do: []Command{found("a"), invite("i1", false, time.Hour), join("i1", "b", true)}, want: "core node a #0; invite i1>", err: ErrRefused,
			text: "This invitation is for a worker. Join without --core, or ask for a new one: samnode node invite --core"},
		{name: "join under a name that is taken", do: []Command{found("a"), invite("i1", false, time.Hour), invite("i2", false, time.Hour), join("i1", "a-2", false), other(join("i2", "a", false), func(c *Command) { c.Join.Node.Addr = "elsewhere" })},
			want: "core node a #0; worker a-2 #0; invite i1>a-2; invite i2>", err: ErrRefused, text: "The mesh has a node a, at addr-a: join as a-3 (samnode join --name a-3), or remove the other first (samnode node remove a)."},
		{name: "join without an address", do: []Command{found("a"), invite("i1", false, time.Hour), {Join: &Join{Invite: "i1", Hash: hash("i1"), Node: Node{Name: "b"}}}}, want: "core node a #0; invite i1>", err: ErrInvalid},
		{name: "join without a mesh", do: []Command{join("i1", "b", false)}, err: ErrRefused, text: "samnode init"},
		{name: "join with a long address", do: []Command{found("a"), invite("i1", false, time.Hour), other(join("i1", "b", false), func(c *Command) { c.Join.Node.Addr = strings.Repeat("x", 2000) })},
			want: "core node a #0; invite i1>", err: ErrInvalid, text: "too long"},

		{name: "start", do: member(), want: memberShown},
		{name: "start a stranger", do: []Command{found("a"), start("b", "y", 1, 2)}, want: "core node a #0", err: ErrNotFound, text: "Ask for an invitation: samnode node invite"},
		{name: "a restart keeps leases and draining", do: member(grant("t1", "b", "b/2"), drain("b", true), start("b", "z", 2, 3)),
			want: "core node a x#1; worker b z#2; invite i1>b; ready a/1; draining b/3; b/2=t1@6 renewed 8"},
		{name: "a copy of the state directory starts", do: member(start("b", "z", 1, 2)), want: memberShown, err: ErrStale,
			text: "This state directory was copied: another samnode runs as node b since 1 November 2026 12:00 UTC. Stop one of them, remove the copy and join it as a new node."},
		{name: "an older copy starts", do: member(start("b", "z", 3, 2), start("b", "w", 2, 2)), want: "core node a x#1; worker b z#3; invite i1>b; ready a/1; ready b/2", err: ErrStale},
		{name: "start without a boot", do: member(start("b", "", 2, 2)), want: memberShown, err: ErrInvalid},
		{name: "start with too many slots", do: member(start("b", "z", 2, 5000)), want: memberShown, err: ErrInvalid, text: "0 to 1024 slots"},

		{name: "beats renew", do: member(grant("t1", "b", "b/1"), grant("t2", "b", "b/2"), grant("t3", "a", "a/1"), beats(Beat{Node: "b", Boot: "y"}, Beat{Node: "a", Boot: "old"}, Beat{Node: "c", Boot: "y"})),
			want: memberShown + "; a/1=t3@8 renewed 8; b/1=t1@6 renewed 9; b/2=t2@7 renewed 9"},
		{name: "a beat before the start", do: []Command{found("a"), beats(Beat{Node: "a"})}, want: "core node a #0"},

		{name: "drain", do: member(drain("b", true)), want: "core node a x#1; worker b y#1; invite i1>b; ready a/1; draining b/2"},
		{name: "drain no more", do: member(drain("b", true), drain("b", false)), want: memberShown},
		{name: "drain a stranger", do: member(drain("c", true)), want: memberShown, err: ErrNotFound},
		{name: "drain what never started", do: []Command{found("a"), drain("a", true)}, want: "core node a #0", err: ErrRefused},
		{name: "remove", do: member(grant("t1", "b", "b/1"), grant("t2", "a", "a/1"), remove("b")), want: "core node a x#1; invite i1>b; ready a/1; a/1=t2@7 renewed 7; b/1=t1@6 renewed 6"},
		{name: "remove a stranger", do: member(remove("c")), want: memberShown, err: ErrNotFound},
		{name: "remove the last core node", do: member(remove("a")), want: memberShown, err: ErrRefused, text: "Node a is the last core node"},
		{name: "a removed name joins again", do: member(remove("b"), invite("i2", false, time.Hour), join("i2", "b", false)), want: "core node a x#1; worker b #0; invite i1>b; invite i2>b; ready a/1"},
		{name: "but not while it has leases", do: member(grant("t1", "b", "b/1"), remove("b"), invite("i2", false, time.Hour), join("i2", "b", false)),
			want: "core node a x#1; invite i1>b; invite i2>; ready a/1; b/1=t1@6 renewed 6", err: ErrRefused, text: "or as b-2"},
		{name: "then it does", do: member(grant("t1", "b", "b/1"), remove("b"), invite("i2", false, time.Hour), release("t1", 6, 6), join("i2", "b", false)),
			want: "core node a x#1; worker b #0; invite i1>b; invite i2>b; ready a/1"},
		{name: "a removed node gets no leases", do: member(remove("b"), grant("t1", "b", "b/1")), want: "core node a x#1; invite i1>b; ready a/1", err: ErrNotFound},
		{name: "nor renews any", do: member(grant("t1", "b", "b/1"), remove("b"), beats(Beat{Node: "b", Boot: "y"})), want: "core node a x#1; invite i1>b; ready a/1; b/1=t1@6 renewed 6"},
		{name: "not with the old invitation", do: member(remove("b"), join("i1", "b", false)), want: "core node a x#1; invite i1>b; ready a/1", err: ErrRefused, text: "each works once"},

		{name: "grant", do: member(grant("t1", "b", "b/1")), want: memberShown + "; b/1=t1@6 renewed 6"},
		{name: "first grant wins", do: member(grant("t1", "b", "b/1"), grant("t2", "b", "b/1")), want: memberShown + "; b/1=t1@6 renewed 6", err: ErrRefused, text: "Slot b/1 is not free."},
		{name: "one lease a task", do: member(grant("t1", "b", "b/1"), grant("t1", "b", "b/2")), want: memberShown + "; b/1=t1@6 renewed 6", err: ErrRefused, text: "The task has slot b/1 already."},
		{name: "unknown slot", do: member(grant("t1", "b", "b/3")), want: memberShown, err: ErrRefused},
		{name: "unknown machine", do: member(grant("t1", "c", "c/1")), want: memberShown, err: ErrNotFound},
		{name: "a draining machine takes none", do: member(drain("b", true), grant("t1", "b", "b/1")), want: "core node a x#1; worker b y#1; invite i1>b; ready a/1; draining b/2",
			err: ErrRefused, text: "Machine b takes no new leases: it is draining."},
		{name: "release by token", do: member(grant("t1", "b", "b/1"), release("t1", 6, 0)), want: memberShown},
		{name: "a stale token changes nothing", do: member(grant("t1", "b", "b/1"), release("t1", 5, 0)), want: memberShown + "; b/1=t1@6 renewed 6", err: ErrStale},
		{name: "expire", do: member(grant("t1", "b", "b/1"), beats(Beat{Node: "b", Boot: "y"}), release("t1", 6, 7)), want: memberShown},
		{name: "a renewed lease does not expire", do: member(grant("t1", "b", "b/1"), beats(Beat{Node: "b", Boot: "y"}), release("t1", 6, 6)), want: memberShown + "; b/1=t1@6 renewed 7",
			err: ErrStale, text: "Node b has renewed its leases."},
	} {
		t.Run(c.name, func(t *testing.T) { checkOps(t, c.do, c.want, c.err, c.text) })
	}
}

func checkOps(t *testing.T, do []Command, want string, wantErr error, text string) {
	t.Helper()
	last := len(do) - 1
	s, before := build(t, do[:last]...)
	command := do[last]
	command.ID = "last"
	p := apply(t, s, uint64(last+1), command)
	out, _ := s.Outcome("last")
	if got := show(p); got != want {
		t.Errorf("pool = %s\nwant   %s", got, want)
	}
	if err := out.Err(); !errors.Is(err, wantErr) || (err != nil && !strings.Contains(err.Error(), text)) {
		t.Errorf("outcome = %v, want %v: %s", err, wantErr, text)
	}
	if out.Code != CodeNone && show(p) != show(before) {
		t.Errorf("a refused command changed %s to %s", show(before), show(p))
	}
	command.ID = "retry"
	again := apply(t, s, uint64(last+1), command)
	if got := show(again); got != want {
		t.Errorf("applied twice, pool = %s\nwant %s", got, want)
	}
}

// TestNodeFields checks what the words of TestOps leave out.
func TestNodeFields(t *testing.T) {
	long := Report{Used: 1, Load: 0.5, DiskFree: 1 << 40, Unfit: strings.Repeat("ü", 150)}
	for range 20 {
		long.Warnings = append(long.Warnings, strings.Repeat("ä", 150))
	}
	s, p := build(t, member(beats(Beat{Node: "b", Boot: "y", Report: &long}), beats(Beat{Node: "b", Boot: "y"}))...)
	n, ok := p.Node("b")
	second := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Second) }
	if !ok || n.Person != "ann@example.com" || n.Invite != "i1" || n.Addr != "addr-b" || n.Version != "1.0" ||
		!n.Joined.Equal(second(3)) || !n.Started.Equal(second(5)) || !n.Beat.Equal(second(7)) || n.Index != 7 {
		t.Errorf("node = %+v", n)
	}
	if r := n.Report; r == nil || r.Used != 1 || !strings.HasSuffix(r.Unfit, "…") || len(r.Warnings) != maxWarnings || r.Warnings[0] != strings.Repeat("ä", 100)+"…" {
		t.Errorf("report = %+v", r)
	}
	if i := p.Invites[0]; i.Node != "b" || !i.Used.Equal(second(3)) || !i.Made.Equal(second(2)) || i.By != "ann@example.com" {
		t.Errorf("invitation = %+v", i)
	}
	if m, _ := p.Machine("b"); m.CPUs != 2 || m.Mem != 4<<30 || !m.Since.Equal(second(5)) {
		t.Errorf("machine = %+v", m)
	}
	if p.Mesh != (Mesh{ID: "m1", Founded: second(1)}) {
		t.Errorf("mesh = %+v", p.Mesh)
	}
	p = apply(t, s, 8, start("b", "z", 2, 2))
	if n, _ := p.Node("b"); !n.Started.Equal(second(8)) || !n.Joined.Equal(second(3)) || n.Report != nil {
		t.Errorf("after a restart node = %+v", n)
	}
	p = apply(t, s, 9, start("b", "z", 2, 2))
	if n, _ := p.Node("b"); !n.Started.Equal(second(8)) || !n.Beat.Equal(second(9)) {
		t.Errorf("after a second start of the same process node = %+v", n)
	}
}

func TestTooManyInvitations(t *testing.T) {
	s, _ := build(t, found("a"))
	var p Pool
	for i := range MaxInvites + 1 {
		c := invite(fmt.Sprintf("i%04d", i), false, time.Hour)
		c.ID = fmt.Sprint("c", i)
		p = apply(t, s, 2, c)
	}
	out, _ := s.Outcome(fmt.Sprint("c", MaxInvites))
	if len(p.Invites) != MaxInvites || !errors.Is(out.Err(), ErrRefused) {
		t.Errorf("%d invitations, the last: %v", len(p.Invites), out.Err())
	}
	if p = apply(t, s, 4000, invite("z", false, 2*time.Hour)); len(p.Invites) != 1 {
		t.Errorf("%d invitations after all others ran out", len(p.Invites))
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "1": true, "laptop-2": true, strings.Repeat("x", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false, "ä": false, "a b": false, strings.Repeat("x", 64): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	long := strings.Repeat("x", 63)
	p := Pool{Nodes: []Node{{Name: long}}}
	if got := p.freeName(long); got != strings.Repeat("x", 61)+"-2" || CheckName(got) != nil {
		t.Errorf("freeName = %s", got)
	}
}
