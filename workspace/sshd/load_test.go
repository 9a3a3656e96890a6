package sshd

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/shim"
)

// peak samples the memory of this process, which the server is in, until stop.
func peak() (stop func() uint64) {
	runtime.GC()
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		var top uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapAlloc)
			select {
			case <-done:
				most <- top
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(done); return <-most }
}

// What goes through the server is not kept by it: a reader who is slow slows the
// writer down.
func TestMemoryIsBound(t *testing.T) {
	h := open(t)
	h.options("Ciphers aes128-gcm@openssh.com") // the quickest
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	file := filepath.Join(h.dir, "large")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil { // sparse: a disk is not what is tested
		t.Fatal(err)
	}
	f.Close()
	in := listen(t, "tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := in.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.CopyN(c, zeros{}, size) // what arrives is counted
			}()
		}
	}()
	for name, transfer := range map[string]func(t *testing.T){
		"sftp there": func(t *testing.T) { h.transfer(t, "scp", file, "node:copy") },
		"sftp back":  func(t *testing.T) { h.transfer(t, "scp", "node:"+file, filepath.Join(t.TempDir(), "copy")) },
		"a command":  func(t *testing.T) { h.transfer(t, "ssh", "node", "head -c 128M large") },
		"a slow reader": func(t *testing.T) {
			cmd := h.client("ssh", "node", "cat /dev/zero")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, out, 1<<20); err != nil {
				t.Error(err)
			}
			time.Sleep(200 * time.Millisecond) // the time in which it would pile up
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // says that it was killed
		},
		"a forwarded port": func(t *testing.T) { h.transfer(t, "ssh", "-W", in.Addr().String(), "node") },
	} {
		t.Run(name, func(t *testing.T) {
			stop := peak()
			began := time.Now()
			transfer(t)
			top := stop()
			t.Logf("at most %d MiB of heap, %.0f MiB/s", top>>20, float64(size>>20)/time.Since(began).Seconds())
			if top > 64<<20 {
				t.Errorf("%d MiB of heap for a transfer of %d MiB", top>>20, size>>20)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// options adds a line to the client's configuration of the node.
func (h *house) options(line string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	write(h.t, h.config, line+"\n"+string(text))
}

func (h *house) transfer(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := h.client(program, args...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(""), io.Discard, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%s %v: %v %s", program, args, err, &errs)
	}
}

// Two hundred people at once.
func TestCrowd(t *testing.T) {
	h := open(t)
	stop := peak()
	const many = 200
	var all sync.WaitGroup
	inside, leave := make(chan struct{}, many), make(chan struct{})
	for range many {
		all.Go(func() {
			c, err := h.connect(t.Context())
			if err != nil {
				t.Error(err)
				inside <- struct{}{}
				return
			}
			defer c.Close()
			in, say := io.Pipe()
			out := &lockedBuffer{}
			go func() {
				io.WriteString(say, "hello\n") // its echo is waited for
				for !strings.Contains(out.String(), "hello") && t.Context().Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				inside <- struct{}{}
				<-leave
				say.Close()
			}()
			if code, err := c.Run(t.Context(), Program{Command: "cat; exit 3", Stdin: in, Stdout: out}); code != 3 || err != nil {
				t.Errorf("Run = %d, %v", code, err)
			}
		})
	}
	for range many {
		<-inside
	}
	close(leave)
	all.Wait()
	top := stop()
	t.Logf("at most %d MiB of heap for both ends of %d connections", top>>20, many)
	if top > 128<<20 {
		t.Errorf("%d MiB of heap for %d connections", top>>20, many)
	}
	eventually(t, "all visits are told", func() bool {
		return len(h.told()) == many
	})
}

func (h *house) connect(ctx context.Context) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+h.port)
	if err != nil {
		return nil, err
	}
	return Connect(ctx, conn, h.public, "space")
}

// More terminals than a workspace has are refused with a sentence.
func TestTooManyShells(t *testing.T) {
	t.Parallel()
	h := open(t)
	for i := range 300 {
		term, err := h.shim.OpenTerminal(t.Context(), shim.TerminalSpec{ID: strings.Repeat("x", i+1), Args: []string{"sleep", "600"}})
		if err != nil {
			break
		}
		term.Close()
	}
	if out, errs, code := h.run("", "-tt", "node"); code != 255 || !strings.Contains(out+errs, "terminals are open") {
		t.Errorf("one more = %d: %q %q", code, out, errs)
	}
}
