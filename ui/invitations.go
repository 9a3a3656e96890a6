package ui

import (
	"fmt"
	"net/http"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// invitationView is an invitation on the page. Command is there only in the
// answer to the form that made it.
type invitationView struct {
	ID, Kind, By, Made, Expires, Until, Command string
}

type inviteForm struct {
	ID    string
	Core  bool
	Valid string
}

var kinds = []choice{
	{"", "Worker", "runs tasks: a laptop, a server that comes and goes"},
	{"core", "Core node", "also keeps the log and the mesh's secrets: a machine that is always on"},
}

var valids = []choice{
	{"15m0s", "15 minutes", ""}, {"1h0m0s", "an hour", ""}, {"24h0m0s", "a day", ""}, {"168h0m0s", "a week", ""},
}

func newInvitation(i api.Invitation, now time.Time) invitationView {
	v := invitationView{
		ID: i.ID, Kind: "worker", By: author(&chat.Author{Person: i.By}), Command: i.Command,
		Expires: absolute(i.Expires), Until: "runs out in " + length(i.Expires.Sub(now)),
	}
	if i.Core {
		v.Kind = "core node"
	}
	if !i.Made.IsZero() {
		v.Made = age(now, i.Made)
	}
	return v
}

func invitationViews(list []api.Invitation, now time.Time) []invitationView {
	var out []invitationView
	for _, i := range list {
		i.Command = "" // nobody sees it a second time
		out = append(out, newInvitation(i, now))
	}
	return out
}

// invite makes an invitation and shows its command in the answer, once: there
// is no page that could show it again.
func (s *Server) invite(w http.ResponseWriter, r *http.Request) error {
	if s.Invitations == nil {
		return errNoPart
	}
	form := inviteForm{ID: formID(r), Core: r.PostFormValue("kind") == "core", Valid: r.PostFormValue("valid")}
	valid, err := time.ParseDuration(form.Valid)
	if err != nil {
		err = fmt.Errorf("%w: choose for how long the invitation is good", chat.ErrInvalid)
	} else {
		err = api.CheckValid(valid)
	}
	var made api.Invitation
	if err == nil {
		made, err = s.Invitations.Invite(r.Context(), callerOf(r).author(), form.ID, form.Core, valid)
	}
	if err != nil {
		p := s.problem(r, err)
		form.ID = newID()
		return s.showNodes(w, r, &p, func(v *nodesView) { v.Form = form })
	}
	s.remember(w)
	return s.showNodes(w, r, nil, func(v *nodesView) {
		view := newInvitation(made, s.Room.Now())
		v.Made = &view
	})
}

func (s *Server) withdraw(w http.ResponseWriter, r *http.Request) error {
	if s.Invitations == nil {
		return errNoPart
	}
	if err := s.Invitations.Withdraw(r.Context(), callerOf(r).author(), r.PathValue("id")); err != nil {
		p := s.problem(r, err)
		return s.showNodes(w, r, &p, nil)
	}
	return s.did(w, r, "/nodes#invite")
}

func kindOf(f inviteForm) string {
	if f.Core {
		return "core"
	}
	return ""
}
