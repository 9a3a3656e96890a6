package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// program is the running samnode as bought machines fetch it.
type program struct {
	once sync.Once
	sum  string
	err  error
	url  sheet[string] // where this node serves it; empty: it does not
}

// sha256 reads the program once: what was started is what is meant, also when
// the file is another one by now.
func (p *program) sha256() (string, error) {
	p.once.Do(func() {
		f, err := os.Open("/proc/self/exe")
		if err != nil {
			p.err = fmt.Errorf("reading this program: %w", err)
			return
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			p.err = fmt.Errorf("reading this program: %w", err)
			return
		}
		p.sum = hex.EncodeToString(h.Sum(nil))
	})
	return p.sum, p.err
}

// binary is where a machine fetches samnode, and what it must be.
func (n *node) binary() (url, sum string, err error) {
	if sum, err = n.program.sha256(); err != nil {
		return "", "", err
	}
	switch {
	case n.c.BinaryURL != "":
		return n.c.BinaryURL, sum, nil
	case n.program.url.get() != "":
		return n.program.url.get(), sum, nil
	case version == "devel":
		return "", "", errors.New("this samnode is of no release, and bought machines do not know where to fetch it: start core nodes with --binary-url or --serve-binary")
	}
	return "https://github.com/samnode/samnode/releases/download/" + version + "/samnode-" + runtime.GOOS + "-" + runtime.GOARCH, sum, nil
}

// serveBinary serves the program, and nothing else, to whoever asks. It is no
// secret.
func (n *node) serveBinary(ctx context.Context, g *errgroup.Group) error {
	if n.c.ServeBinary == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(n.c.ServeBinary)
	if ip := net.ParseIP(host); err != nil || host == "" || ip.IsUnspecified() {
		return &exitError{exitUsage, fmt.Sprintf("--serve-binary %s: give the one address at which machines reach this node, such as 10.0.0.2:7072", n.c.ServeBinary)}
	}
	sum, err := n.program.sha256()
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.c.ServeBinary)
	if err != nil {
		return fmt.Errorf("serving samnode to machines: %w", err)
	}
	path := "/samnode-" + sum[:16]
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		f, err := os.Open("/proc/self/exe")
		if err != nil {
			n.c.Logger.Error("serving samnode to a machine", "err", err)
			http.Error(w, "samnode could not be read", http.StatusInternalServerError)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
	})
	n.program.url.set("http://" + l.Addr().String() + path)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving samnode to machines: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	return nil
}
