// Package remote is what one node asks of another node's workspaces: their
// ports, journals and whole outputs, and connections to their shims, which have
// the terminals, over HTTP between nodes. [New]
// makes the client, [NewServer] the handler that the other node mounts at
// [Prefix]. Who may do what is decided before: by the node that a person
// talks to, and by the mesh that lets nothing but nodes in here.
//
// Client and server are the two ends of one protocol; wire.go has what both
// know of it.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
)

// Config of a Client. Both fields are needed.
type Config struct {
	Client *http.Client // reaches other nodes; it has no Timeout of its own
	// Base is where a node's calls are answered, "http://…" without a path.
	Base func(chat.Node) (string, error)
}

// Client asks other nodes. Its methods are those of workspace.Runner with the
// node in front, and return the same errors; a node that does not answer is a
// workspace.ErrAway. Safe for concurrent use.
type Client struct {
	c Config
}

// New returns a Client.
func New(c Config) *Client { return &Client{c} }

// How long one call may take that answers at once, and what it may answer.
const (
	answerWithin = 15 * time.Second
	maxAnswer    = 1 << 20
)

// upgrade makes a call that becomes a connection.
func (c *Client) upgrade(ctx context.Context, node chat.Node, q url.Values, parts ...string) (*websocket.Conn, error) {
	u, err := c.url(node, parts...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, u+"?"+q.Encode(), &websocket.DialOptions{HTTPClient: c.c.Client})
	if err != nil && res != nil && res.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusalOf(node, res.StatusCode, res.Body)
	}
	if err != nil {
		return nil, away(node, err)
	}
	return conn, nil
}

// Ports lists what listens in a workspace on that node.
func (c *Client) Ports(ctx context.Context, node chat.Node, task chat.TaskID) (list []shim.Port, err error) {
	return list, c.ask(ctx, http.MethodGet, node, &list, "tasks", string(task), "ports")
}

// Journal reads the raw journal of the task's current or last workspace as
// far as it is on that node. Reading fails when ctx ends or the node goes away.
func (c *Client) Journal(ctx context.Context, node chat.Node, task chat.TaskID) (io.ReadCloser, error) {
	return c.stream(ctx, node, "tasks", string(task), "journal")
}

// Output reads the whole output of a tool call that was cut for the log.
func (c *Client) Output(ctx context.Context, node chat.Node, task chat.TaskID, message string) (io.ReadCloser, error) {
	return c.stream(ctx, node, "tasks", string(task), "outputs", message)
}

// Tapes lists the recordings of a task's shells that are on that node.
func (c *Client) Tapes(ctx context.Context, node chat.Node, task chat.TaskID) (list []workspace.Tape, err error) {
	return list, c.ask(ctx, http.MethodGet, node, &list, "tasks", string(task), "tapes")
}

// Tape reads one of them.
func (c *Client) Tape(ctx context.Context, node chat.Node, task chat.TaskID, name string) (io.ReadCloser, error) {
	return c.stream(ctx, node, "tasks", string(task), "tapes", name)
}

// Secret asks a core node for what a leased task of this node needs.
func (c *Client) Secret(ctx context.Context, node chat.Node, p chat.ProjectID, name string) (string, error) {
	var s secret
	err := c.ask(ctx, http.MethodGet, node, &s, "projects", string(p), "secrets", name)
	return s.Value, err
}

func (c *Client) url(node chat.Node, parts ...string) (string, error) {
	base, err := c.c.Base(node)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", node, err)
	}
	return base + path(parts...), nil
}

// ask makes a call that answers at once.
func (c *Client) ask(ctx context.Context, method string, node chat.Node, into any, parts ...string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	res, err := c.do(ctx, method, node, parts...)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return away(node, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer of %s: %w", node, chat.ErrTooLarge)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", node, err)
	}
	return nil
}

// stream makes a call whose answer is read by the caller.
func (c *Client) stream(ctx context.Context, node chat.Node, parts ...string) (io.ReadCloser, error) {
	res, err := c.do(ctx, http.MethodGet, node, parts...)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (c *Client) do(ctx context.Context, method string, node chat.Node, parts ...string) (*http.Response, error) {
	u, err := c.url(node, parts...)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", node, err)
	}
	res, err := c.c.Client.Do(req)
	if err != nil {
		return nil, away(node, err)
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		return nil, refusalOf(node, res.StatusCode, res.Body)
	}
	return res, nil
}

// away is the error of a node that does not answer.
func away(node chat.Node, err error) error {
	return fmt.Errorf("%s does not answer; try again in a while: %w: %w", node, workspace.ErrAway, err)
}
