package consensus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const childEnv = "CONSENSUS_TEST_CHILD" // the directory of a child's state

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, "child:", child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killConfig has snapshots, cuts of the log and new log files all the time.
func killConfig(dir string, m Machine, d *fileMachine) Config {
	return Config{
		Dir:           filepath.Join(dir, "log"),
		Node:          "a",
		Machines:      map[string]Machine{"m": m, "d": d},
		Bootstrap:     true,
		Logger:        slog.New(slog.DiscardHandler),
		SnapshotEvery: 40,
		SnapshotCheck: 10 * time.Millisecond,
		Trailing:      20,
		SegmentSize:   16 << 10,
	}
}

// child proposes without end and prints what was acknowledged.
func child(dir string) error {
	d, err := openFileMachine(filepath.Join(dir, "machine"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	l, err := Open(ctx, killConfig(dir, new(recorder), d))
	if err != nil {
		return err
	}
	ended := make(chan error)
	for i := range 4 {
		go func() {
			for n := 0; ; n++ {
				text := fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n)
				index, err := l.Propose(ctx, Part{Machine: "m", Data: []byte(text)}, Part{Machine: "d", Data: []byte(text)})
				if err != nil {
					ended <- err
					return
				}
				fmt.Printf("%d %s\n", index, text) // one write
			}
		}()
	}
	return <-ended
}

// fileMachine keeps its entries in a file, a line each, and does not sync it:
// a kill does not lose what was written.
type fileMachine struct {
	path    string
	mu      sync.Mutex
	applied uint64
}

func openFileMachine(path string) (*fileMachine, error) {
	m := &fileMachine{path: path}
	entries, size, err := m.read()
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		m.applied = entries[len(entries)-1].Index
		return m, os.Truncate(path, size) // of a line that was cut short
	}
	return m, nil
}

// read returns the whole lines and their size.
func (m *fileMachine) read() (entries []Entry, size int64, err error) {
	b, err := os.ReadFile(m.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	for line := range bytes.Lines(b) {
		var e Entry
		if line[len(line)-1] != '\n' {
			break
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, 0, err
		}
		entries, size = append(entries, e), size+int64(len(line))
	}
	return entries, size, err
}

func (m *fileMachine) Apply(entries []Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b = append(append(b, line...), '\n')
		m.applied = e.Index
	}
	f, err := os.OpenFile(m.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func (m *fileMachine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

func (m *fileMachine) Snapshot() (io.WriterTo, error) { return bytes.NewReader(nil), nil }

func (m *fileMachine) Restore(io.Reader) error { return ErrManifest }

// TestKilledAgainAndAgain kills a process that appends, at moments of its own
// progress, and then looks for every acknowledged entry.
func TestKilledAgainAndAgain(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acked := make(map[string]uint64)
	for range 20 {
		killOnce(t, dir, random.IntN(200), acked)
	}

	m := new(recorder)
	d, err := openFileMachine(filepath.Join(dir, "machine"))
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, killConfig(dir, m, d))
	say(t, l, "end")
	stored, _, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	inMemory := m.all()
	for name, got := range map[string][]Entry{"in memory": inMemory[:len(inMemory)-1], "with a store": stored} {
		seen := make(map[string]uint64)
		var last Entry
		for _, e := range got {
			if e.Index <= last.Index || !e.At.After(last.At) {
				t.Errorf("machine %s: entry %d at %v after %d at %v", name, e.Index, e.At, last.Index, last.At)
			}
			if seen[string(e.Data)] != 0 {
				t.Errorf("machine %s has %s twice", name, e.Data)
			}
			seen[string(e.Data)], last = e.Index, e
		}
		for text, index := range acked {
			if seen[text] != index {
				t.Errorf("machine %s: %s was acknowledged at %d and is at %d", name, text, index, seen[text])
			}
		}
	}
	t.Logf("%d acknowledged, %d in the log", len(acked), len(stored))
}

// killOnce starts a child, kills it after it acknowledged more than n entries
// and adds all that it acknowledged.
func killOnce(t *testing.T, dir string, n int, acked map[string]uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, killed := bufio.NewScanner(out), false
	for i := 0; lines.Scan(); i++ {
		var index uint64
		var text string
		if _, err := fmt.Sscan(lines.Text(), &index, &text); err != nil {
			t.Fatalf("child said %q: %v", lines.Text(), err)
		}
		acked[text] = index
		if i == n {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if !killed {
		t.Fatalf("child ended by itself: %v\n%s", err, &stderr)
	}
}
