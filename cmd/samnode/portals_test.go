package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui/preview"
)

func opened(t *testing.T, file string) *portals {
	t.Helper()
	p, err := openPortals(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A port of the node is one preview's for good, and cookies of two have nothing
// in common.
func TestPortals(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "previews.json")
	p := opened(t, file)
	give := func(task string, port int) portal {
		t.Helper()
		x, err := p.give(preview.Target{Task: task, Port: port})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	first, second := give("A", 3000), give("B", 3000)
	if first.At == second.At || first.Cookies == second.Cookies || first.At < mesh.FirstPort || first.At > mesh.LastPort {
		t.Errorf("two previews have %+v and %+v", first, second)
	}
	if again := give("A", 3000); again.At != first.At || again.Cookies != first.Cookies {
		t.Errorf("the same preview has %+v and then %+v", first, again)
	}
	p = opened(t, file)
	if x, ok := p.at(first.At); !ok || x.Task != "A" || x.Port != 3000 || x.Cookies != first.Cookies {
		t.Errorf("after a restart there is %+v, %t", x, ok)
	}
	for port := range portalsOfATask {
		give("A", 4000+port)
	}
	if _, ok := p.at(first.At); ok {
		t.Error("a task keeps more portals than it may have")
	}
	if x, ok := p.at(second.At); !ok || x.Task != "B" {
		t.Errorf("a task that wants many takes another's: %+v, %t", x, ok)
	}
	p.list[0].Used = time.Now().Add(-portalOpenFor - time.Minute)
	if p.open(p.list[0].At) {
		t.Error("a portal that nobody used stays open")
	}
	if x := p.list[0]; give(x.Task, x.Port).At != x.At || !p.open(x.At) {
		t.Error("its link does not open it again")
	}
	if p.open(80) {
		t.Error("a port that was not given is open")
	}
}
