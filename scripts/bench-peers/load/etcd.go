package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcd puts each message under a key of its own.
type etcd struct {
	conns []*clientv3.Client
	run   string
}

// newEtcd connects each client to one server, as it would be to the nearest.
func newEtcd(ctx context.Context, servers []string, conns int) (*etcd, error) {
	t := &etcd{run: strconv.FormatInt(time.Now().UnixNano(), 36)}
	for range conns {
		for _, s := range servers {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{s}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
			if err != nil {
				t.Close()
				return nil, fmt.Errorf("connecting to etcd at %s: %w", s, err)
			}
			t.conns = append(t.conns, c)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, c := range t.conns[:len(servers)] {
		if _, err := c.Get(ctx, "ready"); err != nil {
			t.Close()
			return nil, fmt.Errorf("asking etcd at %s: %w", c.Endpoints()[0], err)
		}
	}
	return t, nil
}

func (t *etcd) Name() string                       { return "etcd" }
func (t *etcd) Prepare(context.Context, int) error { return nil }

func (t *etcd) Append(ctx context.Context, client int, text string) error {
	key := t.run + "/" + strconv.Itoa(client) + "/" + strconv.FormatInt(time.Now().UnixNano(), 36)
	_, err := t.conns[client%len(t.conns)].Put(ctx, key, text)
	return err
}

func (t *etcd) Close() {
	for _, c := range t.conns {
		c.Close()
	}
}
