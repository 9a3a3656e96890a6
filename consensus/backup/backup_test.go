package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/consensus/backup/s3test"
)

// pair returns a key pair.
func pair(t testing.TB) (Identity, Recipient) {
	t.Helper()
	secret, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseIdentity(secret)
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	return id, to
}

func destination(t testing.TB, text string) Destination {
	t.Helper()
	d, err := ParseDestination(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func meta(mesh string, index uint64, at string) Meta {
	when, err := time.Parse(time.DateTime, at)
	if err != nil {
		panic(err)
	}
	return Meta{Mesh: mesh, Node: "mon", Index: index, Version: "v1", At: when, Size: 7}
}

func bytesOf(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	}
}

// noise does not compress.
func noise(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func write(t testing.TB, d Destination, to Recipient, m Meta, data []byte) Info {
	t.Helper()
	info, err := Write(t.Context(), d, to, m, bytesOf(data))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func read(ctx context.Context, d Destination, id Identity) (Meta, []byte, error) {
	m, r, err := Open(ctx, d, id)
	if err != nil {
		return m, nil, err
	}
	data, err := io.ReadAll(r)
	return m, data, errors.Join(err, r.Close())
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	id, to := pair(t)
	s3 := s3test.New(t)
	sizes := map[string][]byte{
		"nothing":        nil,
		"a byte":         {7},
		"a chunk":        noise(ageChunk),
		"text":           bytes.Repeat([]byte("what was said "), 100_000),
		"three s3 parts": noise(2*partSize + 12345),
	}
	places := map[string]string{
		"folder": filepath.Join(t.TempDir(), "made", "on the way"),
		"file":   filepath.Join(t.TempDir(), "my mesh.age"),
		"bucket": s3.URL(""),
		"prefix": s3.URL("a/b b+c"),
		"object": s3.URL("x/mesh.age"),
	}
	for size, data := range sizes {
		for where, text := range places {
			if len(data) > 2*partSize && where != "folder" && where != "prefix" {
				continue // the same again
			}
			t.Run(size+" in a "+where, func(t *testing.T) {
				d := destination(t, text)
				m := meta("home", 12, "2026-03-04 05:06:07")
				m.At = m.At.Add(123 * time.Millisecond)
				info := write(t, d, to, m, data)
				if named, err := read1(t, d.Pick(info.Name), id); err != nil || !bytes.Equal(named, data) {
					t.Errorf("read %d bytes by name, %v; want the %d written", len(named), err, len(data))
				}
				got, back, err := read(t.Context(), d, id)
				if err != nil || !bytes.Equal(back, data) {
					t.Errorf("read %d bytes, %v; want the %d written", len(back), err, len(data))
				}
				if diff := cmp.Diff(m, got); diff != "" {
					t.Errorf("meta (-want +got)\n%s", diff)
				}
				if got, err := Verify(t.Context(), d, id); err != nil || got.Index != 12 {
					t.Errorf("Verify() = %v, %v", got, err)
				}
				all, err := List(t.Context(), d)
				if err != nil || len(all) != 1 || all[0].Name != info.Name || all[0].Size != info.Size {
					t.Errorf("List() = %v, %v; want %v", all, err, info)
				}
			})
		}
	}
}

func read1(t *testing.T, d Destination, id Identity) ([]byte, error) {
	_, data, err := read(t.Context(), d, id)
	return data, err
}

func TestTheNewestIsFirst(t *testing.T) {
	id, to := pair(t)
	s3 := s3test.New(t)
	s3.Page = 2
	for where, text := range map[string]string{"folder": t.TempDir(), "bucket": s3.URL("deep/er")} {
		t.Run(where, func(t *testing.T) {
			d := destination(t, text)
			if _, _, err := Open(t.Context(), d, id); !errors.Is(err, ErrNone) {
				t.Errorf("Open() of no backup = %v, want ErrNone", err)
			}
			write(t, d, to, meta("my-mesh", 90, "2026-01-02 00:00:00"), []byte("second"))
			write(t, d, to, meta("my-mesh", 100, "2026-01-01 00:00:00"), []byte("third"))
			write(t, d, to, meta("my-mesh", 95, "2026-01-02 00:00:00"), []byte("first"))
			all, err := List(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range all {
				got = append(got, fmt.Sprint(i.Mesh, " ", i.Index, " ", i.At.Format(time.DateTime), " ", i.Size > ageChunk))
			}
			want := []string{"my-mesh 95 2026-01-02 00:00:00 true", "my-mesh 90 2026-01-02 00:00:00 true", "my-mesh 100 2026-01-01 00:00:00 true"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("List() (-want +got)\n%s", diff)
			}
			if _, data, err := read(t.Context(), d, id); err != nil || string(data) != "first" {
				t.Errorf("Open() of the place = %q, %v; want the newest", data, err)
			}
			write(t, d, to, meta("other", 1, "2026-01-01 00:00:00"), nil)
			_, _, err = Open(t.Context(), d, id)
			wantText(t, err, "has backups of the meshes my-mesh, other; name the one you mean")
		})
	}
}

func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error = %v\nwant one with: %s", err, text)
	}
}

func TestAFileIsReplaced(t *testing.T) {
	id, to := pair(t)
	d := destination(t, filepath.Join(t.TempDir(), "mesh.age"))
	write(t, d, to, meta("home", 1, "2026-01-01 00:00:00"), []byte("one"))
	write(t, d, to, meta("home", 2, "2026-01-02 00:00:00"), []byte("two"))
	m, data, err := read(t.Context(), d, id)
	if err != nil || string(data) != "two" || m.Index != 2 {
		t.Errorf("read %q at %d, %v; want two at 2", data, m.Index, err)
	}
	if removed, err := Prune(t.Context(), d, "home", 1); err != nil || len(removed) > 0 {
		t.Errorf("Prune() of a file = %v, %v; want it left alone", removed, err)
	}
	_, err = Write(t.Context(), d, to, meta("home", 3, "2026-01-03 00:00:00"), func(w io.Writer) error {
		w.Write(noise(1 << 20)) // fails after a while, like a leader that lost its place
		return context.DeadlineExceeded
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Write() = %v, want the source's error", err)
	}
	if _, data, err := read(t.Context(), d, id); err != nil || string(data) != "two" {
		t.Errorf("after a failed backup the last one is %q, %v; want two", data, err)
	}
}

func TestAFailedBackupLeavesNothing(t *testing.T) {
	_, to := pair(t)
	errLost := errors.New("the leader changed")
	ctx, cancel := context.WithCancelCause(t.Context())
	failures := map[string]struct {
		ctx  context.Context
		src  func(io.Writer) error
		want error
	}{
		"at once": {t.Context(), func(io.Writer) error { return errLost }, errLost},
		"in the middle": {t.Context(), func(w io.Writer) error {
			return errors.Join(bytesOf(noise(partSize+5<<20))(w), errLost)
		}, errLost},
		"with the context": {ctx, func(w io.Writer) error {
			if err := bytesOf(noise(partSize + 5<<20))(w); err != nil {
				return err
			}
			cancel(errLost)
			w.Write(noise(1 << 20)) // a source that looks at no error
			return nil
		}, errLost},
	}
	for name, f := range failures {
		s3 := s3test.New(t)
		dir := t.TempDir()
		for where, text := range map[string]string{"folder": dir, "bucket": s3.URL("p")} {
			t.Run(name+" in a "+where, func(t *testing.T) {
				d := destination(t, text)
				_, err := Write(f.ctx, d, to, meta("home", 1, "2026-01-01 00:00:00"), f.src)
				if !errors.Is(err, f.want) && !errors.Is(err, context.Canceled) {
					t.Errorf("Write() = %v, want %v", err, f.want)
				}
				wantEmpty(t, dir, s3)
			})
		}
	}
}

func wantEmpty(t *testing.T, dir string, s3 *s3test.Server) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("the folder has %v", left)
	}
	if keys := append(s3.Keys(), s3.Unfinished()...); len(keys) > 0 {
		t.Errorf("the bucket has %v", keys)
	}
}

func TestWriteRefuses(t *testing.T) {
	_, to := pair(t)
	d := destination(t, t.TempDir())
	ok := meta("home", 1, "2026-01-01 00:00:00")
	for want, try := range map[string]func() error{
		"no place for backups is set":        func() error { _, err := Write(t.Context(), Destination{}, to, ok, bytesOf(nil)); return err },
		"needs a key to be closed with":      func() error { _, err := Write(t.Context(), d, Recipient{}, ok, bytesOf(nil)); return err },
		"needs the name of its mesh":         func() error { _, err := Write(t.Context(), d, to, Meta{}, bytesOf(nil)); return err },
		`"a/b" cannot be part of a backup's`: func() error { _, err := Write(t.Context(), d, to, Meta{Mesh: "a/b"}, bytesOf(nil)); return err },
		"has 65 characters": func() error {
			_, err := Write(t.Context(), d, to, Meta{Mesh: strings.Repeat("m", 65)}, bytesOf(nil))
			return err
		},
		"needs a key to be opened with": func() error {
			info := write(t, d, to, ok, nil)
			_, _, err := Open(t.Context(), d.Pick(info.Name), Identity{})
			return err
		},
		"there is no backup of that name": func() error { _, _, err := Open(t.Context(), d.Pick("x.age"), Identity{}); return err },
		"keep at least 1":                 func() error { _, err := Prune(t.Context(), d, "home", 0); return err },
	} {
		wantText(t, try(), want)
	}
}

func TestPrune(t *testing.T) {
	_, to := pair(t)
	s3 := s3test.New(t)
	dir := t.TempDir()
	for where, text := range map[string]string{"folder": dir, "bucket": s3.URL("p")} {
		t.Run(where, func(t *testing.T) {
			d := destination(t, text)
			for day := range 5 {
				m := meta("home", uint64(day+1), "2026-01-01 00:00:00")
				m.At = m.At.AddDate(0, 0, day)
				write(t, d, to, m, nil)
				m.Mesh = "home-2"
				write(t, d, to, m, nil)
			}
			removed, err := Prune(t.Context(), d, "home", 2)
			if err != nil || len(removed) != 3 || removed[0].Index != 3 {
				t.Errorf("Prune() = %v, %v; want indexes 3, 2, 1", removed, err)
			}
			all, err := List(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			left := map[string]int{}
			for _, i := range all {
				left[i.Mesh]++
			}
			if diff := cmp.Diff(map[string]int{"home": 2, "home-2": 5}, left); diff != "" {
				t.Errorf("left (-want +got)\n%s", diff)
			}
			if removed, err := Prune(t.Context(), d, "home", 2); err != nil || len(removed) > 0 {
				t.Errorf("Prune() again = %v, %v; want nothing", removed, err)
			}
		})
	}
}

// TestTidy: only what this mesh's writers left, and no writer is at, goes.
func TestTidy(t *testing.T) {
	_, to := pair(t)
	const at = "-000000000007-20260101T000000Z.age"
	dir := t.TempDir()
	old, stays := ".samnode-home"+at+".123"+partSuffix, []string{
		".samnode-home" + at + ".456" + partSuffix,   // written to just now
		".samnode-home-2" + at + ".789" + partSuffix, // another mesh's
		"notes" + partSuffix, "samnode-home.age", "samnode-home" + at + ".txt",
	}
	for _, name := range append(stays, old) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if name == stays[0] {
			continue
		}
		before := time.Now().Add(-2 * partIdle)
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
	}
	write(t, destination(t, dir), to, meta("home", 8, "2026-01-01 00:00:00"), nil)
	if _, err := os.Stat(filepath.Join(dir, old)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", old, err)
	}
	for _, name := range stays {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}

	s3 := s3test.New(t)
	before := time.Now().Add(-2 * uploadIdle)
	s3.Begin("p/samnode-home"+at, before)
	s3.Begin("p/samnode-home-2"+at, before)
	s3.Begin("p/samnode-home-000000000009-20260101T000000Z.age", time.Now())
	s3.Begin("q/samnode-home"+at, before)
	if _, err := Prune(t.Context(), destination(t, s3.URL("p")), "home", 1); err != nil {
		t.Fatal(err)
	}
	want := []string{"p/samnode-home-000000000009-20260101T000000Z.age", "p/samnode-home-2" + at, "q/samnode-home" + at}
	if diff := cmp.Diff(want, s3.Unfinished()); diff != "" {
		t.Errorf("uploads left (-want +got)\n%s", diff)
	}
}

// TestMemory: a copy larger than the memory it may take.
func TestMemory(t *testing.T) {
	id, to := pair(t)
	const size, allowed = 256 << 20, 48 << 20
	d := destination(t, t.TempDir())
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	most := uint64(0)
	look := func(n int) {
		if n%(64<<20) == 0 {
			runtime.ReadMemStats(&now)
			most = max(most, now.Sys-before.Sys)
		}
	}
	if _, err := Write(t.Context(), d, to, meta("home", 1, "2026-01-01 00:00:00"), func(w io.Writer) error {
		for n := 0; n < size; n += len(block) {
			look(n)
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, r, err := Open(t.Context(), d, id)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil; n += len(block) {
		look(n)
		_, err = io.ReadFull(r, block)
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("reading = %v, want io.EOF", err)
	}
	if most > allowed {
		t.Errorf("took %d MiB, want at most %d", most>>20, allowed>>20)
	}
	r.Close()
	if _, err := r.Read(block); err == nil {
		t.Error("a closed backup can be read")
	}
}

func BenchmarkWrite(b *testing.B) {
	_, to := pair(b)
	d := destination(b, filepath.Join(b.TempDir(), "b.age"))
	data := benchData()
	b.SetBytes(int64(len(data)))
	var size int64
	for b.Loop() {
		size = write(b, d, to, meta("home", 1, "2026-01-01 00:00:00"), data).Size
	}
	b.ReportMetric(float64(len(data))/float64(size), "x-smaller")
}

func BenchmarkRead(b *testing.B) {
	id, to := pair(b)
	d := destination(b, filepath.Join(b.TempDir(), "b.age"))
	data := benchData()
	write(b, d, to, meta("home", 1, "2026-01-01 00:00:00"), data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Verify(b.Context(), d, id); err != nil {
			b.Fatal(err)
		}
	}
}

// benchData is 64 MiB that compress as chat does: half words, half noise.
func benchData() []byte {
	random := noise(64 << 20)
	for i := 0; i < len(random); i += 64 {
		copy(random[i:i+40], fmt.Sprintf("the agent said %08d things, and then more", i/4096))
	}
	return random
}
