package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsStream publishes each message to a stream of three replicas, with an id
// that makes a retry harmless.
type natsStream struct {
	conns []*nats.Conn
	js    []jetstream.JetStream
	run   string
}

func newNATS(ctx context.Context, servers []string, conns int) (*natsStream, error) {
	t := &natsStream{run: strconv.FormatInt(time.Now().UnixNano(), 36)}
	for range conns {
		for _, s := range servers {
			c, err := nats.Connect("nats://"+s, nats.Timeout(10*time.Second))
			if err != nil {
				t.Close()
				return nil, fmt.Errorf("connecting to NATS at %s: %w", s, err)
			}
			t.conns = append(t.conns, c)
			js, err := jetstream.New(c)
			if err != nil {
				t.Close()
				return nil, err
			}
			t.js = append(t.js, js)
		}
	}
	if err := t.makeStream(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// makeStream repeats itself while the servers find each other: until they have
// a leader, a request may be lost and not answered.
func (t *natsStream) makeStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := t.tryStream(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("making a stream of three replicas: %w", err)
		}
	}
}

func (t *natsStream) tryStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := t.js[0].CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "bench", Subjects: []string{"bench.>"}, Replicas: 3, Storage: jetstream.FileStorage,
	})
	return err
}

func (t *natsStream) Name() string                       { return "nats" }
func (t *natsStream) Prepare(context.Context, int) error { return nil }

func (t *natsStream) Append(ctx context.Context, client int, text string) error {
	id := t.run + "-" + strconv.Itoa(client) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	_, err := t.js[client%len(t.js)].PublishMsg(ctx, &nats.Msg{Subject: "bench." + strconv.Itoa(client), Data: []byte(text)}, jetstream.WithMsgID(id))
	return err
}

func (t *natsStream) Close() {
	for _, c := range t.conns {
		c.Close()
	}
}
