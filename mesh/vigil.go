package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	vigilPause = time.Second // an answer that takes longer is a reason to ask whether the node lives
	vigilWait  = time.Second // any answer will do
	vigilTimes = 2           // questions without an answer: the node is dead
)

// errSilent: what was asked of a node has no answer, and neither has anything
// else.
var errSilent = errors.New("nothing is heard of it")

// vigil is a transport that does not wait for a dead node. Some answers take
// long, and a node whose power is cut does not even end its connections; so
// while a node owes an answer it is asked now and then for one that takes no
// time. Answers that have begun are not watched over, nor are nodes that never
// answered: the first way to one may take a while.
type vigil struct {
	next *http.Transport

	mu   sync.Mutex
	met  map[string]bool    // hosts that have answered
	debt map[string]*debtor // by host
}

func newVigil(next *http.Transport) *vigil {
	return &vigil{next: next, met: make(map[string]bool), debt: make(map[string]*debtor)}
}

// debtor is a node that owes answers.
type debtor struct {
	timer  *time.Timer // until it is asked
	missed int
	last   int
	give   map[int]context.CancelCauseFunc // ends a request, by number
}

// CloseIdleConnections is for http.Client.
func (v *vigil) CloseIdleConnections() { v.next.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (v *vigil) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	settle := v.owe(req.URL.Host, cancel)
	resp, err := v.next.RoundTrip(req.WithContext(ctx))
	settle(err == nil)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errSilent):
		return nil, context.Cause(ctx)
	case err != nil:
		cancel(nil)
		return nil, err
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return resp, nil // its body is the connection; ctx ends with the request's
	}
	resp.Body = &watchedBody{resp.Body, cancel}
	return resp, nil
}

// watchedBody releases its request's context.
type watchedBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// owe watches over a request until settle is called.
func (v *vigil) owe(host string, cancel context.CancelCauseFunc) (settle func(answered bool)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.debt[host]
	if d == nil {
		d = &debtor{give: make(map[int]context.CancelCauseFunc)}
		d.timer = time.AfterFunc(vigilPause, func() { v.look(host, d) })
		v.debt[host] = d
	}
	d.last++
	n := d.last
	d.give[n] = cancel
	return func(answered bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if answered {
			v.met[host] = true
		}
		if delete(d.give, n); len(d.give) > 0 {
			return
		}
		d.timer.Stop()
		if v.debt[host] == d {
			delete(v.debt, host)
		}
	}
}

// look asks a node whether it lives, and gives up what it owes when it does not.
func (v *vigil) look(host string, d *debtor) {
	v.mu.Lock()
	met := v.met[host]
	v.mu.Unlock()
	alive := !met || v.alive(host)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case len(d.give) == 0:
		return
	case alive:
		d.missed = 0
		d.timer.Reset(vigilPause)
		return
	}
	if d.missed++; d.missed < vigilTimes {
		d.timer.Reset(0)
		return
	}
	for _, cancel := range d.give {
		cancel(fmt.Errorf("%w for %v", errSilent, vigilPause+vigilTimes*vigilWait))
	}
	delete(v.debt, host) // those who ask from now on find out anew
}

func (v *vigil) alive(host string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), vigilWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return false
	}
	resp, err := v.next.RoundTrip(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, errorLimit))
	return errors.Join(err, resp.Body.Close()) == nil
}
