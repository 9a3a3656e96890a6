package git

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
)

// Access is what one workspace may do. Every field but Branch may be zero.
type Access struct {
	Branch string   // the one branch that may be pushed, without refs/heads/
	Auth   AuthFunc // credentials for the remote, asked for each time
	// Stale says why this workspace may do nothing any more; nil: it may.
	Stale func() error
	// Within bounds a push on its way to the remote: its context ends, with a
	// cause, when the workspace may push no more. Nil: nothing ends one but
	// its deadline.
	Within func(context.Context) (context.Context, context.CancelFunc)
	// Refused is told what was tried and why it was not done.
	Refused func(what, why string)
	// Pushed is told each commit that the remote took.
	Pushed func(commit string)
	// Rewrite lets a push replace the branch's own commits (after a rebase).
	// The remote's newer commits are never overwritten.
	Rewrite bool
	MaxBody int64 // bytes of one push; 0: 2 GiB
}

const maxFetchBody = 64 << 20

// service is one workspace's view of a repository.
type service struct {
	r *Repo
	a Access
}

// Handler serves the repository to one workspace as /repo.git over git's
// smart HTTP. Anything else is refused with a sentence that git shows.
func (r *Repo) Handler(a Access) http.Handler {
	if a.MaxBody == 0 {
		a.MaxBody = 2 << 30
	}
	s := &service{r: r, a: a}
	mux := http.NewServeMux()
	for _, name := range []string{"/repo.git", "/repo"} {
		mux.HandleFunc("GET "+name+"/info/refs", s.advertise)
		mux.HandleFunc("POST "+name+"/git-upload-pack", s.uploadPack)
		mux.HandleFunc("POST "+name+"/git-receive-pack", s.receivePack)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		s.refuse(w, http.StatusForbidden, req.URL.Path, "only this task's repository is served here")
	})
	return mux
}

// refuse answers in plain text: git shows that as "remote: …".
func (s *service) refuse(w http.ResponseWriter, status int, what, why string) {
	s.refused(what, why)
	http.Error(w, "samnode: "+why, status)
}

func (s *service) refused(what, why string) {
	s.r.m.c.Logger.Info("refused a git request", "repo", s.r.remote.url, "branch", s.a.Branch, "what", what, "why", why)
	if s.a.Refused != nil {
		s.a.Refused(what, why)
	}
}

// alive refuses everything once the workspace's lease is gone.
func (s *service) alive() error {
	if s.a.Stale == nil {
		return nil
	}
	return s.a.Stale()
}

// within bounds a push on its way.
func (s *service) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.a.Within == nil {
		return ctx, func() {}
	}
	return s.a.Within(ctx)
}

func (s *service) advertise(w http.ResponseWriter, req *http.Request) {
	name := req.URL.Query().Get("service")
	if name != "git-upload-pack" && name != "git-receive-pack" {
		s.refuse(w, http.StatusForbidden, "git without smart HTTP", "only git's smart HTTP is served")
		return
	}
	if err := s.alive(); err != nil {
		s.refuse(w, http.StatusForbidden, name, err.Error())
		return
	}
	if err := s.update(req.Context()); err != nil {
		s.refuse(w, http.StatusBadGateway, name, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/x-"+name+"-advertisement")
	w.Header().Set("Cache-Control", "no-cache")
	if !isV2(req) || name == "git-receive-pack" {
		_, _ = w.Write(append(pkt(nil, "# service="+name+"\n"), flushPkt...))
	}
	args := []string{"-c", "receive.hideRefs=refs/samnode", strings.TrimPrefix(name, "git-"), "--http-backend-info-refs", s.r.dir}
	s.serve(w, req, command{args: args})
}

// update asks the remote, at most every few seconds. When it cannot be
// reached the mirror answers: what is pushed is still checked by the remote.
func (s *service) update(ctx context.Context) error {
	err := s.r.refresh(ctx, s.a.Auth)
	if err != nil && errors.Is(err, ErrNetwork) {
		s.r.m.c.Logger.Warn("answering from the mirror", "repo", s.r.remote.url, "err", err)
		return nil
	}
	return err
}

func isV2(req *http.Request) bool {
	return strings.Contains(req.Header.Get("Git-Protocol"), "version=2")
}

func (s *service) uploadPack(w http.ResponseWriter, req *http.Request) {
	if err := s.alive(); err != nil {
		s.refuse(w, http.StatusForbidden, "fetch", err.Error())
		return
	}
	body := io.Reader(http.MaxBytesReader(w, req.Body, maxFetchBody))
	switch req.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, "samnode: the request is not gzip", http.StatusBadRequest)
			return
		}
		body = io.LimitReader(z, maxFetchBody)
	default:
		http.Error(w, "samnode: unknown Content-Encoding", http.StatusUnsupportedMediaType)
		return
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	w.Header().Set("Cache-Control", "no-cache")
	s.serve(w, req, command{args: []string{"upload-pack", "--stateless-rpc", s.r.dir}, stdin: body})
}

// serve streams what git answers. The status is sent already when git fails
// late; git's own protocol tells the other side then.
func (s *service) serve(w http.ResponseWriter, req *http.Request, c command) {
	if v := req.Header.Get("Git-Protocol"); v != "" && len(v) < 100 && !strings.ContainsAny(v, "\x00\n") {
		c.env = append(c.env, "GIT_PROTOCOL="+v)
	}
	if _, err := s.r.stream(req.Context(), "serving the repository", c, &flusher{w: w, rc: http.NewResponseController(w)}); err != nil && req.Context().Err() == nil {
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			s.r.m.c.Logger.Warn("serving the mirror", "repo", s.r.remote.url, "err", err)
		}
	}
}

// flusher sends each write at once: progress is for now, not for later.
type flusher struct {
	w  io.Writer
	rc *http.ResponseController
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, fmt.Errorf("answering the workspace: %w", err)
	}
	_ = f.rc.Flush() // a writer that cannot flush sends at the end
	return n, nil
}
