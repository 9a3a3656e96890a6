package ui

import (
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// panelParts are the gallery's part about what stands beside a chat.
type panelParts struct {
	Ports    []portsView
	Access   []accessView
	Files    []filesView
	Terminal terminalView
}

func (s *Server) panelParts() panelParts {
	sheet := s.assets.url("access.css")
	return panelParts{
		Ports:  samplePorts(),
		Access: []accessView{{Sheet: sheet, Now: sampleNow}, sampleAccess(sheet)},
		Files:  []filesView{sampleFolder(), {Crumbs: crumbs("/t/none/files", "logo.svg", ""), As: "as of commit 4a7c2f1", Problem: "There is no such file."}},
		Terminal: terminalView{
			Sheet: s.assets.url("terminal.css"), Problem: "No workspace is alive.", Rest: restOf(sampleTask(chat.Idle)), Start: "/t/none/retry", MayType: true, SSH: "ssh 01JD0000@samnode-a",
		},
	}
}

func samplePorts() []portsView {
	list := []Port{
		{Number: 3000, Process: "node", Since: sampleNow.Add(-4 * time.Minute)}, {Number: 5432, Process: "postgres", Since: sampleNow.Add(-2 * time.Hour)},
	}
	return []portsView{
		{Now: sampleNow},
		{Now: sampleNow, Problem: noSpace},
		{Now: sampleNow, Task: "01JD0000", Ports: list, Open: true, Forward: true, SSH: "ssh 01JD0000@samnode-a"},
	}
}

func sampleAccess(sheet string) accessView {
	at := sampleNow.Add(-12 * time.Minute)
	v := accessView{Sheet: sheet, Now: sampleNow, URL: "/t/none", Recordings: []api.Recording{{Name: "ana-1.cast", Ended: at.Add(6 * time.Minute), Size: 48 << 10}}}
	for _, x := range []api.Visit{
		{Visit: chat.Visit{Person: "ana@example.com", Device: "ana-laptop", By: chat.VisitShell, What: "ana-1", Began: at, Seen: sampleNow}, State: "live", Seconds: 720},
		{Visit: chat.Visit{Person: "ben@example.com", Device: "ben-phone", By: chat.VisitPreview, What: "3000", Began: at, Ended: at.Add(time.Minute), Count: 14, Bytes: 3 << 20}, State: "over", Seconds: 60},
		{Visit: chat.Visit{Person: "cy@example.com", Node: "core-2", By: chat.VisitCommand, What: "go test ./... -run 'TestLogin|TestRedirect'", Began: at, Ended: at.Add(9 * time.Second)}, State: "lost", Seconds: 9},
	} {
		v.Visits = append(v.Visits, visitRow(x))
	}
	return v
}

func sampleFolder() filesView {
	return filesView{
		Crumbs: crumbs("/t/none/files", "web/src", ""), Links: []link{{Name: "Now", On: true}, {Name: "Last commit"}}, As: "as it is now, on fsn1-07", Kind: "folder", May: true,
		Entries: []entryView{
			{Name: "assets", Icon: "folder", State: "modified"}, {Name: "login.ts", Icon: "file", Size: "4.1 kB", State: "modified"},
			{Name: "new.ts", Icon: "file", Size: "812 B", State: "added"}, {Name: "old.ts", Icon: "file", State: "deleted"}, {Name: "latest", Icon: "file", Link: "assets/v2"},
		},
	}
}
