package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// On a volume that is really full the agent waits, the shim says why, and
// nothing is lost when there is room again.
func TestFullVolume(t *testing.T) {
	t.Parallel()
	volume := filepath.Join(shortTempDir(t), "volume")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("samnode-test", volume, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("needs the right to mount a small volume: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(volume, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := newRig(t)
	r.kill()
	r.config.Journal = volume + "/"
	r.launch()
	r.agent("burst", "100000") // 8 MB of records
	eventually(t, "the shim reports the full volume", func() bool {
		info, err := r.Hello(t.Context())
		return err == nil && strings.Contains(info.Trouble, syscall.ENOSPC.Error()) && info.Running
	})
	if _, _, err := r.Send(t.Context(), "m", []byte("x")); !errors.Is(err, ErrFull) {
		t.Errorf("Send = %v, want ErrFull", err)
	}
	if err := syscall.Mount("samnode-test", volume, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	recs := r.until(1, exited)
	checkDense(t, recs, 1)
	lines := of(recs, Out)
	if len(lines) != 100000 || len(notes(recs, EventResumed)) == 0 || notes(recs, EventExited)[0].Code != 0 {
		t.Errorf("%d lines, %d notes of resuming, exit %+v", len(lines), len(notes(recs, EventResumed)), notes(recs, EventExited))
	}
	for i, l := range lines {
		if want := fmt.Sprintf(`{"n":%d,`, i); !strings.HasPrefix(l, want) {
			t.Fatalf("line %d = %q", i, l)
		}
	}
	info, err := r.Hello(t.Context())
	if err != nil || info.Trouble != "" {
		t.Errorf("Hello = %q, %v, want no trouble", info.Trouble, err)
	}
}
