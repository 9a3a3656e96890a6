// Command fake serves a Hetzner Cloud for tests on loopback, to look at and to
// use with hcloud:
//
//	go run ./provision/hetzner/hetznertest/fake -listen 127.0.0.1:8337
//	HCLOUD_ENDPOINT=http://127.0.0.1:8337/v1 HCLOUD_TOKEN=any hcloud server list
//
// It says on standard error what it was asked, and what was not as the API's
// description has it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fake:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	flags := flag.NewFlagSet("fake", flag.ContinueOnError)
	flags.SetOutput(errs)
	listen := flags.String("listen", "127.0.0.1:8337", "where to serve")
	token := flags.String("token", "", "the only token that is known; empty: any")
	servers := flags.Int("servers", 10, "how many servers the account may have")
	calls := flags.Int("calls", 3600, "how many calls an hour there may be")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(errs, nil))
	cloud := hetznertest.New(hetznertest.Config{
		Token: *token, ServerLimit: *servers, RateLimit: *calls,
		OnCreate: func(s hetznertest.Server, userData []byte) {
			log.Info("made a server", "name", s.Name, "id", s.ID, "type", s.Type, "location", s.Location, "user_data", len(userData))
		},
		OnDelete: func(s hetznertest.Server) { log.Info("deletes a server", "name", s.Name, "id", s.ID) },
	})
	if spec, err := hetznertest.LoadSpec(); err != nil {
		log.Warn("nothing is held against the API's description", "err", err)
	} else {
		cloud.Validate(spec)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	fmt.Fprintf(out, "export HCLOUD_ENDPOINT=http://%s/v1 HCLOUD_TOKEN=any\n", l.Addr())
	s := &http.Server{Handler: told(cloud, log), ReadHeaderTimeout: 10 * time.Second}
	done := context.AfterFunc(ctx, func() { _ = s.Close() }) // open calls are cut: it is a fake
	defer done()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	log.Info("this would have cost", "euro", cloud.Paid().String())
	return nil
}

// told logs every call and what was wrong with it.
func told(cloud *hetznertest.Cloud, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before := len(cloud.Violations())
		cloud.ServeHTTP(w, r)
		log.Info("call", "method", r.Method, "path", r.URL.RequestURI())
		for _, v := range cloud.Violations()[before:] {
			log.Warn("not as described", "violation", v.String())
		}
	})
}
