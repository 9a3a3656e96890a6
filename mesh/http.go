package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

type callerKey struct{}

// WithCaller returns a context in which CallerOf answers c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, func() Caller { return c })
}

// CallerOf says who sent the request of this context. It is false when nobody
// is known, which includes someone whom the network does not know any more.
func CallerOf(ctx context.Context) (Caller, bool) {
	who, ok := ctx.Value(callerKey{}).(func() Caller)
	if !ok {
		return Caller{}, false
	}
	c := who()
	return c, c.Node != "" || c.Person != ""
}

// WhoIs is CallerOf for a request, with ErrStranger for nobody.
func WhoIs(r *http.Request) (Caller, error) {
	c, ok := CallerOf(r.Context())
	if !ok {
		return Caller{}, fmt.Errorf("call from %s: %w", r.RemoteAddr, ErrStranger)
	}
	return c, nil
}

// ConnContext is for the field of the same name of an http.Server: it makes
// CallerOf work for requests on the connections of a mesh listener.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		if known, ok := c.(interface{ Caller() Caller }); ok {
			return context.WithValue(ctx, callerKey{}, known.Caller)
		}
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return ctx
		}
		c = wrapped.NetConn()
	}
}

// ServeConfig is what Serve is given.
type ServeConfig struct {
	Listener net.Listener // of the mesh; Serve closes it
	Handler  http.Handler // finds the caller with WhoIs
	// Host says which names a request may be for: Pages of a twin. A page
	// elsewhere whose name was pointed at this node (DNS rebinding) is refused by
	// it, for a browser takes the two for one site. Nil: any, for calls, which no
	// browser can reach.
	Host   func(name string) bool
	Drain  func()        // told when ctx has ended, to end long answers; nil: they are cut
	Grace  time.Duration // for requests under way when ctx ends; 0: 5 s
	Logger *slog.Logger  // nil: none
}

// Serve answers HTTP on a listener of the mesh until ctx ends, which is no
// error.
func Serve(ctx context.Context, c ServeConfig) error {
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	srv := &http.Server{
		Handler:           onlyHosts(c.Host, c.Handler),
		ConnContext:       ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than a Client keeps one
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- shutdown(srv, c) })
	if err := srv.Serve(c.Listener); !errors.Is(err, http.ErrServerClosed) {
		if stop() {
			return fmt.Errorf("serving: %w", errors.Join(err, srv.Close()))
		}
	}
	return <-stopped
}

func shutdown(srv *http.Server, c ServeConfig) error {
	grace := c.Grace
	if grace == 0 {
		grace = 5 * time.Second
	}
	if c.Drain != nil {
		c.Drain()
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if srv.Shutdown(ctx) == nil {
		return nil
	}
	if err := srv.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the server: %w", err)
	}
	return nil
}

func onlyHosts(ours func(string) bool, next http.Handler) http.Handler {
	if ours == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			name = r.Host
		}
		if !ours(name) {
			http.Error(w, fmt.Sprintf("This node does not go by the name %q. Use the address that samnode status shows.", name), http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
