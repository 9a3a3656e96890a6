package acp_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/acp"
)

// waitFile polls until the block wrote dir/pid.
func waitFile(t *testing.T, dir string) {
	t.Helper()
	for range 500 {
		if b, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil && len(b) > 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the block does not start")
}

// assertGone polls until no process of the group that wrote dir/pid is left.
func assertGone(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if syscall.Kill(-pid, 0) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the process group %d is alive", pid)
}

// withoutResume hides the resume capability from the client.
func withoutResume(main func(context.Context, io.Reader, io.Writer) error) func(context.Context, io.Reader, io.Writer) error {
	return func(ctx context.Context, in io.Reader, out io.Writer) error {
		return main(ctx, in, writerFunc(func(b []byte) (int, error) {
			_, err := out.Write(bytes.Replace(b, []byte(`"sessionCapabilities":{"resume":{}}`), []byte(`"sessionCapabilities":{}`), 1))
			return len(b), err
		}))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func sentMethod(j *journal, method string) bool {
	for _, r := range j.all() {
		if r.Dir == acp.In && bytes.Contains(r.Data, []byte(`"method":"`+method+`"`)) {
			return true
		}
	}
	return false
}
