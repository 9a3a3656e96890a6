package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
)

// Where a task's files are read: in its live workspace, or in the last commit
// of its branch.
const (
	Now      = "now"
	AtCommit = "commit"
)

// MaxUpload is the largest file that is taken, in bytes.
const MaxUpload = 16 << 30

// FileInfo is one thing in a folder. Its name is bytes, which may be no UTF-8.
type FileInfo struct {
	Name    string
	Kind    string // file, folder, link, submodule, fifo, socket, device
	Size    int64  // bytes, of a file
	Mode    uint32 // permission bits; 0: not known
	Changed time.Time
	Link    string // where a link points to
	Leads   string // what is there: a kind; "": nothing, or it is outside
	State   string // against the base: "", added, modified, deleted, …
}

// FileView is what is at a path.
type FileView struct {
	FileInfo               // of what a link leads to, when the path is one
	Path     string        // from the root; "": the root
	At       string        // Now or AtCommit
	As       string        // the same for people: "as it is now, on fsn1", "as of commit 1a2b3c"
	Note     string        // what the reader should know, or ""
	Entries  []FileInfo    // of a folder
	Total    int           // how many entries there are
	More     bool          // there are more than Total
	Body     io.ReadCloser // of a file, when content was asked for; else nil
	Length   int64         // of Body
}

// FileQuery says what of a task's files is wanted.
type FileQuery struct {
	At     string // Now, AtCommit, or "": now when a workspace is alive
	Path   string
	From   int64 // first byte of a file
	Length int64 // how many; 0: no content, negative: all
	Limit  int   // entries of a folder; 0: as many as there may be
}

// Files read a task's files. What the agent wrote is the agent's: names and
// contents can be anything.
type Files interface {
	// Look tells what is at a path. The caller closes Body.
	Look(context.Context, chat.Task, FileQuery) (FileView, error)
	// Archive streams a folder as tar.gz; name is the folder's.
	Archive(ctx context.Context, t chat.Task, at, path string) (name string, _ io.ReadCloser, err error)
	// Patch streams what differs from the base at a path, as git apply takes it.
	Patch(ctx context.Context, t chat.Task, at, path string) (io.ReadCloser, error)
}

// FileKeeper changes the files of a task's live workspace.
type FileKeeper interface {
	// Write puts a file at a path, whole or not at all; without replace one that
	// is there is refused. Mode is a new file's; 0: 0644.
	Write(ctx context.Context, by chat.Person, t chat.Task, path string, from io.Reader, replace bool, mode uint32) (FileInfo, error)
	// Change makes a folder, moves or removes something.
	Change(ctx context.Context, by chat.Person, t chat.Task, c FileChange) (FileInfo, error)
}

// FileChange is one change that writes no content.
type FileChange struct {
	Do   string // folder, rename, remove
	Path string
	To   string // of rename
	All  bool   // of remove: a folder with all that is in it
}

// EscapePath is a path as a URL has it, byte for byte: "." and ".." too, which
// would be taken for steps.
func EscapePath(p string) string {
	var out []string
	for s := range strings.SplitSeq(p, "/") {
		switch s {
		case "": // two slashes are one
		case ".":
			out = append(out, "%2E")
		case "..":
			out = append(out, "%2E%2E")
		default:
			out = append(out, url.PathEscape(s))
		}
	}
	escaped := strings.Join(out, "/")
	if strings.HasPrefix(p, "/") {
		return "%2F" + escaped // or it would be lost on the way, and refused by nobody
	}
	return escaped
}

// Attachment is the Content-Disposition of a download. Names of other letters
// have a plain stand-in for old clients; what cannot be seen is left out.
func Attachment(name string) string {
	name = strings.ToValidUTF8(name, "_")
	shown := strings.Map(func(r rune) rune {
		if Hidden(r) || r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, name)
	plain := strings.Map(func(r rune) rune {
		if r > '~' || r == '"' || r == '%' {
			return '_'
		}
		return r
	}, shown)
	out := `attachment; filename="` + plain + `"`
	if plain != shown {
		out += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(shown), "+", "%20")
	}
	return out
}

// Inert sets the headers of bytes that anybody may have written, so that no
// browser runs them.
func Inert(h http.Header, name string) {
	h.Set("Content-Type", ContentType(name))
	h.Set("Content-Disposition", Attachment(name))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}

// ContentType is an image's that browsers show and do not run; all else are
// bytes.
func ContentType(name string) string {
	kind := mime.TypeByExtension(strings.ToLower(path.Ext(name)))
	switch kind {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif":
		return kind
	}
	return "application/octet-stream"
}

// Content is a file's bytes for http.ServeContent: it opens the file anew where
// it is told to go on.
type Content struct {
	Open  func(from int64) (io.ReadCloser, error)
	Size  int64
	body  io.ReadCloser
	at    int64 // of body
	wants int64
}

// NewContent is what a view was opened with, and how to open it elsewhere.
func NewContent(v FileView, open func(from int64) (io.ReadCloser, error)) *Content {
	return &Content{Open: open, Size: v.Size, body: v.Body}
}

// Seek implements io.Seeker.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.wants
	case io.SeekEnd:
		offset += c.Size
	}
	if offset < 0 {
		return 0, errors.New("seeking before the begin")
	}
	c.wants = offset
	return offset, nil
}

// Read implements io.Reader.
func (c *Content) Read(p []byte) (int, error) {
	if c.body == nil || c.at != c.wants {
		if err := c.Close(); err != nil {
			return 0, err
		}
		body, err := c.Open(c.wants)
		if err != nil {
			return 0, err
		}
		c.body, c.at = body, c.wants
	}
	n, err := c.body.Read(p)
	c.at += int64(n)
	c.wants = c.at
	return n, err
}

// Close implements io.Closer.
func (c *Content) Close() error {
	body := c.body
	if c.body = nil; body == nil {
		return nil
	}
	return body.Close()
}

// Serve answers with a file, or with the part that the request asks for.
func Serve(w http.ResponseWriter, r *http.Request, v FileView, open func(from int64) (io.ReadCloser, error)) {
	c := NewContent(v, open)
	defer c.Close() // what was read is read
	Inert(w.Header(), v.Name)
	if strings.Contains(r.Header.Get("Range"), ",") { // each part would open the file once more
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", v.Changed, c)
}

const recheck = 10 * time.Second // how often who takes long is asked for anew

// Watched is a stream that ends with an error when allowed says no, which it is
// asked now and again while the stream is read.
func Watched(r io.Reader, allowed func() bool) io.Reader {
	return &watched{r: r, allowed: allowed, next: time.Now().Add(recheck)}
}

type watched struct {
	r       io.Reader
	allowed func() bool
	next    time.Time
}

func (w *watched) Read(p []byte) (int, error) {
	if now := time.Now(); now.After(w.next) {
		if w.next = now.Add(recheck); !w.allowed() {
			return 0, fmt.Errorf("your role in this project has changed: %w", ErrForbidden)
		}
	}
	return w.r.Read(p)
}

// Hidden is a character that a terminal or a page would not show as it is.
func Hidden(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r == 0xad || r == 0x61c || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff || r == utf8.RuneError
}

// ShowName is a name with what hides in it made visible, as Go quotes it.
func ShowName(name string) string {
	if utf8.ValidString(name) && !strings.ContainsFunc(name, Hidden) {
		return name
	}
	q := strconv.Quote(name)
	return q[1 : len(q)-1]
}
