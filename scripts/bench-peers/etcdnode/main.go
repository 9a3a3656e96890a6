// Command etcdnode is one server of an etcd cluster, as etcd runs without
// further options: every write is on disk before it is acknowledged.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	name := flag.String("name", "", "name of this server, as in -cluster")
	dir := flag.String("dir", "", "folder of its state")
	client := flag.String("client", "", "address for clients, host:port")
	peer := flag.String("peer", "", "address for the other servers, host:port")
	cluster := flag.String("cluster", "", "NAME=http://host:port,... of all servers' peer addresses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *name, *dir, *client, *peer, *cluster); err != nil {
		fmt.Fprintln(os.Stderr, "etcdnode:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, dir, client, peer, cluster string) error {
	c := embed.NewConfig()
	c.Name, c.Dir = name, dir
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: client}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: peer}}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.InitialCluster = cluster
	c.LogLevel = "error"
	c.QuotaBackendBytes = 8 << 30 // a long run may write more than the 2 GiB it starts with
	server, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
		fmt.Println("ready")
	case err := <-server.Err():
		return fmt.Errorf("starting etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-server.Err():
		return err
	case <-server.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	case <-ctx.Done():
		return nil
	}
}
