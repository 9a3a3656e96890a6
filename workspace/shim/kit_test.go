package shim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the shim (it needs a process of its own, which it
// reaps) and the agents.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "shim-process" {
		shimProcess(os.Args[2])
	}
	if len(os.Args) > 2 && os.Args[1] == "agent-process" {
		agentProcess(os.Args[2:])
	}
	os.Exit(m.Run())
}

func shimProcess(config string) {
	var c Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := Main(context.Background(), c); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// agentProcess is an agent of the kind that args name.
func agentProcess(args []string) {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	n := 0
	if len(args) > 1 {
		n, _ = strconv.Atoi(args[1])
	}
	switch args[0] {
	case "burst": // n numbered lines, as fast as it goes
		for i := range n {
			fmt.Fprintf(out, `{"n":%d,"text":"a line of the agent"}`+"\n", i)
		}
		out.Flush()
	case "long": // one line of n bytes between two short ones
		out.WriteString("before\n")
		out.Write(bytes.Repeat([]byte("x"), n))
		out.WriteString("\nafter\n")
		out.Flush()
	case "drip": // n lines with a little time between
		for i := range n {
			fmt.Fprintf(os.Stdout, "%d\n", i)
			time.Sleep(time.Millisecond)
		}
	case "stamp": // n lines that say when they were written
		for range n {
			fmt.Fprintf(os.Stdout, "%d\n", time.Now().UnixNano())
			time.Sleep(5 * time.Millisecond)
		}
	case "stderr": // n lines of 1 KiB
		for range n {
			os.Stderr.Write(append(bytes.Repeat([]byte("e"), 1023), '\n'))
		}
	case "eat": // all the memory there is
		var all [][]byte
		for {
			all = append(all, bytes.Repeat([]byte("m"), 1<<20)) //nolint:staticcheck // kept from the collector
		}
	case "hello": // call the shim at the socket args[1]
		_, err := Dial(context.Background(), args[1])
		fmt.Println(err)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		fmt.Println("ready")
		for { // an empty select is a deadlock to a program without cgo
			time.Sleep(time.Hour)
		}
	}
	os.Exit(0)
}

// rig is a shim process with its folders.
type rig struct {
	t      testing.TB
	config Config
	cmd    *exec.Cmd
	log    *lockedBuffer
	*Client
}

func newRig(t testing.TB, forward ...Forward) *rig {
	t.Helper()
	dir := shortTempDir(t)
	r := &rig{t: t, config: Config{
		Socket: filepath.Join(dir, "s"), Journal: filepath.Join(dir, "volume") + "/",
		Home: dir, User: "agent", Shell: "/bin/sh", Forward: forward, Grace: time.Second,
	}}
	r.launch()
	t.Cleanup(func() { r.kill(); r.showLog() })
	return r
}

// shortTempDir is t.TempDir for socket paths, which may have 107 bytes only.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim") //nolint:usetesting // its paths are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *rig) journal() string { return filepath.Join(r.config.Journal, "journal") }

// launch starts a shim on the rig's folders and waits until it answers.
func (r *rig) launch() {
	r.t.Helper()
	config, err := json.Marshal(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.log = &lockedBuffer{}
	r.cmd = exec.Command(os.Args[0], "shim-process", string(config))
	r.cmd.Stderr = r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when a test panics
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "the shim answers", func() bool {
		c, err := Dial(r.t.Context(), r.config.Socket)
		r.Client = c
		return err == nil
	})
}

// kill ends the shim as a crash would.
func (r *rig) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait() // "signal: killed"
	}
}

func (r *rig) showLog() {
	if r.t.Failed() {
		r.t.Logf("shim's log:\n%s", r.log.String())
	}
}

// agent starts an agent of agentProcess.
func (r *rig) agent(args ...string) int {
	r.t.Helper()
	return r.start(Spec{ID: "start-" + strings.Join(args, "-"), Path: os.Args[0], Args: append([]string{"agent-process"}, args...)})
}

// sh starts a shell script as the agent.
func (r *rig) sh(id, script string) int {
	r.t.Helper()
	return r.start(Spec{ID: id, Path: "sh", Args: []string{"-c", script}})
}

func (r *rig) start(s Spec) int {
	r.t.Helper()
	run, err := r.Start(r.t.Context(), s)
	if err != nil {
		r.t.Fatalf("Start: %v", err)
	}
	return run
}

// until reads records from seq from on until done says so for one.
func (r *rig) until(from uint64, done func(Record) bool) []Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	var all []Record
	err := r.Records(ctx, from, func(batch []Record) error {
		for _, rec := range batch {
			all = append(all, rec)
			if done(rec) {
				return errEnough
			}
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		r.t.Fatalf("Records: %v after %d records", err, len(all))
	}
	return all
}

var errEnough = errors.New("enough")

func exited(rec Record) bool {
	n, ok := rec.Note()
	return ok && n.Event == EventExited
}

func line(text string) func(Record) bool {
	return func(r Record) bool { return r.Dir == Out && string(r.Data) == text }
}

// of picks the data of one direction.
func of(recs []Record, d Dir) []string {
	var all []string
	for _, r := range recs {
		if r.Dir == d {
			all = append(all, string(r.Data))
		}
	}
	return all
}

func notes(recs []Record, event string) []Note {
	var all []Note
	for _, r := range recs {
		if n, ok := r.Note(); ok && n.Event == event {
			all = append(all, n)
		}
	}
	return all
}

func checkDense(t testing.TB, recs []Record, from uint64) {
	t.Helper()
	for i, r := range recs {
		if r.Seq != from+uint64(i) {
			t.Fatalf("record %d has seq %d, want %d", i, r.Seq, from+uint64(i))
		}
	}
}

// eventually polls a fact about a real process.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.state != 'Z'
}

// exists also sees zombies.
func exists(pid int) bool { return syscall.Kill(pid, 0) == nil }

// lockedBuffer collects output that is read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
