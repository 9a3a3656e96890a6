package ui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// nodesView is the page of all nodes.
type nodesView struct {
	Summary     string
	Advice      []string
	Nodes       []nodeView
	Problem     string // why there are none
	May         bool   // the person may change them
	CanInvite   bool
	Made        *invitationView // shown once
	Invitations []invitationView
	Form        inviteForm
}

// nodeView is one node as a card shows it.
type nodeView struct {
	Name, URL, DOM string
	Chip           chip
	Role           string
	Self           bool
	Since          string // RFC 3339, online or silent since
	SinceWord      string
	Long           string // how long, when the page was made
	Version, Old   string // Old: what it should be upgraded to
	Slots          string
	Tasks          []link
	Meters         []meter
	Path           string
	Log, LogTone   string
	Warnings       []string
	Draining       bool
	CanChange      bool
}

// meter is a share of something as a bar with figures beside it.
type meter struct {
	Name, Text, Width, Tone string // Width in hundredths
}

const (
	meterWarns = 80 // hundredths
	meterBad   = 90
	tasksShown = 8 // of a node's, on its card
	lagWarns   = 100
)

// nodesView fills the page; owner says whether the caller may change things.
func (s *Server) nodesView(a around, owner bool) nodesView {
	v := nodesView{Advice: a.advice(), May: owner && s.NodeKeeper != nil, CanInvite: owner && s.Invitations != nil}
	newest, old := api.Outdated(a.Nodes)
	for _, n := range a.Nodes {
		card := s.nodeCard(n, s.Room.Now())
		card.CanChange = v.May
		if slices.Contains(old, n.Name) {
			card.Old = visible(newest)
		}
		v.Nodes = append(v.Nodes, card)
	}
	v.Summary = summaryOf(a)
	return v
}

func summaryOf(a around) string {
	silent, slots, used := 0, 0, 0
	for _, n := range a.Nodes {
		slots, used = slots+n.Slots, used+n.Used
		if !n.Online {
			silent++
		}
	}
	words := []string{plural(len(a.Nodes), "node")}
	if silent > 0 {
		words = append(words, strconv.Itoa(silent)+" silent")
	}
	words = append(words, fmt.Sprintf("%d of %s used", used, plural(slots, "slot")))
	if a.Mesh.Leader != "" {
		words = append(words, "leader "+visible(a.Mesh.Leader))
	} else {
		words = append(words, "no leader")
	}
	return strings.Join(words, " · ")
}

func (s *Server) nodeCard(n api.Node, now time.Time) nodeView {
	v := nodeView{
		Name: line(n.Name, 63), URL: "/nodes/" + escapePath(n.Name), DOM: "node-" + n.Name, Chip: nodeChip(n), Role: roleOf(n),
		Self: n.Self, Version: line(n.Version, 40), Draining: n.Draining, Path: pathWords(n),
		Slots: fmt.Sprintf("%d of %s", n.Used, plural(n.Slots, "slot")),
	}
	if !n.Since.IsZero() {
		v.Since, v.SinceWord, v.Long = stamp(n.Since), "online for", length(now.Sub(n.Since))
		if !n.Online {
			v.SinceWord = "silent for"
		}
	}
	if n.Slots == 0 {
		v.Slots = "no slots"
	}
	for i, l := range n.Leases {
		if i == tasksShown {
			v.Tasks = append(v.Tasks, link{Name: fmt.Sprintf("%d more", len(n.Leases)-i), URL: v.URL})
			break
		}
		v.Tasks = append(v.Tasks, link{Name: s.titleOf(l.Task), URL: "/t/" + string(l.Task)})
	}
	v.Log, v.LogTone = logWords(n)
	v.Meters = meters(n.Load)
	for _, w := range n.Warnings {
		v.Warnings = append(v.Warnings, visible(w))
	}
	return v
}

// titleOf is a task's title, or its id where this node does not know it.
func (s *Server) titleOf(id chat.TaskID) string {
	t, err := s.Room.Task(string(id))
	if err != nil {
		return string(id)
	}
	return line(t.Title, 60)
}

func nodeChip(n api.Node) chip {
	switch {
	case !n.Online:
		return chip{Shape: "cross", Word: "Silent", Tone: "fail", Title: "it has not been heard of"}
	case n.Draining && n.Used > 0:
		return chip{Shape: "up", Word: "Draining, " + plural(n.Used, "task") + " left", Tone: "needs", Title: "it gets no new task"}
	case n.Draining:
		return chip{Shape: "up", Word: "Drained", Tone: "needs", Title: "it gets no new task and has none"}
	}
	return chip{Shape: "dot", Word: "Online", Tone: "ok"}
}

func roleOf(n api.Node) string {
	switch {
	case n.Leader:
		return "leader"
	case n.Core && n.Voter:
		return "voter"
	case n.Core:
		return "spare"
	}
	return "worker"
}

func pathWords(n api.Node) string {
	switch {
	case n.Self:
		return "this node"
	case n.Path == nil:
		return "path unknown"
	}
	return wayWords(n.Path)
}

