package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/ui/api"
)

// filesAs runs samnode files with an input, and returns what came of it.
func (n *testNode) files(stdin string, args ...string) (out, errs string, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.bin, append([]string{"--api", n.url, "files"}, args...)...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		n.t.Fatalf("%v: %v %s", args, err, &e)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func (n *testNode) mustFiles(stdin string, args ...string) string {
	n.t.Helper()
	out, errs, code := n.files(stdin, args...)
	if code != 0 {
		n.t.Fatalf("samnode files %q = %d %s%s", args, code, out, errs)
	}
	return out
}

// filesCLI does with a workspace what people do, at a node that may not have it.
func filesCLI(t *testing.T, n *testNode, v taskView) {
	t.Helper()
	task := string(v.ID)
	local := t.TempDir()
	for name, text := range map[string]string{"a.txt": "one\n", "sub/b.txt": "two\n", "sub/deep/c.bin": "\x00\x01"} {
		p := filepath.Join(local, "tree", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.mustFiles("", "cat", task, "hello.txt"); got != "hello\n" {
		t.Errorf("cat = %q", got)
	}
	n.mustFiles("typed", "put", task, "-", "from/stdin.txt")
	n.mustFiles("", "put", task, filepath.Join(local, "tree"), ".")
	n.mustFiles("", "put", task, filepath.Join(local, "tree", "a.txt"), "hello.txt")
	if got := n.mustFiles("", "ls", task, "tree"); !strings.Contains(got, "sub/") || !strings.Contains(got, "added  0755  4 ") {
		t.Errorf("ls = %s", got)
	}
	if got := n.mustFiles("", "ls", task); !strings.Contains(got, "tree/") || !strings.Contains(got, ".git/") {
		t.Errorf("ls = %s", got)
	}
	if got := n.mustFiles("", "diff", task, "hello.txt"); !strings.Contains(got, "+one") || strings.Contains(got, "stdin") {
		t.Errorf("diff = %s", got)
	}
	if got := n.mustFiles("", "diff", task); !strings.Contains(got, "+++ b/from/stdin.txt") || !strings.Contains(got, "GIT binary patch") {
		t.Errorf("diff = %s", got)
	}
	if got := n.mustFiles("", "diff", task, "--commit"); strings.Contains(got, "stdin") || !strings.Contains(got, "+hello") {
		t.Errorf("diff of the commit = %s", got)
	}
	n.mustFiles("", "get", task, "tree", local+"/back")
	if b, err := os.ReadFile(filepath.Join(local, "back", "sub/deep/c.bin")); string(b) != "\x00\x01" || err != nil {
		t.Errorf("copied back: %q, %v", b, err)
	}
	n.mustFiles("", "mv", task, "tree/a.txt", "tree/z.txt")
	n.mustFiles("", "rm", task, "tree/z.txt")
	n.mustFiles("", "mkdir", task, "made/here")
	n.mustFiles("", "rm", "-r", task, "tree", "made", "from")
	n.refuses(exitFailed, "there is no", "cat", task, "tree/a.txt")
	n.mustFiles("hello\n", "put", task, "-", "hello.txt")
}

// refuses wants a sentence and an exit code.
func (n *testNode) refuses(code int, says string, args ...string) {
	n.t.Helper()
	out, errs, got := n.files("", args...)
	if got != code || !strings.Contains(errs, says) || strings.ContainsAny(strings.TrimSuffix(errs, "\n"), "\x1b\x00\n") {
		n.t.Errorf("samnode files %q = %d %q %q, want %d and %q", args, got, out, errs, code, says)
	}
}

// filesBad is what a hostile workspace and wrong paths get.
func filesBad(t *testing.T, n *testNode, v taskView) {
	t.Helper()
	task := string(v.ID)
	n.inside(v.ID, `cd /workspaces/app && ln -s /etc/passwd out && ln -s .. up && ln -s loop loop && mkfifo pipe && printf odd > "$(printf 'new\nline')" && printf red > "$(printf 'esc\033[31m')"`)
	n.refuses(exitUsage, "outside the workspace", "cat", task, "../../etc/passwd")
	n.refuses(exitUsage, "outside the workspace", "ls", task, "/etc")
	n.refuses(exitRefused, "is a link to “/etc/passwd”", "cat", task, "out")
	n.refuses(exitRefused, "is a link to", "ls", task, "up/app")
	n.refuses(exitRefused, "circle", "cat", task, "loop")
	n.refuses(exitRefused, "is a fifo", "cat", task, "pipe")
	n.refuses(exitRefused, "git's own", "put", task, os.Args[0], ".git/hooks/pre-commit")
	n.refuses(exitRefused, "a link to", "put", task, os.Args[0], "out")
	n.refuses(exitUsage, "not to be seen", "put", task, os.Args[0], "a\x1b[31m")
	n.refuses(exitUsage, "not UTF-8", "mkdir", task, "\xff")
	n.refuses(exitRefused, "there already", "put", "--keep", task, os.Args[0], "hello.txt")
	n.refuses(exitFailed, "There is no task", "ls", "nosuchtask")
	list := n.mustFiles("", "ls", task)
	if !strings.Contains(list, `new\nline`) || !strings.Contains(list, `esc\x1b[31m`) || !strings.Contains(list, "out -> /etc/passwd") || strings.ContainsRune(list, '\x1b') {
		t.Errorf("ls = %q", list)
	}
	if got := n.mustFiles("", "cat", task, "new\nline"); got != "odd" {
		t.Errorf("an odd name = %q", got)
	}
	local := t.TempDir()
	_, errs, code := n.files("", "get", task, ".", local+"/all")
	if code != 0 || !strings.Contains(errs, "left out: “out”") {
		t.Errorf("get = %d %s", code, errs)
	}
	if _, err := os.Lstat(local + "/all/out"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link that leads out: %v", err)
	}
	if b, err := os.ReadFile(local + "/all/new\nline"); string(b) != "odd" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	n.mustFiles("", "rm", task, "out", "up", "loop", "pipe", "new\nline", "esc\x1b[31m")
}

// TestFiles: people look at the files of a live workspace, change them and copy
// them there and back; without a machine they see the last commit.
func TestFiles(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	v := spaceTask(t, n)
	filesCLI(t, n, v)
	filesBad(t, n, v)
	filesBig(t, n, v)
	m := &testMesh{t: t}
	m.await("the visit to be in the chat", func() bool { return strings.Contains(n.talk(v.ID), "is in the workspace, from the node's own machine") })

	must[taskView](n, "task", "release", string(v.ID))
	n.until(v.ID, "without a workspace", func(v taskView) bool { return v.Lease == nil })
	task := string(v.ID)
	out, errs, code := n.files("", "ls", task)
	if code != 0 || !strings.Contains(out, "hello.txt") || !strings.Contains(errs, "last commit") {
		t.Errorf("without a machine = %d %s %s", code, out, errs)
	}
	if got := n.mustFiles("", "cat", task, "hello.txt"); got != "hello\n" {
		t.Errorf("the last commit = %q", got)
	}
	if got := n.mustFiles("", "diff", task); !strings.Contains(got, "+hello") {
		t.Errorf("the diff of the last commit = %s", got)
	}
	got := n.mustFiles("", "get", task, ".", "-")
	zip, err := gzip.NewReader(strings.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tar.NewReader(zip).Next(); err != nil || h.Name != "app/" {
		t.Errorf("the archive begins with %+v, %v", h, err)
	}
	n.refuses(exitRefused, "samnode task say "+task, "put", task, os.Args[0], "x")
	n.refuses(exitUsage, "outside", "cat", task, "../x")
	n.stop()
	if _, _, code := n.files("", "ls", task); code != exitUnreachable {
		t.Errorf("without a node = %d", code)
	}
}

// filesBig copies much there and back; the node keeps none of it.
func filesBig(t *testing.T, n *testNode, v taskView) {
	t.Helper()
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	before := n.memory()
	c := newClient(n.url)
	began := time.Now()
	if err := c.upload(t.Context(), filesPath(string(v.ID), "big.bin", nil), io.LimitReader(pattern{}, size), size); err != nil {
		t.Fatal(err)
	}
	up := time.Since(began)
	began = time.Now()
	resp, err := c.do(t.Context(), http.MethodGet, filesPath(string(v.ID), "big.bin", nil), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	if err != nil || got != size || resp.ContentLength != size {
		t.Errorf("got %d bytes of %d: %v", got, size, err)
	}
	down := time.Since(began)
	grown := n.memory() - before
	t.Logf("%d MiB: up in %v, down in %v, the node's memory grew by %d MiB", size>>20, up, down, grown>>20)
	if grown > 64<<20 {
		t.Errorf("the node's memory grew by %d MiB", grown>>20)
	}
	n.mustFiles("", "rm", string(v.ID), "big.bin")
}

// memory is the node's highest resident memory.
func (n *testNode) memory() int64 {
	n.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(after, &kb); err != nil {
		n.t.Fatal(err)
	}
	return kb << 10
}

// pattern is bytes without an end.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

// TestFilesElsewhere: a node shows and changes the files of a workspace that
// another one has.
func TestFilesElsewhere(t *testing.T) {
	needDocker(t)
	t.Parallel()
	m := foundMesh(t)
	a := m.nodes[0]
	w := m.join(a, "w", false)
	m.awaitNode(a, "w", "there", func(x api.Node) bool { return x.Online && x.Slots > 0 })
	must[map[string]string](a, "node", "drain", "a")
	v := spaceTask(t, a)
	if string(v.Lease.Node) != "w" {
		t.Fatalf("the task runs on %s", v.Lease.Node)
	}
	filesCLI(t, a, v)
	w.mustFiles("by way of a core node", "put", string(v.ID), "-", "w.txt")
	if got := w.mustFiles("", "cat", string(v.ID), "w.txt"); got != "by way of a core node" {
		t.Errorf("at the worker: %q", got)
	}
	var list listedFolder
	if err := json.Unmarshal([]byte(a.mustFiles("", "ls", "--json", string(v.ID))), &list); err != nil || list.As != "as it is now, on w" {
		t.Errorf("%+v, %v", list, err)
	}
}
