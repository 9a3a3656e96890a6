package main

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/sshd"
)

// What one person does within a stay is two lines, and each person, device and
// task has its own.
func TestStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var said []string
		s := newStays(func(task chat.TaskID, text string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, string(task)+": "+text)
		})
		ana := guest{"t1", "ana", "laptop"}
		visit := func(g guest, long time.Duration, v sshd.Visit) {
			s.enter(g)
			time.Sleep(long)
			v.Ended = time.Now()
			s.leave(g, v)
		}
		for range 3 {
			visit(ana, time.Minute, sshd.Visit{Commands: 1, Files: 2})
			time.Sleep(stayPause - time.Second)
		}
		s.enter(ana)
		visit(ana, time.Minute, sshd.Visit{Shells: 1}) // another connection at the same time
		time.Sleep(2 * stayPause)
		s.leave(ana, sshd.Visit{Ended: time.Now(), Forwards: 1})
		time.Sleep(2 * stayPause)
		visit(ana, 0, sshd.Visit{})
		synctest.Wait()
		s.enter(guest{"t2", "ana", "laptop"})
		time.Sleep(5 * time.Second)
		s.close()
		s.leave(guest{"t2", "ana", "laptop"}, sshd.Visit{})
		time.Sleep(2 * stayPause)
		want := []string{
			"t1: ana came into the workspace by ssh, from laptop.",
			"t1: ana, by ssh from laptop, left the workspace after 13m57s: 1 shell, 3 commands, 6 sessions of sftp, 1 forwarded connection.",
			"t1: ana came into the workspace by ssh, from laptop.",
			"t2: ana came into the workspace by ssh, from laptop.",
		}
		ends := map[string]bool{
			"t1: ana, by ssh from laptop, left the workspace after 0s: nothing was run.": true,
			"t2: ana, by ssh from laptop, left the workspace after 5s: nothing was run.": true,
		}
		if len(said) != 6 || !ends[said[4]] || !ends[said[5]] || said[4] == said[5] {
			t.Fatalf("said %q", said)
		}
		if d := cmp.Diff(want, said[:4]); d != "" {
			t.Errorf("said (-want +got):\n%s", d)
		}
	})
}
