package api

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

type fakeShells struct{ asked []string }

func (f *fakeShells) Shells(context.Context, chat.TaskID) ([]Shell, error) {
	return []Shell{{ID: "t1", Name: "t1", Rows: 24, Cols: 80, People: []Present{{Person: "ana@example.com", By: "page"}}}}, nil
}

func (f *fakeShells) HoldShell(_ context.Context, _ chat.TaskID, shell string, who chat.Person, owner, on bool) error {
	f.asked = append(f.asked, fmt.Sprint(shell, " ", who, " ", owner, " ", on))
	if shell != "t1" {
		return chat.ErrNotFound
	}
	return nil
}

func (f *fakeShells) Recordings(context.Context, chat.TaskID) ([]Recording, error) {
	return []Recording{{Name: "t1.cast", Size: 7}}, nil
}

func (f *fakeShells) Recording(_ context.Context, _ chat.TaskID, name string) (io.ReadCloser, error) {
	if name != "t1.cast" {
		return nil, chat.ErrNotFound
	}
	return io.NopCloser(strings.NewReader("{}")), nil
}

func TestShellsAndVisits(t *testing.T) {
	shells := &fakeShells{}
	f := newFixture(t, func(c *Config) {
		c.Shells = shells
		c.NodeAlive = func(n chat.Node) bool { return n != "dead" }
	})
	f.kit.Project(t, "web")
	task := f.kit.NewTask(t, "web", "Fix it")
	base := "/api/v1/tasks/" + string(task.ID)
	began := time.Now().UTC().Add(-time.Hour)
	for node, v := range map[chat.Node]chat.Visit{
		"node-1": {ID: "a", Person: "ana@example.com", By: chat.VisitShell, What: "t1", Began: began, Ended: began.Add(90 * time.Second)},
		"dead":   {ID: "b", Person: "ben@example.com", By: chat.VisitPage, Began: began.Add(time.Second)},
	} {
		if _, err := f.kit.Do(t.Context(), chat.Author{Node: node}, "", chat.Op{Visits: &chat.Visits{Task: task.ID, Visits: []chat.Visit{v}}}); err != nil {
			t.Fatal(err)
		}
	}
	list := f.want(200, "GET", base+"/visits", "")
	for _, want := range []string{`"state":"over"`, `"seconds":90`, `"state":"unknown"`} {
		if !strings.Contains(list, want) {
			t.Errorf("visits = %s; want %s", list, want)
		}
	}
	if strings.Index(list, "ben@") > strings.Index(list, "ana@") {
		t.Errorf("visits = %s; want the newest first", list)
	}
	if list := f.want(200, "GET", base+"/shells", ""); !strings.Contains(list, "ana@example.com") {
		t.Errorf("shells = %s", list)
	}
	f.want(204, "POST", base+"/shells/t1/hold", `{"on":true}`)
	f.want(404, "POST", base+"/shells/t2/hold", `{}`)
	f.want(200, "GET", base+"/recordings", "")
	f.want(200, "GET", base+"/recordings/t1.cast", "")
	f.want(404, "GET", base+"/recordings/t2.cast", "")
	f.role = "member"
	f.want(204, "POST", base+"/shells/t1/hold", `{"on":false}`)
	f.role = "viewer"
	f.want(200, "GET", base+"/visits", "")
	f.want(403, "POST", base+"/shells/t1/hold", `{"on":true}`)
	f.want(403, "GET", base+"/recordings/t1.cast", "")
	want := "[t1 ana@example.com true true t2 ana@example.com true false t1 ana@example.com false false]"
	if got := fmt.Sprint(shells.asked); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}
