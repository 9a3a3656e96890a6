package broker

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// dialLong connects to a socket whose path may be too long for an address.
func dialLong(ctx context.Context, path string) (net.Conn, error) {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var nd net.Dialer
	return nd.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(path)))
}
