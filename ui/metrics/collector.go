package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxNodes bounds the nodes that have lines of their own; a mesh is smaller.
const maxNodes = 1000

// roles are those a node can have in the log.
func roles() []string { return []string{"leader", "candidate", "follower", "shutdown"} }

// collector reads the figures of one node for each scrape.
type collector struct {
	c     Config
	descs map[string]*prometheus.Desc
}

func newCollector(c Config) *collector {
	col := &collector{c, map[string]*prometheus.Desc{}}
	for _, d := range []struct {
		name, help string
		labels     []string
	}{
		{"build_info", "The samnode that runs here; always 1.", []string{"version", "goversion", "node", "kind"}},

		{"log_role", "1 for the role that this node has in the log, 0 for the others.", []string{"role"}},
		{"log_leader_known", "Whether this node knows who leads the log.", nil},
		{"log_quorum", "Whether the log can be written, as far as this node knows.", nil},
		{"log_term", "Raft's term.", nil},
		{"log_last_index", "Index of the newest entry in this node's log.", nil},
		{"log_commit_index", "Index of the newest entry known to be committed.", nil},
		{"log_applied_index", "Index of the newest entry that is applied here.", nil},
		{"log_snapshot_index", "Index up to which the newest snapshot goes.", nil},
		{"log_unapplied_entries", "Committed entries that are not applied here yet.", nil},
		{"log_peers", "The other members of the log, by whether they vote.", []string{"voter"}},
		{"log_peer_lag_entries", "Entries that a member is not known to have; on the leader.", []string{"node"}},
		{"log_peer_silence_seconds", "Time since a member last answered; on the leader.", []string{"node"}},

		{"tasks", "Tasks in each state.", []string{"state"}},
		{"nodes", "Nodes of the mesh.", []string{"kind"}},
		{"node_slots", "Workspaces a node has room for.", []string{"node"}},
		{"node_leases", "Leases on a node's slots.", []string{"node"}},
		{"node_heartbeat_age_seconds", "Time since a node's last heartbeat; on the leader.", []string{"node"}},
		{"streams", "Pages and programs that follow something at this node now.", nil},

		{"store_size_bytes", "Size of the message store on disk.", nil},
		{"disk_free_bytes", "Room that is left on the disk of the node's state.", nil},
		{"disk_size_bytes", "Size of the disk of the node's state.", nil},

		{"backup_scheduled", "Whether backups are made by themselves.", nil},
		{"backup_last_success_timestamp_seconds", "When the newest backup was made, in Unix time; 0: never.", nil},
		{"backup_last_failure_timestamp_seconds", "When a backup failed last, in Unix time; 0: never.", nil},
		{"backup_size_bytes", "Size of the newest backup.", nil},
	} {
		col.descs[d.name] = prometheus.NewDesc("samnode_"+d.name, d.help, d.labels, nil)
	}
	return col
}

// Describe implements prometheus.Collector.
func (col *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range col.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector. It may run in several goroutines.
func (col *collector) Collect(out chan<- prometheus.Metric) {
	s := sink{out, col.descs}
	kind := "worker"
	if col.c.Core {
		kind = "core"
	}
	s.put("build_info", 1, col.c.Version, runtime.Version(), col.c.Node, kind)
	if col.c.Log != nil {
		s.log(col.c.Log())
	}
	if col.c.Tasks != nil {
		s.tasks(col.c.Tasks(), col.c.States)
	}
	if col.c.Nodes != nil {
		s.nodes(col.c.Nodes())
	}
	if col.c.Streams != nil {
		s.put("streams", float64(col.c.Streams()))
	}
	if col.c.Store != nil {
		size, err := col.c.Store()
		s.read("store_size_bytes", size, err)
	}
	if col.c.Disk != nil {
		free, size, err := col.c.Disk()
		s.read("disk_free_bytes", free, err)
		s.read("disk_size_bytes", size, err)
	}
	if col.c.Backup != nil {
		s.backup(col.c.Backup())
	}
}

// sink takes the figures of one scrape. All of them are gauges.
type sink struct {
	out   chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
}

func (s sink) put(name string, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(s.descs[name], prometheus.GaugeValue, value, labels...)
	if err != nil { // a label that is not UTF-8
		m = prometheus.NewInvalidMetric(s.descs[name], err)
	}
	s.out <- m
}

func (s sink) is(name string, yes bool, labels ...string) {
	value := 0.0
	if yes {
		value = 1
	}
	s.put(name, value, labels...)
}

// read is put for what may not have been readable.
func (s sink) read(name string, value int64, err error) {
	if err != nil {
		s.out <- prometheus.NewInvalidMetric(s.descs[name], err)
		return
	}
	s.put(name, float64(value))
}

func (s sink) log(l Log) {
	for _, role := range roles() {
		s.is("log_role", role == l.Role, role)
	}
	s.is("log_leader_known", l.Leader)
	s.is("log_quorum", l.Quorum)
	s.put("log_term", float64(l.Term))
	s.put("log_last_index", float64(l.Last))
	s.put("log_commit_index", float64(l.Commit))
	s.put("log_applied_index", float64(l.Applied))
	s.put("log_snapshot_index", float64(l.Snapshot))
	// The two were not read at the same moment.
	s.put("log_unapplied_entries", float64(l.Commit-min(l.Applied, l.Commit)))
	voters := 0
	for i, p := range l.Peers {
		if p.Voter {
			voters++
		}
		if i >= maxNodes {
			continue
		}
		s.put("log_peer_lag_entries", float64(p.Lag), p.Node)
		if p.Silent >= 0 {
			s.put("log_peer_silence_seconds", p.Silent.Seconds(), p.Node)
		}
	}
	s.put("log_peers", float64(voters), "true")
	s.put("log_peers", float64(len(l.Peers)-voters), "false")
}

func (s sink) tasks(counts map[string]int, states []string) {
	for _, state := range states {
		s.put("tasks", float64(counts[state]), state)
	}
}

func (s sink) nodes(nodes []Node) {
	core := 0
	for i, n := range nodes {
		if n.Core {
			core++
		}
		if i >= maxNodes {
			continue
		}
		s.put("node_slots", float64(n.Slots), n.Name)
		s.put("node_leases", float64(n.Leases), n.Name)
		if n.Heard >= 0 {
			s.put("node_heartbeat_age_seconds", n.Heard.Seconds(), n.Name)
		}
	}
	s.put("nodes", float64(core), "core")
	s.put("nodes", float64(len(nodes)-core), "worker")
}

func (s sink) backup(b Backup) {
	s.is("backup_scheduled", b.Scheduled)
	s.put("backup_last_success_timestamp_seconds", unix(b.Succeeded))
	s.put("backup_last_failure_timestamp_seconds", unix(b.Failed))
	s.put("backup_size_bytes", float64(b.Size))
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
