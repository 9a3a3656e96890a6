// Package metrics shows a node's figures to Prometheus. It asks for most of
// them when it is asked itself, so nobody has to keep them up to date, and
// counts the few that only happen.
//
// There are no labels that grow with use: no tasks, people or paths, but
// states, routes and the nodes of the mesh.
package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config says where the figures are. The func fields are called for each
// scrape, at most a few at the same time, and must not wait for the network;
// what a nil one would tell is not shown.
type Config struct {
	Node    string
	Version string
	Core    bool // else a worker

	// Log is how this node's log stands; a worker has none.
	Log func() Log
	// Tasks counts the tasks in each state. States are all there are, so that
	// one without tasks shows 0 and not nothing.
	Tasks  func() map[string]int
	States []string
	// Nodes are the nodes of the mesh.
	Nodes func() []Node
	// Streams is how many pages and programs follow something at this node now.
	Streams func() int
	// Store is the size of the message store on disk, in bytes.
	Store func() (int64, error)
	// Disk is the room on the disk of the node's state, in bytes.
	Disk func() (free, size int64, err error)
	// Backup is what is known of the mesh's backups.
	Backup func() Backup

	// Logger hears what could not be read; nil: nobody does.
	Logger *slog.Logger
}

// Log is how a node's log stands.
type Log struct {
	Role     string // leader, candidate, follower or shutdown
	Leader   bool   // one is known
	Quorum   bool   // the log can be written, as far as this node knows
	Term     uint64
	Last     uint64 // index of the newest entry here
	Commit   uint64
	Applied  uint64
	Snapshot uint64
	Peers    []Peer // the other members, on the leader
}

// Peer is another member of the log as the leader sees it.
type Peer struct {
	Node   string
	Voter  bool
	Lag    uint64        // entries it is not known to have
	Silent time.Duration // since its last answer; below 0: not known
}

// Node is a node as the pool sees it.
type Node struct {
	Name   string
	Core   bool
	Slots  int
	Leases int
	// Heard is how long ago its last heartbeat came, which the leader knows;
	// below 0: not known here.
	Heard time.Duration
}

// Backup is what is known of backups.
type Backup struct {
	Scheduled bool
	Succeeded time.Time // the newest; zero: never
	Failed    time.Time // the newest failure; zero: never
	Size      int64     // of the newest, in bytes
}

// Metrics is the handler that Prometheus scrapes, and what counts.
type Metrics struct {
	handler  http.Handler
	appends  *prometheus.CounterVec
	latency  prometheus.Histogram
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// buckets are seconds, from a fast disk to a mesh that looks for a leader.
func buckets() []float64 {
	return []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
}

// New returns the Metrics of one node. They have a registry of their own, so
// that several nodes go into one process.
func New(c Config) (*Metrics, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{
		appends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "samnode_log_appends_total", Help: "Entries that this node proposed to the log, by outcome.",
		}, []string{"outcome"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "samnode_log_append_duration_seconds", Help: "From a proposal to its entry applied at this node.", Buckets: buckets(),
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "samnode_http_requests_total", Help: "Requests that ended, by route and status code.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "samnode_http_request_duration_seconds", Help: "How long requests took, by route; streams do not count.", Buckets: buckets(),
		}, []string{"route"}),
	}
	m.appends.WithLabelValues(outcomeOK) // shown from the start, as 0
	m.appends.WithLabelValues(outcomeFailed)
	reg := prometheus.NewRegistry()
	for _, part := range []prometheus.Collector{
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector(),
		newCollector(c), m.appends, m.latency, m.requests, m.duration,
	} {
		if err := reg.Register(part); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            errorLog{c.Logger},
		ErrorHandling:       promhttp.ContinueOnError, // the other figures are as good
		Registry:            reg,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
	return m, nil
}

// ServeHTTP implements http.Handler: it answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

const (
	outcomeOK     = "ok"
	outcomeFailed = "failed"
)

// ObserveAppend counts a proposal that took so long, and came into the log if
// err is nil.
func (m *Metrics) ObserveAppend(took time.Duration, err error) {
	if err != nil {
		m.appends.WithLabelValues(outcomeFailed).Inc()
		return
	}
	m.appends.WithLabelValues(outcomeOK).Inc()
	m.latency.Observe(took.Seconds())
}

// errorLog is what promhttp writes to.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Println(v ...any) { e.log.Warn("collecting metrics", "err", fmt.Sprint(v...)) }
