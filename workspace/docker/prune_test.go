package docker

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
)

func TestPrune(t *testing.T) {
	e := engine(t)
	ctx := t.Context()
	scratch(t, e, "docker-prune:1", map[string]string{"a": "b"}, `CMD ["/a"]`)
	refs := map[string]string{"old": "samnode/dev:docker-prune-old", "kept": "samnode/dev:docker-prune-kept", "used": "samnode/adapted:docker-prune-used"}
	for _, ref := range refs {
		scratch(t, e, ref, map[string]string{"name": ref}, `CMD ["/a"]`)
		t.Cleanup(func() {
			_, _ = e.api.ImageRemove(context.Background(), ref, image.RemoveOptions{Force: true})
		})
	}
	s := spec(e, "")
	s.Image, s.Cmd, s.Volume, s.Home = refs["used"], []string{"/a"}, "", ""
	create(t, e, s)
	began := time.Now()
	eventually(t, func() bool { return time.Since(began) > 300*time.Millisecond })
	for _, ref := range []string{refs["kept"], base, "docker-prune:1"} {
		if err := e.Keep(ctx, ref); err != nil {
			t.Fatal(err)
		}
	}
	unused := time.Since(began)
	// Others share the engine: only the tags of this test are looked at.
	if removed, err := e.prune(ctx, time.Hour, "samnode/dev:docker-prune"); err != nil || len(removed) != 0 {
		t.Errorf("prune(1h) = %v, %v, want nothing of a moment ago", removed, err)
	}
	if removed, err := e.prune(ctx, unused, "samnode/dev:docker-prune"); err != nil || !slices.Equal(removed, []string{refs["old"]}) {
		t.Errorf("prune = %v, %v, want %s only", removed, err, refs["old"])
	}
	if removed, err := e.prune(ctx, 0, "samnode/adapted:docker-prune"); err != nil || len(removed) != 0 {
		t.Errorf("prune = %v, %v, want what a container uses left", removed, err)
	}
	for _, ref := range []string{base, "docker-prune:1"} {
		if got, err := e.stale(ctx, ref, 0); err != nil || got {
			t.Errorf("stale(%s) = %v, %v: it is not ours to remove", ref, got, err)
		}
	}
}
