package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A watcher hears of what begins to listen and of what stops.
func TestWatchPorts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := lowListener(t)
	port := l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(t.Context())
	lists, done := make(chan []Port, 16), make(chan error, 1)
	go func() { done <- r.WatchPorts(ctx, func(list []Port) { lists <- list }) }()
	has := func(want bool) {
		t.Helper()
		eventually(t, "the watcher is told", func() bool {
			select {
			case list := <-lists:
				for _, p := range list {
					if p.Port == port {
						return want && p.PID == os.Getpid() && p.Process != ""
					}
				}
				return !want
			default:
				return false
			}
		})
	}
	has(true)
	l.Close()
	has(false)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("WatchPorts = %v", err)
	}
}

// lowListener listens below the ports that the kernel gives out.
func lowListener(t *testing.T) net.Listener {
	t.Helper()
	for port := 21000 + os.Getpid()%5000; port < ordinaryPorts; port++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			t.Cleanup(func() { l.Close() })
			return l
		}
	}
	t.Fatal("no port is free")
	return nil
}

// Visitors do not get at samnode's own ways out, by no name of theirs.
func TestDialOwn(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	socket := filepath.Join(shortTempDir(t), "model.sock")
	r := newRig(t, Forward{Listen: "127.0.0.1:" + strconv.Itoa(port), Socket: socket})
	for _, to := range []Address{
		{Port: port}, {Host: "localhost", Port: port}, {Host: "127.0.0.1", Port: port}, {Host: "::1", Port: port},
		{Host: "::ffff:127.0.0.1", Port: port}, {Host: "0.0.0.0", Port: port}, {Path: socket}, {Path: filepath.Dir(socket) + "/../" + filepath.Base(filepath.Dir(socket)) + "/model.sock"},
	} {
		if _, err := r.Dial(t.Context(), to); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "own way out") {
			t.Errorf("Dial(%s) = %v, want ErrRefused", to, err)
		}
	}
}
