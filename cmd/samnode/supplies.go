package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/agents"
)

// Where a core node gives members what their tasks need, so that a mesh needs
// no image registry, and a machine neither npm nor anybody who installs agents.
const (
	imagePath = "/calls/v1/image"
	agentPath = "/calls/v1/agent/"
)

func (n *node) callImage(w http.ResponseWriter, r *http.Request) {
	if _, err := n.memberOf(r); err != nil {
		mesh.Refuse(w, callCodes, err)
		return
	}
	image, err := n.engine.Save(r.Context(), n.c.Image)
	if err != nil {
		mesh.Refuse(w, callCodes, err)
		return
	}
	defer image.Close()
	n.give(w, "the base image", func(w io.Writer) error {
		_, err := io.Copy(w, image)
		return err
	})
}

func (n *node) callAgent(w http.ResponseWriter, r *http.Request) {
	if _, err := n.memberOf(r); err != nil {
		mesh.Refuse(w, callCodes, err)
		return
	}
	part := r.PathValue("part")
	n.give(w, part, func(w io.Writer) error { return agents.Pack(r.Context(), n.c.Agents, part, w) })
}

// give answers with what send writes. An error after the first byte cuts the
// answer short, for what was sent is not all of it.
func (n *node) give(w http.ResponseWriter, what string, send func(io.Writer) error) {
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &counted{w: w}
	err := send(out)
	switch {
	case err == nil:
	case out.n == 0:
		mesh.Refuse(w, callCodes, err)
	default:
		n.c.Logger.Warn("giving a node "+what, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// supply gets what tasks need here before the first one comes: the base image,
// without which the node says that it is not fit for any, and the agents.
func (w *worker) supply(ctx context.Context) error {
	if err := w.insist(ctx, "getting the base image", w.runner.Supply); err != nil {
		return err
	}
	// A beat that says so: the one on its way was sent before.
	if err := w.beat(ctx); err != nil && ctx.Err() == nil {
		w.c.Logger.Warn("saying that this node is fit", "err", err) // the next beat says it
	}
	return w.insist(ctx, "getting the agents", w.runner.SupplyAgents)
}

// insist tries until it works or ctx ends.
func (w *worker) insist(ctx context.Context, what string, f func(context.Context) error) error {
	const again = 30 * time.Second
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			w.c.Logger.Warn(what+"; again in a while", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(again):
		}
	}
}

// baseImage takes the image from the first core node that gives it.
func (w *worker) baseImage(ctx context.Context) (io.ReadCloser, error) {
	return w.taken(ctx, "the base image", imagePath)
}

// agentPart takes a part of an agent from the first core node that has it.
func (w *worker) agentPart(ctx context.Context, folder string) (io.ReadCloser, error) {
	return w.taken(ctx, folder, agentPath+url.PathEscape(folder))
}

// taken asks one core node after the other. What one of them does not have, one
// that is away may.
func (w *worker) taken(ctx context.Context, what, path string) (io.ReadCloser, error) {
	var away, answer error
	for _, p := range w.cores.get() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, mesh.CallURL(p.Addr, path), nil)
		if err != nil {
			return nil, err
		}
		resp, err := w.client.Do(req)
		switch {
		case err == nil:
			return resp.Body, nil
		case isAway(err):
			away = fmt.Errorf("%w: %w", workspace.ErrAway, err)
		default:
			answer = err
		}
	}
	return nil, fmt.Errorf("asking the core nodes for %s: %w", what, cmp.Or(away, answer, errors.New("none is known")))
}
