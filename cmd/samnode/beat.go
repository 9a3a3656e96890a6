package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/provision"
)

// beats keeps this node's leases: it tells the mesh again and again that the
// node is there, and the tenure how long ago the mesh last heard. It returns
// when the mesh says that this node is none of its own.
func (h *host) beats(ctx context.Context, beat func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; {
		sent := time.Now()
		err := h.beatOnce(ctx, beat)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			h.tenure.Renewed(sent)
			wait = 100 * time.Millisecond
			continue // the answer came with the batch, so this is once a batch
		case isRefusal(err):
			return err
		}
		h.c.Logger.Warn("the mesh does not hear this node", "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// beatOnce gives one beat as long as it could still be of use.
func (h *host) beatOnce(ctx context.Context, beat func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(h.c.LeaseFor/2, h.c.BeatEvery+2*time.Second))
	defer cancel()
	return beat(ctx)
}

// start is how this process announces itself.
func (h *host) start() provision.Start {
	var info unix.Sysinfo_t
	mem := int64(0)
	if unix.Sysinfo(&info) == nil {
		mem = int64(info.Totalram) * int64(info.Unit)
	}
	return provision.Start{
		Node: h.c.Node, Addr: h.net.Addr(), Boot: h.boot, Generation: h.id.Generation, Version: version, URL: h.base,
		Slots: h.c.Slots, CPUs: runtime.NumCPU(), Mem: mem,
	}
}

// report is how this node is doing.
func (h *host) report(ctx context.Context, applied uint64) *provision.Report {
	r := &provision.Report{
		Used: len(h.runner.Running()), Load: load1(), CPUs: runtime.NumCPU(), Index: applied,
		Warnings: h.net.Warnings(),
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		r.Mem = int64(info.Totalram) * int64(info.Unit)
	}
	r.MemFree = memAvailable()
	var disk unix.Statfs_t
	if unix.Statfs(h.c.State, &disk) == nil {
		r.DiskFree = int64(disk.Bavail) * disk.Bsize
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := h.runner.Healthy(ctx); err != nil {
		r.Unfit = err.Error()
		r.Warnings = append(r.Warnings, r.Unfit)
	}
	return r
}

// load1 is the load of the last minute, 0 where the kernel does not tell.
func load1() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	load, _ := strconv.ParseFloat(first, 64) // 0 is as good as unknown
	return load
}

// memAvailable is what programs can still get, in bytes.
func memAvailable() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// announce says that this process is the node now.
func (n *node) announce(ctx context.Context) error {
	return patiently(ctx, n.c.Logger, "announcing this node to the mesh", func(ctx context.Context) error {
		start := n.start()
		sent := time.Now()
		err := startError(n.poolDo(ctx, provision.Command{Start: &start}))
		if err == nil {
			n.tenure.Renewed(sent)
		}
		return err
	})
}

// beat gives the leader this node's sign of life.
func (n *node) beat(ctx context.Context) error {
	return n.takeBeat(ctx, provision.Beat{Node: n.c.Node, Boot: n.boot, Report: n.report(ctx, n.log.Stats().Applied)}, false)
}

// takeBeat puts a beat into the leader's next batch. A node that does not lead
// passes it on, once.
func (n *node) takeBeat(ctx context.Context, b provision.Beat, passed bool) error {
	if h := n.heart.get(); h != nil {
		err := h.Beat(ctx, b)
		if !errors.Is(err, provision.ErrNotLeading) {
			return beatError(err)
		}
	}
	leader := n.log.Leader()
	if passed || leader == "" || leader == n.c.Node {
		return errNoLeader
	}
	pool, _ := n.pool.Pool()
	m, ok := pool.Node(leader)
	if !ok {
		return fmt.Errorf("the leader %s is not in the pool: %w", leader, errNoLeader)
	}
	return n.client.Call(ctx, m.Addr, "/calls/v1/beat", beatCall{Beat: b}, nil)
}

// beatError tells apart the three noes that a heart has.
func beatError(err error) error {
	switch {
	case errors.Is(err, provision.ErrStale):
		return &renamed{err, errTwin}
	case errors.Is(err, provision.ErrNotFound):
		return &renamed{err, errNotMember}
	}
	return logError(err)
}
