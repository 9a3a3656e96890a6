package tailnet

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tailscale.com/health"
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tsconst"

	"github.com/samnode/samnode/mesh"
)

// Why a node does not get on its tailnet. What wraps them says what to do.
var (
	ErrKey         = errors.New("the key does not let this node in")
	ErrLogin       = errors.New("a person has to let this node in")
	ErrTag         = errors.New("the tailnet does not know this node as one of a mesh")
	ErrControl     = errors.New("the control server cannot be reached")
	ErrClock       = errors.New("this machine's clock is wrong")
	ErrNoInterface = errors.New("this machine has no network interface that is up and has an address, other than loopback")
)

const (
	tagTimeout   = 2 * time.Second // for tags to arrive
	mapTimeout   = 3 * time.Second // for the control server, where the node can start without it
	probeTimeout = 5 * time.Second
	clockSkew    = 5 * time.Minute
)

// CheckInterfaces says ErrNoInterface where Up would never end: the network stack waits for an
// interface.
func CheckInterfaces() error {
	list, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("looking for network interfaces: %w", err)
	}
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		if addrs, err := i.Addrs(); err == nil && len(addrs) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: connect it, or run without a tailnet", ErrNoInterface)
}

// awaitRunning waits until the node is let in.
func (n *Node) awaitRunning(ctx context.Context) error {
	w, err := n.lc.WatchIPNBus(ctx, ipn.NotifyInitialState|ipn.NotifyInitialHealthState)
	if err != nil {
		return fmt.Errorf("watching the tailnet: %w", err)
	}
	defer w.Close()
	var why error // what is known to keep it out, for when the time is over
	for told := ""; ; {
		note, err := w.Next()
		switch {
		case ctx.Err() != nil:
			return n.late(ctx, why)
		case err != nil:
			return fmt.Errorf("watching the tailnet: %w", err)
		case note.ErrMessage != nil:
			return n.explain(*note.ErrMessage)
		}
		if url := note.BrowseToURL; url != nil && *url != "" && *url != told {
			told = *url
			why = fmt.Errorf("%w: open %s%s", ErrLogin, told, n.before())
			if n.c.Login == nil {
				return why
			}
			n.c.Login(told)
		}
		if note.State != nil {
			if *note.State == ipn.Running {
				return nil
			}
			why = cmp.Or(stateError(*note.State), why)
		}
		if note.Health != nil {
			final, err := n.healthError(note.Health)
			if final {
				return err
			}
			why = cmp.Or(why, err)
		}
	}
}

func stateError(s ipn.State) error {
	switch s {
	case ipn.NeedsMachineAuth:
		return fmt.Errorf("%w: approve the device in the admin console of the tailnet", ErrLogin)
	case ipn.InUseOtherUser:
		return errors.New("another user of this machine runs this node")
	}
	return nil
}

// healthError reads what the network stack complains about. It is final when
// waiting does not help.
func (n *Node) healthError(s *health.State) (final bool, err error) {
	if w, ok := s.Warnings[tsconst.HealthWarnableLocalLogConfigError]; ok && strings.Contains(w.Text, "requires logging") {
		return true, n.explain(w.Text)
	}
	text := s.Warnings[tsconst.HealthWarnableLoginState].Args[health.ArgError]
	if text == "" {
		return false, nil
	}
	err = n.explain(text)
	return errors.Is(err, ErrKey) || errors.Is(err, ErrTag), err
}

// before says what happened to a node that was let in once.
func (n *Node) before() string {
	if _, err := os.Stat(filepath.Join(n.c.Dir, "tailscaled.state")); err != nil || n.c.AuthKey != "" {
		return ""
	}
	return " (if it was in before, its key has expired or somebody logged it out); a new key does it, too"
}

