package ui

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// Recordings are what shells showed, on the machine that has a task's workspace
// or had it last.
type Recordings interface {
	Recordings(ctx context.Context, task chat.TaskID) ([]api.Recording, error)
	// Recording reads one as far as it is.
	Recording(ctx context.Context, task chat.TaskID, name string) (io.ReadCloser, error)
}

type accessView struct {
	Sheet, URL string
	Visits     []visitView
	Recordings []api.Recording
	Problem    string // of the recordings
	Now        time.Time
}

type visitView struct {
	Person, Device, By, What, Long, Note string
	Began                                time.Time
	Live                                 bool
}

// visitWays are the ways into a workspace, in words.
var visitWays = map[chat.VisitBy]string{
	chat.VisitPage: "terminal in the page", chat.VisitShell: "shell by ssh", chat.VisitCommand: "command by ssh", chat.VisitFiles: "files",
	chat.VisitForward: "forwarded port", chat.VisitPreview: "preview", chat.VisitSSH: "ssh connection",
}

// taskAccess is who was in the task's workspaces.
func (s *Server) taskAccess(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	v := accessView{Sheet: s.assets.url("access.css"), URL: "/t/" + string(t.ID), Now: now}
	for _, x := range api.Visits(s.Room.Visits(t.ID), s.NodeAlive, now) {
		v.Visits = append(v.Visits, visitRow(x))
	}
	if p, err := s.Room.Project(string(t.Project)); err == nil && s.Recordings != nil && callerOf(r).may(Member) {
		v.Recordings, err = s.Recordings.Recordings(r.Context(), t.ID)
		if err != nil && p.Record { // elsewhere there is nothing to miss
			v.Problem = s.words(r, err)
		}
	}
	return s.withPanel(w, r, "access", accessPanel(v))
}

func visitRow(x api.Visit) visitView {
	v := visitView{
		Person: visible(string(x.Person)), Device: visible(x.Device), By: visitWays[x.By], What: visible(x.What), Began: x.Began,
		Long: spell(x.Seconds), Live: x.State == "live",
	}
	var notes []string
	if x.Count > 1 {
		notes = append(notes, fmt.Sprintf("%d times", x.Count))
	}
	if x.Bytes > 0 {
		notes = append(notes, size(x.Bytes))
	}
	switch x.State {
	case "lost":
		v.Long += " or more"
		notes = append(notes, "nobody saw the end: "+string(x.Node)+" had stopped")
	case "unknown":
		v.Long += " or more"
		notes = append(notes, string(x.Node)+" does not answer")
	}
	v.Note = visible(strings.Join(notes, ", "))
	return v
}

// spell is a number of seconds for people.
func spell(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// recording sends one of a shell.
func (s *Server) recording(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.Recordings == nil {
		return errNoPart
	}
	name := r.PathValue("recording")
	from, err := s.Recordings.Recording(r.Context(), t.ID, name)
	if err != nil {
		return fmt.Errorf("opening a recording: %w", err)
	}
	defer from.Close()
	api.SendRecording(w, name)
	if _, err := io.Copy(w, from); err != nil {
		s.Logger.Info("a recording was not sent whole", "task", t.ID, "name", name, "err", err)
		panic(http.ErrAbortHandler) // the browser sees that the end is missing
	}
	return nil
}
