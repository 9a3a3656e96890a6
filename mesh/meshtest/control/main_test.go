package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/mesh/tailnet"
)

// TestRun: a node joins the program's tailnet, and a browser on this machine
// opens its page as a person.
func TestRun(t *testing.T) {
	if err := tailnet.CheckInterfaces(); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ran := make(chan error, 1)
	go func() { ran <- run(ctx, []string{"--node-prefix", "core", "--person", addr + "=core-1"}, w) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	up, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	n, err := tailnet.Up(up, tailnet.Config{Dir: t.TempDir(), Hostname: "core-1", ControlURL: strings.TrimSpace(line), Port: meshtest.UDPPort(t)})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := n.Listen(t.Context(), mesh.Pages)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- mesh.Serve(ctx, mesh.ServeConfig{Listener: pages, Host: n.Host, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := mesh.WhoIs(r)
			fmt.Fprint(w, who.Person, err)
		})})
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && strings.HasPrefix(string(body), "user-") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the page is %s %q %v", resp.Status, body, err)
		}
	}
	cancel()
	for _, ended := range []chan error{served, ran} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestRunRefuses(t *testing.T) {
	if err := tailnet.CheckInterfaces(); err != nil {
		t.Skip(err)
	}
	for _, args := range [][]string{{"--person", "127.0.0.1:0"}, {"--person", "0.0.0.0:0=core-1"}, {"--listen", "nowhere"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q runs", args)
		}
	}
}
