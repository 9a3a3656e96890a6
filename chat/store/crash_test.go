package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat/store"
)

const (
	crashEnv   = "SAMNODE_TEST_CRASH_STORE"
	restoreEnv = "SAMNODE_TEST_CRASH_RESTORE" // a copy, which the process restores
)

// TestMain turns the test binary into the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		if from := os.Getenv(restoreEnv); from != "" {
			fmt.Fprintln(os.Stderr, "restoring:", restoreOnce(path, from))
			os.Exit(1)
		}
		fmt.Fprintln(os.Stderr, "applying:", applyForever(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// applyForever applies the script in small batches, and says each index up to
// which it had a snapshot made, until it is killed.
func applyForever(path string) error {
	ctx := context.Background()
	entries, err := scriptEntries(ctx, crashEntries)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		return err
	}
	state, applied, err := s.Load(ctx)
	if err != nil {
		return err
	}
	m := store.NewMachine(s, state, applied, nil)
	for len(entries) > 0 {
		n := min(3, len(entries))
		if err := m.Apply(entries[:n]); err != nil {
			return err
		}
		index := entries[n-1].Index
		entries = entries[n:]
		if index%4 != 0 { // the rest is in the backlog when the kill comes
			continue
		}
		snap, err := m.Snapshot()
		if err != nil {
			return err
		}
		if _, err := snap.WriteTo(io.Discard); err != nil {
			return err
		}
		fmt.Println(index)
	}
	_, err = io.Copy(io.Discard, os.Stdin) // all done before the kill came
	return err
}

const crashEntries = 400

// TestKilledProcessLosesNothingOfASnapshot: the log may be cut up to one.
func TestKilledProcessLosesNothingOfASnapshot(t *testing.T) {
	entries := script(t, crashEntries)
	path := filepath.Join(t.TempDir(), "chat.db")
	rng := rand.New(rand.NewPCG(21, 22))
	for round := range 3 {
		durable := killAfter(t, path, 3+rng.IntN(8))
		o := open(t, path)
		applied := o.machine.Applied()
		if applied < durable {
			t.Fatalf("round %d: applied = %d after the kill, but a snapshot was at %d", round, applied, durable)
		}
		if diff := cmp.Diff(replay(t, entries[:applied]), dump(t, o.state, o)); diff != "" {
			t.Fatalf("round %d: reopened at %d (-want +got):\n%s", round, applied, diff)
		}
		o.close(t)
	}
	o := open(t, path)
	defer o.close(t)
	o.apply(t, entries, rng)
	if diff := cmp.Diff(replay(t, entries), dump(t, o.state, o)); diff != "" {
		t.Errorf("continued after kills (-want +got):\n%s", diff)
	}
}

// killAfter runs the process until it has made some snapshots, kills it and
// returns the last index it said.
func killAfter(t *testing.T, path string, snapshots int) uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var last uint64
	for n := 0; lines.Scan(); n++ {
		if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatalf("the process said %q", lines.Text())
		}
		if n == snapshots {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process ended by itself")
	}
	if last == 0 {
		t.Fatal("the process made no snapshot")
	}
	return last
}

// restoreOnce says when it begins to restore a copy, and waits to be killed.
func restoreOnce(path, from string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		return err
	}
	state, applied, err := s.Load(ctx)
	if err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	fmt.Println("begins")
	if err := store.NewMachine(s, state, applied, nil).Restore(f); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestKilledRestoreLeavesOneWholeStore(t *testing.T) {
	entries := script(t, 200)
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(23, 24))
	o := open(t, filepath.Join(dir, "from.db"))
	o.apply(t, entries, rng)
	copied := filepath.Join(dir, "copy")
	if err := os.WriteFile(copied, copyOf(t, o), 0o600); err != nil {
		t.Fatal(err)
	}
	o.close(t)
	const older = 50
	for round := range 8 {
		path := filepath.Join(dir, fmt.Sprintf("round-%d", round), "chat.db")
		o := open(t, path)
		o.apply(t, entries[:older], rng)
		o.close(t)
		killRestore(t, path, copied, time.Duration(round)*5*time.Millisecond)
		o = open(t, path)
		applied := o.machine.Applied()
		if applied != entries[older-1].Index && applied != entries[len(entries)-1].Index {
			t.Fatalf("round %d: the store is at %d", round, applied)
		}
		if diff := cmp.Diff(replay(t, entries[:applied]), dumpOf(t, o)); diff != "" {
			t.Errorf("round %d: the store at %d (-want +got):\n%s", round, applied, diff)
		}
		onlyStores(t, filepath.Dir(path), "chat.db")
		o.close(t)
	}
}

// killRestore kills a process some time after it began to restore.
func killRestore(t *testing.T, path, copied string, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashEnv+"="+path, restoreEnv+"="+copied)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process ended by itself")
	}
}
