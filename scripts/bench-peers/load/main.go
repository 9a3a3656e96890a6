// Command load appends messages of 1 KiB to several systems, one after the
// other and round after round within one run, and prints what they took and how
// they compare.
//
// Figures of systems that run at the same time on the same processors and disk
// are worth something as ratios only, and those only from one run.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	etcd, nats, samnode string
	tailnet             string
	project, tokenFile  string
	tasks, queue        int
	clients             string
	rounds, operations  int
	seconds             float64
	limit               time.Duration
	dir, results        string
	conns, ports        int
}

func main() {
	var o options
	flag.StringVar(&o.etcd, "etcd", "", "client addresses of the etcd servers, host:port,...")
	flag.StringVar(&o.nats, "nats", "", "client addresses of the NATS servers, host:port,...")
	flag.StringVar(&o.samnode, "samnode", "", "base URLs of the samnode nodes, http://host:port,...")
	flag.StringVar(&o.tailnet, "tailnet", "", "the same of a second samnode mesh, whose nodes are on a tailnet")
	flag.StringVar(&o.project, "project", "bench", "project of samnode's mesh to make draft tasks in")
	flag.StringVar(&o.tokenFile, "token-file", "", "file with a bearer token for samnode's API; \"\": none is sent")
	flag.IntVar(&o.tasks, "tasks", 256, "draft tasks of samnode that take the messages in turn")
	flag.IntVar(&o.queue, "queue", 16, "messages that wait in one of them at most, besides its first")
	flag.StringVar(&o.clients, "clients", "1,16,64,256", "numbers of clients")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the table has their medians")
	flag.Float64Var(&o.seconds, "seconds", 2, "length of a measurement")
	flag.IntVar(&o.operations, "operations", 4_000, "appends after which a measurement ends before its time")
	flag.DurationVar(&o.limit, "limit", 4*time.Minute, "length of the whole run, after which the rounds so far count")
	flag.IntVar(&o.conns, "conns", 4, "connections to each server of etcd and NATS; samnode has one for each client")
	flag.StringVar(&o.dir, "dir", ".", "folder on the disk whose sync is measured: the servers'")
	flag.StringVar(&o.results, "results", "", "file for the results as JSON lines; \"\": none, - is the standard output")
	flag.IntVar(&o.ports, "ports", 0, "only print that many free loopback ports")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run measures and prints the table. A run that is cut short by its limit
// prints what it has.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	if o.ports > 0 {
		return printPorts(ctx, out, o.ports)
	}
	counts, err := numbers(o.clients)
	if err != nil {
		return err
	}
	lines, closeLines, err := o.lines(out)
	if err != nil {
		return err
	}
	defer closeLines()
	targets, err := o.connect(ctx, slices.Max(counts))
	if err != nil {
		return err
	}
	defer func() {
		for _, t := range targets {
			t.Close()
		}
	}()
	disk, err := measureDisk(o.dir)
	if err != nil {
		return err
	}
	if err := lines.Encode(disk); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	results, err := o.measure(limited, targets, counts, func(r result) error {
		fmt.Fprintf(progress, "• round %d, %3d clients, %-8s %7.0f/s, p50 %.2f ms, p99 %.2f ms\n", r.Round, r.Clients, r.Target, r.PerSecond, r.P50, r.P99)
		return lines.Encode(r)
	})
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil && limited.Err() == nil:
		return err
	case len(results) == 0:
		return fmt.Errorf("nothing was measured within %s", o.limit)
	}
	return table(out, disk, results)
}

// lines is where the results go as JSON.
func (o options) lines(out io.Writer) (*json.Encoder, func(), error) {
	switch o.results {
	case "":
		return json.NewEncoder(io.Discard), func() {}, nil
	case "-":
		return json.NewEncoder(out), func() {}, nil
	}
	f, err := os.Create(o.results)
	if err != nil {
		return nil, nil, err
	}
	return json.NewEncoder(f), func() { f.Close() }, nil
}

func (o options) connect(ctx context.Context, clients int) (targets []target, err error) {
	add := func(t target, more error) {
		if err = cmp.Or(err, more); more == nil {
			targets = append(targets, t)
		}
	}
	var token []byte
	if o.tokenFile != "" {
		if token, err = os.ReadFile(o.tokenFile); err != nil {
			return nil, err
		}
	}
	for name, nodes := range map[string]string{"samnode": o.samnode, "samnode-tailnet": o.tailnet} {
		if nodes == "" {
			continue
		}
		t, err := newSamnode(ctx, o, name, nodes, string(bytes.TrimSpace(token)), clients)
		add(t, err)
		if err == nil && nodes == o.samnode {
			add(floor{&samnode{name: t.name, nodes: t.nodes, token: t.token, http: t.http, run: t.run}}, nil)
		}
	}
	if o.etcd != "" {
		add(newEtcd(ctx, strings.Split(o.etcd, ","), o.conns))
	}
	if o.nats != "" {
		add(newNATS(ctx, strings.Split(o.nats, ","), o.conns))
	}
	if err == nil && len(targets) == 0 {
		err = errors.New("there is nothing to measure: give -etcd, -nats or -samnode")
	}
	return targets, err
}

// measure goes through all targets at each number of clients in each round, and
// lets another one be first each time.
func (o options) measure(ctx context.Context, targets []target, counts []int, report func(result) error) (all []result, err error) {
	for round := range o.rounds {
		for _, clients := range counts {
			for i := range targets {
				t := targets[(i+round)%len(targets)]
				r, err := measure(ctx, t, clients, o.operations, time.Duration(o.seconds*float64(time.Second)))
				if err != nil {
					return all, fmt.Errorf("measuring %s with %d clients: %w", t.Name(), clients, err)
				}
				r.Round = round + 1
				all = append(all, r)
				if err := report(r); err != nil {
					return all, err
				}
			}
		}
	}
	return all, nil
}

func numbers(list string) (all []int, err error) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 4096 {
			return nil, fmt.Errorf("-clients has %q; give numbers such as 1,16,64", text)
		}
		all = append(all, n)
	}
	return all, nil
}

// printPorts prints ports that nobody listens on now.
func printPorts(ctx context.Context, w io.Writer, n int) error {
	var lc net.ListenConfig
	for range n {
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // after the last, so that all are different
		fmt.Fprintln(w, l.Addr().(*net.TCPAddr).Port)
	}
	return nil
}
