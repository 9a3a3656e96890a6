package ui

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

var (
	errNoPage   = errors.New("no such page")
	errNoRight  = errors.New("not allowed")
	errNoPart   = errors.New("not available on this node")
	errUnknown  = errors.New("unknown caller")
	errTooSmall = errors.New("nothing was written")
)

// statuses is the one table from errors to HTTP and to words. The first match
// wins; anything else is ours, is logged, and people see no internals.
var statuses = []struct {
	err    error
	status int
	title  string
}{
	{errNoPage, http.StatusNotFound, "There is no such page"},
	{errUnknown, http.StatusForbidden, "This node does not know you"},
	{errNoRight, http.StatusForbidden, "You may not do this"},
	{errNoPart, http.StatusNotImplemented, "Not available here"},
	{errTooSmall, http.StatusUnprocessableEntity, "Nothing was written"},
	{chat.ErrNotFound, http.StatusNotFound, "There is no such thing"},
	{chat.ErrRefused, http.StatusConflict, "It was refused"},
	{chat.ErrStale, http.StatusConflict, "Another lease has the task now"},
	{chat.ErrTooLarge, http.StatusRequestEntityTooLarge, "That is too large"},
	{chat.ErrInvalid, http.StatusUnprocessableEntity, "That is not right yet"},
	{chat.ErrFull, http.StatusInsufficientStorage, "The disk of this node is full"},
	{context.Canceled, 499, "The request was cancelled"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "That took too long"},
}

// problem is an error as a person reads it.
type problem struct {
	Status int
	Title  string
	Text   string
}

// status is that of a page with the problem on it; nil: there is none.
func (p *problem) status() int {
	if p == nil {
		return http.StatusOK
	}
	return p.Status
}

func explain(err error) problem {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		err = chat.ErrTooLarge
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return problem{s.status, s.title, sentence(err, s.err)}
		}
	}
	return problem{http.StatusInternalServerError, "Something went wrong on this node", "It was written to the node's log."}
}

// sentence is the part of an error that was written for people: the text right
// around its sentinel, without our own "doing x:" in front.
func sentence(err, sentinel error) string {
	for next := errors.Unwrap(err); next != nil && next != sentinel; next = errors.Unwrap(err) {
		err = next
	}
	text := strings.TrimPrefix(err.Error(), sentinel.Error())
	return strings.TrimLeft(text, ": ")
}

// handler is a page or an action; what it returns goes through explain.
type handler func(http.ResponseWriter, *http.Request) error

type callerKey struct{}

// page asks who calls, checks the role where the path leads, bounds the body and
// renders errors.
func (s *Server) page(role Role, h handler) http.Handler { return s.pageAbout(theMesh, role, h) }

func (s *Server) pageAbout(what about, role Role, h handler) http.Handler {
	return s.pageUpTo(4*chat.MaxText, what, role, h)
}

// pageUpTo is pageAbout with another limit for the body.
func (s *Server) pageUpTo(limit int64, what about, role Role, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.admit(r, what, role)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
		if err == nil {
			s.setPolicy(w, r, ownStyles)
			s.catchUp(r)
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			err = h(w, r)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// refusal says which role would have been enough.
type refusal struct{ role Role }

func (e *refusal) Error() string { return errNoRight.Error() + ": this is for a " + string(e.role) }
func (e *refusal) Unwrap() error { return errNoRight }

// problem explains an error and logs those that are ours.
func (s *Server) problem(r *http.Request, err error) problem {
	if errors.Is(err, api.ErrNoMajority) || s.Unavailable != nil && s.Unavailable(err) {
		s.Logger.Warn("mesh cannot write", "method", r.Method, "path", r.URL.Path, "err", err)
		a := s.around(r.Context())
		return problem{http.StatusServiceUnavailable, "Not written", api.ReadOnly(a.Mesh, a.Nodes)}
	}
	p := explain(err)
	if p.Status >= 500 && p.Status != http.StatusNotImplemented {
		s.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	return p
}

// fail answers with an error: one line for our script, else a whole page.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problem(r, err)
	if scripted(r) || strings.HasSuffix(r.URL.Path, "/ws") || strings.HasSuffix(r.URL.Path, "/events") {
		http.Error(w, strings.TrimSuffix(p.Title+". "+p.Text, " "), p.Status)
		return
	}
	render(w, r, p.Status, failPage(s.frame(r, p.Title), p))
}

// scripted says that app.js sent the request and wants no page back.
func scripted(r *http.Request) bool { return r.Header.Get("X-Samnode") != "" }
