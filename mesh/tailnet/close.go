package tailnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	closeTimeout = 10 * time.Second
	goodbyes     = 50 * time.Millisecond // for the ends of connections to be sent
)

// Close ends every connection, and then the node's stay on the tailnet. It
// remains one of its devices, unless it is ephemeral.
func (n *Node) Close() error {
	n.cancel()
	open := n.gate.Open()
	err := n.gate.Close()
	n.tasks.Wait()
	if n.lc == nil {
		return err
	}
	if open > 0 {
		// The network stack says goodbye to every connection that the other end has
		// not closed, too, to nobody, and after 512 waits for ever. Without an address
		// it has nothing to say.
		time.Sleep(goodbyes)
		n.srv.Sys().Netstack.Get().UpdateNetstackIPs(nil)
	}
	closed := make(chan error, 1)
	go func() { closed <- n.srv.Close() }()
	select {
	case e := <-closed:
		if !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	case <-time.After(closeTimeout):
		err = errors.Join(err, errors.New("leaving the tailnet: the network stack did not end; it ends with the process"))
	}
	return err
}

// Logout gives the node's place on the tailnet up, and closes the node. Its Dir
// is of no use afterwards.
func (n *Node) Logout(ctx context.Context) error {
	err := n.lc.Logout(ctx)
	if err != nil {
		err = fmt.Errorf("logging out of the tailnet: %w", err)
	}
	return errors.Join(err, n.Close())
}
