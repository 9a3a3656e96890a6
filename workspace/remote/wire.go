package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/shim"
)

// Prefix is where a node mounts the Server.
const Prefix = "/calls/v1/workspaces/"

// mark begins what a path says of an id: nothing cannot be a part of a path,
// and "." and ".." would be taken for folders.
const mark = "_"

// path joins words of the protocol and ids, which stand at the odd places.
func path(parts ...string) string {
	p := Prefix + parts[0]
	for i, s := range parts[1:] {
		if i%2 == 0 {
			s = mark + url.PathEscape(s)
		}
		p += "/" + s
	}
	return p
}

// part reads an id from a request's path.
func part(r *http.Request, name string) (string, error) {
	s, ok := strings.CutPrefix(r.PathValue(name), mark)
	if !ok {
		return "", fmt.Errorf("%w: an id in the path begins with %s", chat.ErrInvalid, mark)
	}
	return s, nil
}

// refusal is the body of an answer that says no. It stays below what a
// handshake that failed is read of.
type refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

const maxRefusal = 700 // bytes of its text

// codes are the errors that keep their meaning on the way. The first match
// counts.
var codes = []struct {
	code   string
	status int
	err    error
}{
	{"no_workspace", http.StatusConflict, workspace.ErrNoWorkspace},
	{"not_found", http.StatusNotFound, chat.ErrNotFound},
	{"no_terminal", http.StatusNotFound, shim.ErrNotFound},
	{"stale", http.StatusConflict, chat.ErrStale},
	{"invalid", http.StatusUnprocessableEntity, chat.ErrInvalid},
	{"too_large", http.StatusRequestEntityTooLarge, chat.ErrTooLarge},
	{"refused", http.StatusConflict, chat.ErrRefused},
	{"refused_there", http.StatusConflict, shim.ErrRefused},
	{"away", http.StatusServiceUnavailable, workspace.ErrAway},
}

// explain is an error as an answer.
func explain(err error) (int, refusal) {
	text := strings.ToValidUTF8(err.Error()[:min(len(err.Error()), maxRefusal)], "")
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.status, refusal{c.code, text}
		}
	}
	return http.StatusInternalServerError, refusal{"", text}
}

// refusalOf is the error in a node's answer. It reads as it did there.
func refusalOf(node chat.Node, status int, body io.Reader) error {
	var r refusal
	if err := json.NewDecoder(io.LimitReader(body, 4<<10)).Decode(&r); err != nil || r.Text == "" {
		return fmt.Errorf("%s answered %d %s", node, status, http.StatusText(status))
	}
	for _, c := range codes {
		if c.code == r.Code {
			return &told{r.Text, c.err}
		}
	}
	return fmt.Errorf("%s: %s", node, r.Text)
}

// told is an error of another node with its own words.
type told struct {
	text string
	is   error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.is }

// secret is the answer to a call for one.
type secret struct {
	Value string `json:"value"`
}

const (
	frame    = 32 << 10 // bytes of output in one message
	maxFrame = 1 << 20  // of input
	ping     = 20 * time.Second
	ended    = "ended" // says that one direction has ended
)
