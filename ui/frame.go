package ui

import (
	"net/http"
	"strconv"
	"strings"
)

// frame is what every page has around its content.
type frame struct {
	Title   string
	Name    string // of this node
	Version string
	Person  string
	Role    Role
	Needs   int // tasks that wait for a person
	Nav     string
	Alert   *problem
	CSS     string
	JS      string
	Theme   string
	Icon    string
	Extra   []string // more style sheets
	Body    string   // class of the body
	Beat    string   // milliseconds between two signs of life of a stream
	Self    string   // where this node's pages are
	Reach   string   // where a page may go on when this node dies, with spaces between
	Others  string   // those of them that answer now
	Moved   string   // the node that this reader's page just left, because it died
	Notes   []note
	Pool    bool // there is a page of the machines
	Whole   bool // the reader has a role in the whole mesh
}

func (s *Server) frame(r *http.Request, title string) frame {
	c := callerOf(r)
	f := frame{
		Title: title, Name: string(s.Node), Version: s.Version, Person: string(c.Person), Role: c.Role,
		Beat: strconv.FormatInt(s.beatEvery.Milliseconds(), 10), CSS: s.assets.url("app.css"), JS: s.assets.url("app.js"), Theme: s.assets.url("theme.js"), Icon: s.assets.url("icon.svg"),
	}
	if c.Role == "" {
		return f
	}
	f.Whole = c.Mesh != ""
	f.Pool = s.Pool != nil && f.Whole
	a := s.around(r.Context())
	f.Self, f.Reach, f.Others = a.self(), strings.Join(a.reach(), " "), strings.Join(a.others(), " ")
	f.Moved, f.Notes = a.movedFrom(r), a.notes()
	_, _, f.Needs = s.briefsOf(c)
	return f
}

func (f frame) may(role Role) bool { return caller{Role: f.Role}.may(role) }
