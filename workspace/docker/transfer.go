package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/docker/docker/client"
)

// Save reads an image, with its name, as another engine's Load takes it. Close
// it. An image that is not here is ErrNoImage.
func (e *Engine) Save(ctx context.Context, ref string) (io.ReadCloser, error) {
	ok, _, err := e.HasImage(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("saving image %s: %w", ref, ErrNoImage)
	}
	r, err := e.api.ImageSave(ctx, []string{ref})
	if err != nil {
		return nil, wrap("saving image "+ref, err)
	}
	return r, nil
}

// Load puts images into the engine that Save read, here or on another machine.
func (e *Engine) Load(ctx context.Context, r io.Reader) error {
	out, err := e.api.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return wrap("loading an image", err)
	}
	defer out.Body.Close()
	for dec := json.NewDecoder(out.Body); ; {
		var m struct{ Error string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return wrap("loading an image", err)
		}
		if m.Error != "" {
			return wrap("loading an image", errors.New(m.Error))
		}
	}
}
