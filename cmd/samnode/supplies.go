package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/workspace"
)

// imagePath is where a core node gives its base image to members, so that a
// mesh needs no image registry.
const imagePath = "/calls/v1/image"

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
	w.Header().Set("Content-Type", "application/x-tar")
	if _, err := io.Copy(w, image); err != nil {
		n.c.Logger.Warn("giving the base image to a node", "err", err)
		panic(http.ErrAbortHandler) // what was sent is not all of it
	}
}

// supply gets what tasks need here before the first one comes. Without it the
// node says that it is not ready for any.
func (w *worker) supply(ctx context.Context) error {
	const again = 30 * time.Second
	for {
		err := w.runner.Supply(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		w.c.Logger.Warn("getting the base image; again in a while", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// baseImage takes the image from the first core node that gives it.
func (w *worker) baseImage(ctx context.Context) (io.ReadCloser, error) {
	err := errors.New("no core node is known")
	for _, p := range w.cores.get() {
		var body io.ReadCloser
		if body, err = w.stream(ctx, mesh.CallURL(p.Addr, imagePath)); err == nil {
			return body, nil
		}
	}
	return nil, fmt.Errorf("asking the core nodes for the base image: %w", err)
}

func (w *worker) stream(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.nodes.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", workspace.ErrAway, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // as much as there is of the reason
		return nil, errors.Join(fmt.Errorf("it answers %s: %s", resp.Status, text), resp.Body.Close())
	}
	return resp.Body, nil
}
