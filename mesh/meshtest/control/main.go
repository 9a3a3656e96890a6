// Program control is a tailnet on this machine, for trying a mesh by hand: a
// control server and a relay, and a person's device through which a browser
// here opens the pages of nodes. It prints the control server's URL and runs
// until it is told to stop. Nothing of it is kept.
//
//	go run ./mesh/meshtest/control --person 127.0.0.1:7071=node-a --person 127.0.0.1:7070=node-a,node-b
//
// The first address leads to one node, the second one to whichever of the two,
// and of those that they know, is alive.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/samnode/samnode/mesh/follow"
	"github.com/samnode/samnode/mesh/meshtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("control", flag.ContinueOnError)
	c := meshtest.ControlConfig{}
	var people []string
	var verbose bool
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:0", "`address` of the control server")
	flags.StringVar(&c.NodePrefix, "node-prefix", "node", "what the host names of nodes begin with; they get the tag")
	flags.Func("person", "`LISTEN=HOST[,HOST...]`: a loopback address that leads to a node as a person; may be repeated", func(s string) error {
		people = append(people, s)
		return nil
	})
	flags.BoolVar(&verbose, "v", false, "say what the control server does")
	if err := flags.Parse(args); err != nil {
		return err
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	control, err := meshtest.StartControl(ctx, c)
	if err != nil {
		return err
	}
	defer control.Close()
	closePeople, err := startPeople(ctx, control, people, c.Log)
	defer func() { err = errors.Join(err, closePeople()) }()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, control.URL)
	<-ctx.Done()
	return nil
}

// startPeople runs one person's device with an address for each of the flags.
func startPeople(ctx context.Context, control *meshtest.ControlServer, flags []string, log *slog.Logger) (closeAll func() error, err error) {
	var closers []func() error
	closeAll = func() error {
		var errs []error
		for _, f := range slices.Backward(closers) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	if len(flags) == 0 {
		return closeAll, nil
	}
	dir, err := os.MkdirTemp("", "person-")
	if err != nil {
		return closeAll, err
	}
	closers = append(closers, func() error { return os.RemoveAll(dir) })
	device, err := meshtest.StartPerson(ctx, meshtest.PersonConfig{Control: control.URL, Hostname: "laptop", Dir: dir})
	if err != nil {
		return closeAll, err
	}
	closers = append(closers, device.Close)
	for _, f := range flags {
		listen, hosts, ok := strings.Cut(f, "=")
		if !ok || hosts == "" {
			return closeAll, fmt.Errorf("--person %s: want LISTEN=HOST, such as 127.0.0.1:7071=node-a", f)
		}
		var urls []string
		for host := range strings.SplitSeq(hosts, ",") {
			urls = append(urls, "http://"+host)
		}
		p, err := follow.Start(ctx, follow.Config{
			Listen: cmp.Or(listen, "127.0.0.1:0"), Nodes: urls, Stay: len(urls) == 1, Transport: device.Transport(), Logger: log,
		})
		if err != nil {
			return closeAll, err
		}
		log.Info("A person's way", "url", p.URL(), "to", hosts)
		closers = append(closers, p.Close)
	}
	return closeAll, nil
}