func wayWords(p *api.Path) string {
	if p == nil {
		return "unknown"
	}
	way := "direct"
	if !p.Direct {
		way = strings.TrimSpace("by relay " + line(p.Relay, 20))
	}
	if p.LatencyMS > 0 {
		way += ", " + millis(p.LatencyMS)
	}
	return way
}

// millis is a latency: 0.4 ms, 12 ms.
func millis(ms float64) string {
	if ms < 10 {
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	}
	return strconv.Itoa(int(ms)) + " ms"
}

func logWords(n api.Node) (words, tone string) {
	switch {
	case !n.Core:
		return "asks core nodes", "faint"
	case n.Lag >= lagWarns:
		return entriesOf(n.Lag) + " behind", "c-needs"
	case n.Index == 0:
		return "log unknown", "faint"
	}
	return "index " + thousands(n.Index), "faint"
}

func meters(l *api.Load) []meter {
	if l == nil {
		return nil
	}
	out := []meter{newMeter("CPU", l.Load, float64(l.CPUs), strconv.FormatFloat(l.Load, 'f', 1, 64)+" of "+strconv.Itoa(l.CPUs))}
	out = append(out, newMeter("Memory", float64(l.Memory), float64(l.MemoryMax), ofSize(l.Memory, l.MemoryMax)))
	return append(out, newMeter("Disk", float64(l.Disk), float64(l.DiskMax), ofSize(l.Disk, l.DiskMax)))
}

func ofSize(n, most int64) string {
	if most == 0 {
		return size(n)
	}
	return size(n) + " of " + size(most)
}

func newMeter(name string, n, most float64, text string) meter {
	share := 0
	if most > 0 {
		share = int(min(100, max(0, 100*n/most)))
	}
	m := meter{Name: name, Text: text, Width: strconv.Itoa(share), Tone: "c-quiet"}
	switch {
	case share >= meterBad:
		m.Tone = "c-fail"
	case share >= meterWarns:
		m.Tone = "c-needs"
	}
	return m
}

// nodeDetail is one node's page.
type nodeDetail struct {
	Node    nodeView
	Asleep  string // why only what others know is shown
	Pages   string // where the node's own are
	Raft    []fact
	Machine []fact
	Peers   []peerView
	Leases  []leaseView
	Recent  []eventView
}

type (
	peerView  struct{ Name, URL, Contact, Ago, Lag, Path string }
	leaseView struct{ Title, URL, Slot, Token, Since, Age string }
	eventView struct{ At, Clock, Text string }
)

func (s *Server) nodeDetail(d api.NodeDetail, a around) nodeDetail {
	now := s.Room.Now()
	v := nodeDetail{Node: s.nodeCard(d.Node, now), Raft: raftFacts(d), Machine: machineFacts(d, now)}
	if newest, old := api.Outdated(a.Nodes); slices.Contains(old, d.Name) {
		v.Node.Old = visible(newest)
	}
	if !d.Self {
		v.Pages = d.Origin()
	}
	for _, p := range d.Peers {
		peer := peerView{Name: line(p.Node, 63), URL: "/nodes/" + escapePath(p.Node), Lag: thousands(p.Lag), Path: wayWords(p.Path), Ago: "never"}
		if !p.Contact.IsZero() {
			peer.Contact, peer.Ago = stamp(p.Contact), length(now.Sub(p.Contact))
		}
		v.Peers = append(v.Peers, peer)
	}
	for _, l := range d.Leases {
		v.Leases = append(v.Leases, leaseView{
			s.titleOf(l.Task), "/t/" + string(l.Task), line(l.Slot, 40), strconv.FormatUint(l.Token, 10), stamp(l.Since), length(now.Sub(l.Since)),
		})
	}
	for _, e := range d.Recent {
		v.Recent = append(v.Recent, eventView{stamp(e.At), clock(e.At), line(e.Text, 400)})
	}
	return v
}

func raftFacts(d api.NodeDetail) []fact {
	r := d.Raft
	if r == nil {
		return nil
	}
	return []fact{
		{"Role", line(r.Role, 20)},
		{"Term", thousands(r.Term)},
		{"Last index", thousands(r.Last)},
		{"Committed", thousands(r.Commit)},
		{"Applied", thousands(r.Applied)},
		{"Snapshot at", thousands(r.Snapshot)},
		{"Behind the leader", entriesOf(d.Lag)},
	}
}

func machineFacts(d api.NodeDetail, now time.Time) []fact {
	f := []fact{{"Version", line(d.Version, 60)}, {"System", line(d.System, 80)}, {"Docker", line(d.Docker, 200)}, {"Path", pathWords(d.Node)}}
	if !d.Started.IsZero() {
		f = append(f, fact{"Started", absolute(d.Started) + ", " + length(now.Sub(d.Started)) + " ago"})
	}
	out := f[:0]
	for _, x := range f {
		if x.Value != "" {
			out = append(out, x)
		}
	}
	return out
}
