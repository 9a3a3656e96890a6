package agents

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// planted makes a folder of agents with small parts in place of the real ones.
func planted(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	parts, err := partsOf([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	err = bring(t.Context(), dir, parts, nil, func(_ installer, _ context.Context, stage string, p part) error {
		return plant(stage, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// plant writes the programs of a part, and a link beside them.
func plant(stage string, p part) error {
	for name, target := range p.links {
		in := installer{arch: arch()}
		file := filepath.Join(stage, in.fill(target))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho "+name+"\n"), 0o755); err != nil {
			return err
		}
	}
	return os.Symlink("node_modules", filepath.Join(stage, "link"))
}

// from packs what dir has, as a core node does.
func from(dir string, asked *[]string) func(context.Context, string) (io.ReadCloser, error) {
	return func(ctx context.Context, folder string) (io.ReadCloser, error) {
		*asked = append(*asked, folder)
		var b bytes.Buffer
		err := Pack(ctx, dir, folder, &b)
		return io.NopCloser(&b), err
	}
}

func TestAnAgentIsTakenFromAnotherMachine(t *testing.T) {
	here, there := t.TempDir(), planted(t, "claude")
	var asked []string
	if err := Take(t.Context(), here, "claude", from(there, &asked), nil); err != nil {
		t.Fatal(err)
	}
	if err := Ready(here, "claude"); err != nil {
		t.Error(err)
	}
	want, err := Parts("claude")
	if err != nil || len(want) != 2 || len(asked) != 2 || asked[0] != want[0] || asked[1] != want[1] {
		t.Errorf("asked for %v, want %v (%v)", asked, want, err)
	}
	if to, err := os.Readlink(filepath.Join(here, "lib", want[1], "link")); to != "node_modules" {
		t.Errorf("a link leads to %q, %v", to, err)
	}
	if err := Take(t.Context(), here, "claude", from(there, &asked), nil); err != nil || len(asked) != 2 {
		t.Errorf("what is there was taken again: %v, %v", asked, err)
	}
}

func TestAnAgentThatNobodyHasIsNotTaken(t *testing.T) {
	here, there := t.TempDir(), planted(t, "claude")
	var asked []string
	err := Take(t.Context(), here, "opencode", from(there, &asked), nil)
	if !errors.Is(err, ErrNotInstalled) {
		t.Errorf("taking it: %v, want ErrNotInstalled", err)
	}
	if err := Ready(here, "opencode"); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("it is there: %v", err)
	}
	for _, name := range []string{"", ".", "..", "../lib", ".staging-1", "a/b"} {
		if err := Pack(t.Context(), there, name, io.Discard); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("packing %q: %v, want ErrNotInstalled", name, err)
		}
	}
}

// archive packs one entry.
func archive(t *testing.T, h *tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := errors.Join(w.WriteHeader(h), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestAnAgentThatIsNoneIsRefused(t *testing.T) {
	whole := archive(t, &tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644})
	for name, data := range map[string]io.Reader{
		"outside":   archive(t, &tar.Header{Name: "../../evil", Typeflag: tar.TypeReg, Mode: 0o644}),
		"absolute":  archive(t, &tar.Header{Name: "/evil", Typeflag: tar.TypeReg, Mode: 0o644}),
		"device":    archive(t, &tar.Header{Name: "evil", Typeflag: tar.TypeChar, Mode: 0o644}),
		"garbage":   bytes.NewReader(bytes.Repeat([]byte{0xff}, 1000)),
		"cut short": io.LimitReader(bytes.NewReader(whole.Bytes()), int64(whole.Len()/2)),
		"empty":     new(bytes.Buffer),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := Take(t.Context(), filepath.Join(dir, "agents"), "claude", func(context.Context, string) (io.ReadCloser, error) { return io.NopCloser(data), nil }, nil)
			if err == nil {
				t.Error("it was taken")
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*evil*")); len(left) > 0 {
				t.Errorf("it wrote %v", left)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "agents", "lib", "*")); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}
