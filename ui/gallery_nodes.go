package ui

import (
	"time"

	"github.com/samnode/samnode/ui/api"
)

// sampleMesh is a mesh in which everything is that can be.
func sampleMesh() around {
	day := sampleNow.Add(-26 * time.Hour)
	busy := &api.Load{CPUs: 4, Load: 3.4, Memory: 7 << 30, MemoryMax: 8 << 30, Disk: 77 << 30, DiskMax: 80 << 30}
	calm := &api.Load{CPUs: 2, Load: 0.2, Memory: 1 << 30, MemoryMax: 4 << 30, Disk: 12 << 30, DiskMax: 40 << 30}
	leases := []api.Lease{{Task: "01JD0000000000000000000001", Slot: "slot-1", Token: 9120, Since: sampleNow.Add(-5 * time.Minute)}, {Task: "01JD0000000000000000000002", Slot: "slot-2", Token: 9133, Since: sampleNow.Add(-40 * time.Second)}}
	return around{
		Mesh: api.MeshInfo{
			ID: "01JD0000000000000000000000", Node: "core-1", Leader: "core-1", Voters: 3, Lag: 1204, BehindMS: 12_000,
			Warnings: []string{"There is no backup: say where to in the settings."},
		},
		Nodes: []api.Node{
			{Name: "core-1", URL: "http://core-1.example.ts.net", Self: true, Core: true, Voter: true, Leader: true, Online: true, Since: day, Version: "0.4.0", Slots: 2, Used: 2, Leases: leases, Load: busy, Index: 1204551, Warnings: []string{"The disk is 96 % full: 3 GB are left."}},
			{Name: "core-2", URL: "http://core-2.example.ts.net", Core: true, Voter: true, Since: sampleNow.Add(-190 * time.Second), Version: "0.4.0", Slots: 2, Path: &api.Path{Direct: true}, Index: 1203347, Lag: 1204},
			{Name: "core-3", Core: true, Online: true, Since: day, Version: "0.4.0", Slots: 2, Used: 1, Draining: true, Leases: leases[:1], Load: calm, Path: &api.Path{Direct: true, LatencyMS: 0.4}, Index: 1204550, Lag: 1},
			{Name: "lap-of-ana", Online: true, Since: sampleNow.Add(-11 * time.Minute), Version: "0.3.9", Slots: 1, Load: calm, Path: &api.Path{Relay: "fra", LatencyMS: 41}},
			{Name: "new-one", Online: true, Draining: true, Slots: 4},
		},
	}
}

func sampleDetail(a around) api.NodeDetail {
	at := sampleNow.Add(-26 * time.Hour)
	return api.NodeDetail{
		Node: a.Nodes[0], Raft: &api.Raft{Role: "leader", Term: 41, Last: 1204551, Commit: 1204551, Applied: 1204551, Snapshot: 1200000},
		Peers:  []api.Peer{{Node: "core-2", Contact: sampleNow.Add(-190 * time.Second), Lag: 1204, Path: &api.Path{Direct: true}}, {Node: "core-3", Contact: sampleNow.Add(-time.Second), Path: &api.Path{Direct: true, LatencyMS: 0.4}}, {Node: "lap-of-ana", Path: &api.Path{Relay: "fra", LatencyMS: 41}}},
		Docker: "28.5.2", System: "linux/amd64, Debian 13", Started: at,
		Recent: []api.Event{{At: sampleNow.Add(-3 * time.Minute), Text: "core-2 is silent"}, {At: at, Text: "a write to the log took 2.1 s"}},
	}
}

func sampleBackups() []backupView {
	set := api.BackupSettings{Destination: "s3://backups/samnode", Schedule: "daily 03:00", Recipient: "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq", Keep: 14}
	last := &api.BackupMade{At: sampleNow.Add(-11 * time.Hour), Where: "s3://backups/samnode/01JD-1204000.samnode", Size: 41 << 20, Index: 1204000}
	var out []backupView
	for _, b := range []api.Backup{
		{},
		{BackupSettings: set, Last: last, Next: sampleNow.Add(13 * time.Hour)},
		{BackupSettings: set, Last: last, Failed: &api.BackupFailed{At: sampleNow.Add(-time.Hour), Text: "the bucket refused the key: AccessDenied"}},
	} {
		v := newBackupView(b)
		v.MayWrite = true
		out = append(out, v)
	}
	out[1].MayWrite = false
	return out
}

// nodeParts are the gallery's part about the mesh.
type nodeParts struct {
	Cards   []nodeView
	Detail  nodeDetail
	Notes   []note
	Backups []backupView
}

func (s *Server) nodeParts() nodeParts {
	a := sampleMesh()
	var cards []nodeView
	for _, n := range a.Nodes {
		v := s.nodeCard(n, sampleNow)
		v.CanChange = true
		if n.Version == "0.3.9" {
			v.Old = "0.4.0"
		}
		cards = append(cards, v)
	}
	detail := s.nodeDetail(sampleDetail(a), a)
	detail.Asleep = "core-1 does not answer. This is what the mesh knew last."
	return nodeParts{cards, detail, a.notes(), sampleBackups()}
}
