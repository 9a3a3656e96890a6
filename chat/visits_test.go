package chat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

func visit(id string, minute int, change ...func(*chat.Visit)) chat.Visit {
	v := chat.Visit{ID: id, Person: "ana@x", Device: "laptop", By: chat.VisitShell, What: "t1", Began: epoch.Add(time.Duration(minute) * time.Minute)}
	for _, c := range change {
		c(&v)
	}
	return v
}

func over(v *chat.Visit) { v.Ended = v.Began.Add(time.Minute) }

func visitsOf(line *chat.Line, list ...chat.Visit) chat.Op {
	return chat.Op{Visits: &chat.Visits{Task: taskID, Visits: list, Line: line}}
}

// TestVisits: who was in a workspace, also after its lease has ended.
func TestVisits(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	stay := func(text string) *chat.Line { return &chat.Line{ID: "stay-1", Text: text} }
	k.Must(t, node, visitsOf(stay("Ana is here."), visit("a", 1), visit("b", 2)))
	before := len(k.Messages.All(taskID))
	k.Must(t, node, visitsOf(stay("Ana was here."), visit("a", 1, over, func(v *chat.Visit) { v.Bytes, v.Count = 7, 3 })))
	k.Must(t, node, visitsOf(nil))
	want := []chat.Visit{visit("a", 1, over), visit("b", 2)}
	want[0].Node, want[1].Node, want[0].Bytes, want[0].Count = node.Node, node.Node, 7, 3
	if diff := cmp.Diff(want, k.Visits(taskID)); diff != "" {
		t.Errorf("visits (-want +got):\n%s", diff)
	}
	all := k.Messages.All(taskID)
	if last := all[len(all)-1]; len(all) != before || last.Text != "Ana was here." || last.Kind != chat.KindStatus || *last.Author != node {
		t.Errorf("the line is %+v", last)
	}
	k.Visits(taskID)[0].Person = "eve@x"
	if k.Visits(taskID)[0].Person != "ana@x" {
		t.Error("a reader changed the state")
	}
	other := chat.Author{Node: "other"}
	for name, c := range map[string]struct {
		by       chat.Author
		op       chat.Op
		want     error
		sentence string
	}{
		"by a person":          {ana, visitsOf(nil, visit("c", 3)), chat.ErrInvalid, "Nodes say"},
		"of another node":      {other, visitsOf(nil, visit("a", 1)), chat.ErrRefused, "which alone knows more"},
		"another node's line":  {other, visitsOf(stay("Eve!")), chat.ErrRefused, "not this node's"},
		"a message of people":  {node, visitsOf(&chat.Line{ID: all[0].ID, Text: "Eve!"}), chat.ErrRefused, "not this node's"},
		"an unknown task":      {node, chat.Op{Visits: &chat.Visits{Task: "none"}}, chat.ErrNotFound, "no task"},
		"nobody":               {node, visitsOf(nil, visit("c", 3, func(v *chat.Visit) { v.Person = "" })), chat.ErrInvalid, "who visits"},
		"by no way":            {node, visitsOf(nil, visit("c", 3, func(v *chat.Visit) { v.By = "magic" })), chat.ErrInvalid, "no way"},
		"that ends first":      {node, visitsOf(nil, visit("c", 3, func(v *chat.Visit) { v.Ended = epoch })), chat.ErrInvalid, "begins before"},
		"without an id":        {node, visitsOf(nil, visit("", 3)), chat.ErrInvalid, "needs an id"},
		"with a control in it": {node, visitsOf(nil, visit("a\nb", 3)), chat.ErrInvalid, "needs an id"},
		"too many":             {node, visitsOf(nil, make([]chat.Visit, 1000)...), chat.ErrTooLarge, "at most"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, k, c.by, c.op, c.want, c.sentence) })
	}
}

// Visits are bounded, and what goes on is not forgotten before what is over.
func TestVisitsAreBounded(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Must(t, node, visitsOf(nil, visit("long", 0)))
	for i := range 3 * chat.MaxVisits {
		k.Must(t, node, visitsOf(nil, visit(fmt.Sprint("v", i), i+1, over, func(v *chat.Visit) { v.What = strings.Repeat("x\x1b", 300) })))
	}
	got := k.Visits(taskID)
	if len(got) != chat.MaxVisits || got[0].ID != "long" || got[len(got)-1].ID != fmt.Sprint("v", 3*chat.MaxVisits-1) {
		t.Errorf("%d visits from %s to %s", len(got), got[0].ID, got[len(got)-1].ID)
	}
	if what := got[1].What; len(what) > 210 || strings.Contains(what, "\x1b") {
		t.Errorf("what they did is %q", what)
	}
}

func TestVisitsAreExported(t *testing.T) {
	k := newKit(t)
	queued(t, k)
	k.Must(t, node, visitsOf(nil, visit("a", 1, over), visit("b", 2, func(v *chat.Visit) { v.What, v.By = "echo `x`", chat.VisitCommand })))
	var b bytes.Buffer
	if err := k.Export(t.Context(), &b, taskID, "json"); err != nil {
		t.Fatal(err)
	}
	var got struct{ Visits []chat.Visit }
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k.Visits(taskID), got.Visits); diff != "" {
		t.Errorf("exported visits (-want +got):\n%s", diff)
	}
	b.Reset()
	if err := k.Export(t.Context(), &b, taskID, "md"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## Who was in the workspace", "ana@x from laptop, by shell, ` t1 `", "by command, `` echo `x` ``"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the export lacks %q:\n%s", want, b.String())
		}
	}
}
