package backup

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDestinations(t *testing.T) {
	env := map[string]string{"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "hidden"}
	for text, want := range map[string]string{
		"/var/backups":                       "/var/backups",
		" /var/backups/ ":                    "/var/backups",
		"/var/backups/mesh.age":              "/var/backups/mesh.age",
		"s3://AK:hidden@host:9000/b":         "s3://host:9000/b",
		"s3://AK:hid%2Fden@host/b/a/b/":      "s3://host/b/a/b",
		"s3://host/b/deep/mesh.age?region=x": "s3://host/b/deep/mesh.age",
		"s3://host/b/mesh.age?style=path":    "s3://host/b/mesh.age",
		"s3://host/b?insecure=1&style=host":  "s3://host/b",
	} {
		d, err := ParseDestination(text, func(name string) string { return env[name] })
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d.String() != want || d.IsZero() {
			t.Errorf("%s = %s, want %s", text, d, want)
		}
		if d.name == "" {
			if got, want := d.Pick("x.age").String(), want+"/x.age"; got != want {
				t.Errorf("Pick() = %s, want %s", got, want)
			}
		}
	}
	if d := (Destination{}); d.String() != "nowhere" || !d.IsZero() {
		t.Errorf("no destination is %s", d)
	}
}

func TestNoDestination(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                               "a backup needs a place",
		"https://host/bucket":            "backups cannot go to https://",
		"gs://bucket":                    "backups cannot go to gs://",
		"~/backups":                      "write the whole path",
		file:                             "is a file: give a folder, or a file ending in .age",
		"s3://AK:hidden@/b":              "names no host",
		"s3://AK:hidden@host":            "names no bucket",
		"s3://AK:hidden@host/":           "names no bucket",
		"s3://AK:hid/den@host/b":         "written as %2F",
		"s3://AK:hid den@host/b\x7f":     "the URL of the bucket is not one",
		"s3://AK@host/b":                 "half of KEY:SECRET",
		"s3://:hidden@host/b":            "half of KEY:SECRET",
		"s3://host/b":                    "needs a key: put KEY:SECRET@ before its host",
		"s3://AK:hidden@host/b?unsafe=1": "it has ?unsafe=1",
		"s3://AK:hidden@host/b?insecure": "may have region=NAME, insecure=1",
		"s3://AK:hidden@host:x/b":        "the URL of the bucket is not one",
	} {
		want = strings.Replace(want, "it has", "has", 1)
		_, err := ParseDestination(text, nil)
		wantText(t, err, want)
		if err != nil && (strings.Contains(err.Error(), "hid") || strings.Contains(err.Error(), "den@")) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, mesh := range []string{"home", "my-mesh", "a.b_c-1", "01JABCDEF", "x-000000000001-20260101T000000Z"} {
		m := meta(mesh, 1<<63, "2026-03-04 05:06:07")
		got, ok := parseName(nameOf(m))
		if want := (Info{Name: nameOf(m), Mesh: mesh, Index: 1 << 63, At: m.At}); !ok || got != want {
			t.Errorf("%s: %v\nwant %v", nameOf(m), got, want)
		}
	}
	for _, name := range []string{
		"", "samnode-.age", "samnode-home.age", "samnode-home-1.age", "samnode-home-x-20260101T000000Z.age",
		"samnode--1-20260101T000000Z.age", "samnode-home-1-20260101.age", "samnode-home-1-20261301T000000Z.age",
		"home-1-20260101T000000Z.age", "samnode-home-1-20260101T000000Z.age.part", "samnode-a b-1-20260101T000000Z.age",
		"samnode-home--1-20260101T000000Z", "samnode-../x-1-20260101T000000Z.age",
	} {
		if got, ok := parseName(name); ok {
			t.Errorf("%q is read as %v", name, got)
		}
	}
}

// TestListOfOthers: what else is in a folder is not a backup; a file that a
// person named is what its stat says.
func TestListOfOthers(t *testing.T) {
	_, to := pair(t)
	dir := t.TempDir()
	write(t, destination(t, dir), to, meta("home", 1, "2026-01-01 00:00:00"), nil)
	for _, name := range []string{"mine.age", "samnode-home.age", "notes.txt", "samnode-home-1-20260101T000000Z.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("abc"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "samnode-home-1-20260101T000000Z.age"), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := List(t.Context(), destination(t, dir))
	if err != nil || len(all) != 1 || all[0].Name != "samnode-home-000000000001-20260101T000000Z.age" {
		t.Errorf("List() = %v, %v; want the backup alone", all, err)
	}
	all, err = List(t.Context(), destination(t, filepath.Join(dir, "mine.age")))
	if err != nil || len(all) != 1 || time.Since(all[0].At) > time.Minute {
		t.Fatalf("List() of a file = %v, %v", all, err)
	}
	if diff := cmp.Diff(Info{Name: "mine.age", At: all[0].At, Size: 3}, all[0]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	stat, err := os.Stat(filepath.Join(dir, "samnode-home-000000000001-20260101T000000Z.age"))
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", stat.Mode(), err)
	}
}

// TestAFullDisk: the sentence says so, the old backup stays, the half is gone.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("SKIPPED: a small tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	id, to := pair(t)
	d := destination(t, dir)
	write(t, d, to, meta("home", 1, "2026-01-01 00:00:00"), noise(1<<20))
	for name, src := range map[string]func(io.Writer) error{
		"a source that looks at errors": bytesOf(noise(4 << 20)),
		"one that does not":             func(w io.Writer) error { w.Write(noise(4 << 20)); return nil },
	} {
		_, err := Write(t.Context(), d, to, meta("home", 2, "2026-01-02 00:00:00"), src)
		wantText(t, err, "there is no room for it; free some, or keep fewer backups")
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v, want ENOSPC", name, err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
		if m, err := Verify(t.Context(), d, id); err != nil || m.Index != 1 {
			t.Errorf("%s: the old backup: %v, %v", name, m, err)
		}
	}
}