// explain makes a sentence that says what to do out of what a control server or
// the network stack says.
func (n *Node) explain(text string) error {
	low := strings.ToLower(text)
	has := func(words ...string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(low, w) })
	}
	key := has("authkey") || has("auth key") || has("auth-key") || has("preauth") || has("invalid key")
	switch {
	case has("requested tags"), has("tag", "not permitted"), has("tag", "not owned"):
		return fmt.Errorf("%w: the control server does not give it %s (%s); a key with the tag needs no request for it", ErrTag, n.c.Tag, text)
	case has("requires logging"):
		return errors.New("this tailnet takes no nodes that send no logs to Tailscale, and samnode sends none: switch network flow logs off in the admin console, or use another tailnet")
	case key && has("used"):
		return fmt.Errorf("%w: it was used already, and lets one node in; ask for a new one", ErrKey)
	case key && has("expired"):
		return fmt.Errorf("%w: it has expired; ask for a new one", ErrKey)
	case key && (has("invalid") || has("not found") || has("not valid") || has("not exist") || has("unknown")):
		return fmt.Errorf("%w: the control server at %s does not know it, or not any more; is it the one that made the key?", ErrKey, n.control())
	case key && has("401"), key && has("unauthorized"):
		return fmt.Errorf("%w: %s", ErrKey, text)
	}
	return errors.New(text)
}

// late says why there was not enough time.
func (n *Node) late(ctx context.Context, why error) error {
	if errors.Is(why, ErrLogin) {
		return why
	}
	if err := n.probe(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if why == nil {
		why = context.Cause(ctx)
	}
	return fmt.Errorf("the control server at %s answers, but this node is not on the tailnet yet: %w", n.control(), why)
}

func (n *Node) control() string { return cmp.Or(n.c.ControlURL, ipn.DefaultControlURL) }

// probe asks the control server for the time.
func (n *Node) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(n.control(), "/")+"/key?v=1", nil)
	if err != nil {
		return fmt.Errorf("%w: %q is no URL: %w", ErrControl, n.control(), err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
		return fmt.Errorf("%w, or the certificate of %s is: it is not valid on %s; compare with the time elsewhere", ErrClock, n.control(), time.Now().Format(time.DateTime))
	}
	if err != nil {
		return fmt.Errorf("%w: is %s right, and can this machine reach it? %w", ErrControl, n.control(), err)
	}
	resp.Body.Close()
	return skew(resp.Header.Get("Date"), time.Now())
}

// skew compares our clock with a server's.
func skew(date string, now time.Time) error {
	server, err := http.ParseTime(date)
	if err != nil {
		return nil //nolint:nilerr // a server that does not say has no opinion
	}
	switch off := now.Sub(server); {
	case off > clockSkew:
		return fmt.Errorf("%w: it is %s ahead of the control server's; set it", ErrClock, off.Round(time.Second))
	case off < -clockSkew:
		return fmt.Errorf("%w: it is %s behind the control server's; set it", ErrClock, -off.Round(time.Second))
	}
	return nil
}

// awaitMap waits until the control server and this node have told each other
// the news, if it is there. A node that dials before, with what it knew of the
// tailnet, is not answered for many seconds: its peers do not know it again yet.
func (n *Node) awaitMap(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, mapTimeout)
	defer cancel()
	for !n.inTouch() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// inTouch says whether the control server talks to this node.
func (n *Node) inTouch() bool { return n.srv.Sys().HealthTracker.Get().GetInPollNetMap() }

// awaitTag makes sure that the tailnet knows this node as one of a mesh. Tags
// may come a moment after the node.
func (n *Node) awaitTag(ctx context.Context, s *ipnstate.Status) (*ipnstate.Status, error) {
	for end := time.Now().Add(tagTimeout); ; {
		if s.Self == nil {
			return nil, mesh.ErrNotUp
		}
		if s.Self.Tags != nil && slices.Contains(s.Self.Tags.AsSlice(), n.c.Tag) {
			return s, nil
		}
		if time.Now().After(end) {
			return nil, n.untagged(s)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, n.untagged(s)
		}
		var err error
		if s, err = n.lc.Status(ctx); err != nil {
			return nil, fmt.Errorf("asking the tailnet: %w", err)
		}
	}
}

func (n *Node) untagged(s *ipnstate.Status) error {
	is := "a device of " + s.User[s.Self.UserID].LoginName
	if s.Self.Tags != nil && s.Self.Tags.Len() > 0 {
		is = "a device with " + strings.Join(s.Self.Tags.AsSlice(), ", ")
	}
	return fmt.Errorf("%w: it came up as %s, without %s. Give the device %[3]s (headscale nodes tag, or the admin console of Tailscale) and start again, or make a key that carries the tag (headscale preauthkeys create --tags %[3]s)", ErrTag, is, n.c.Tag)
}
