// Command natsnode is one server of a NATS cluster with JetStream that syncs
// every write before it acknowledges it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	name := flag.String("name", "", "name of this server")
	dir := flag.String("dir", "", "folder of its state")
	client := flag.String("client", "", "address for clients, host:port")
	peer := flag.String("peer", "", "address for the other servers, host:port")
	routes := flag.String("routes", "", "nats://host:port,... of all servers' peer addresses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *name, *dir, *client, *peer, *routes); err != nil {
		fmt.Fprintln(os.Stderr, "natsnode:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, dir, client, peer, routes string) error {
	o := &server.Options{
		ServerName: name,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: true,
		NoLog:      true,
		NoSigs:     true,
		Routes:     server.RoutesFromStr(routes),

		JetStreamMaxStore: 8 << 30,
	}
	o.Cluster.Name = "bench"
	var err error
	if o.Host, o.Port, err = split(client); err != nil {
		return err
	}
	if o.Cluster.Host, o.Cluster.Port, err = split(peer); err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("making the server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return errors.New("the server did not start within 10 s")
	}
	fmt.Println("ready")
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func split(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(text)
	return host, port, err
}
