package chaos

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The number of schedules and the first seed, from scripts/chaos.
const (
	envSchedules = "CHAOS_SCHEDULES"
	envSeed      = "CHAOS_SEED"
	envLog       = "CHAOS_LOG" // a directory: there each schedule writes what happens, and what its nodes log, as it goes
)

func setting(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s: want a number", name, s)
	}
	return n
}

// TestSchedules runs schedules and looks for what must not be.
func TestSchedules(t *testing.T) {
	few := 8
	if testing.Short() {
		few = 3
	}
	n, first := setting(t, envSchedules, few), setting(t, envSeed, 1)
	began := time.Now()
	var mu sync.Mutex
	var sum tally
	t.Run("seed", func(t *testing.T) {
		for i := range n {
			seed := uint64(first + i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				w := runPlan(t, newPlan(seed), flaws{}, disks(t))
				if len(w.bad) > 0 {
					t.Errorf("%s\nrun it alone: scripts/chaos 1 %d\n%s", w.plan, seed, w.story())
				}
				mu.Lock()
				defer mu.Unlock()
				sum.add(w)
				if n > few && sum.schedules%50 == 0 {
					fmt.Fprintf(os.Stderr, "• %d schedules after %s, %d failed\n", sum.schedules, time.Since(began).Round(time.Second), len(sum.failed))
				}
			})
		}
	})
	if n > few {
		sum.print(os.Stdout, time.Since(began))
		return
	}
	var b strings.Builder
	sum.print(&b, time.Since(began))
	t.Log("\n" + b.String())
}

// disks is where the nodes' disks are: in memory where that can be had. What a
// power cut leaves of them is played, and does not depend on syncing them.
func disks(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "samnode-chaos-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// story is what happened, violations first.
func (w *world) story() string {
	return strings.Join(w.bad, "\n") + "\n\n" + strings.Join(w.lines, "\n")
}

// TestAPlanIsAFunctionOfItsSeed: the same one again, and others for others.
func TestAPlanIsAFunctionOfItsSeed(t *testing.T) {
	seen := make(map[string]uint64)
	var kinds [kinds]int
	for seed := range uint64(200) {
		p := newPlan(seed).String()
		if again := newPlan(seed).String(); again != p {
			t.Errorf("seed %d makes two plans:\n%s\n%s", seed, p, again)
		}
		if other, is := seen[p]; is {
			t.Errorf("seeds %d and %d make the same plan", other, seed)
		}
		seen[p] = seed
		for _, f := range newPlan(seed).faults {
			kinds[f.kind]++
		}
	}
	for k, n := range kinds {
		if n == 0 {
			t.Errorf("no plan has %s", kindNames[k])
		}
	}
}
