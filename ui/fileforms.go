package ui

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// fileChange makes a folder, renames or removes; the form is small.
func (s *Server) fileChange(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.FileKeeper == nil {
		return errNoPart
	}
	here := strings.TrimSuffix(r.PathValue("path"), "/")
	c, to := api.FileChange{Do: r.PostFormValue("do"), Path: here, All: r.PostFormValue("all") != ""}, here
	name := strings.TrimSpace(r.PostFormValue("name"))
	switch c.Do {
	case "folder":
		c.Path = beside(here+"/", name)
		to = c.Path
	case "rename":
		c.To = beside(here, name)
		to = c.To
	case "remove":
		to = strings.TrimSuffix(beside(here, ""), "/")
	}
	if c.Do != "remove" && name == "" {
		err = errTooSmall
	} else {
		_, err = s.FileKeeper.Change(r.Context(), callerOf(r).Person, t, c)
	}
	if err != nil {
		return s.filesAgain(w, r, t, here, err)
	}
	return s.did(w, r, strings.TrimSuffix("/t/"+string(t.ID)+"/files/"+escapePath(to), "/"))
}

// beside is a name in the folder of a path, or a path from the root when it
// begins with a slash.
func beside(p, name string) string {
	if whole, ok := strings.CutPrefix(name, "/"); ok {
		return whole
	}
	return strings.TrimPrefix(p[:strings.LastIndexByte(p, '/')+1]+name, "/")
}

// filesAgain shows the panel with what went wrong.
func (s *Server) filesAgain(w http.ResponseWriter, r *http.Request, t chat.Task, here string, err error) error {
	if scripted(r) {
		return err
	}
	return s.showFiles(w, r, t, here, err)
}

// upload takes files into the folder of the path, as they come: nothing is kept
// here.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	t, err := s.loadTask(r)
	if err != nil {
		return err
	}
	if s.FileKeeper == nil {
		return errNoPart
	}
	if r.ContentLength > api.MaxUpload {
		return api.TooLarge()
	}
	r.Body = s.watch(r, r.Body, Member)
	here := strings.TrimSuffix(r.PathValue("path"), "/")
	parts, err := r.MultipartReader()
	if err != nil {
		return fmt.Errorf("%w: this is no form with files", chat.ErrInvalid)
	}
	n, err := s.takeFiles(r, t, here, parts)
	switch {
	case err != nil && n > 0:
		err = &partly{err, fmt.Sprintf("%s. Before it, %s: done.", explain(err).Text, plural(n, "file"))}
	case err == nil && n == 0:
		err = errTooSmall
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, r.Body) // a browser reads no answer before it has sent all
		return s.filesAgain(w, r, t, here, err)
	}
	return s.did(w, r, strings.TrimSuffix("/t/"+string(t.ID)+"/files/"+escapePath(here), "/"))
}

// partly is an error that came after something was done.
type partly struct {
	err  error
	text string
}

func (p *partly) Error() string   { return p.text }
func (p *partly) Unwrap() []error { return []error{p.err} }

// takeFiles writes the files of a form. Its fields come before them.
func (s *Server) takeFiles(r *http.Request, t chat.Task, here string, parts *multipart.Reader) (n int, err error) {
	replace, exact := false, ""
	for {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%w: the upload broke off", chat.ErrInvalid)
		}
		switch p.FormName() {
		case "replace":
			replace = true
		case "name": // of the next file, from our script
			b, err := io.ReadAll(io.LimitReader(p, 1<<10))
			if err != nil {
				return n, fmt.Errorf("%w: the upload broke off", chat.ErrInvalid)
			}
			exact = string(b)
		}
		name := cmp.Or(exact, typedName.Replace(p.FileName()))
		if p.FormName() != "file" || name == "" {
			continue
		}
		exact = ""
		if _, err = s.FileKeeper.Write(r.Context(), callerOf(r).Person, t, beside(here+"/", name), p, replace, 0); err != nil {
			return n, err
		}
		n++
	}
}

// typedName takes back what a browser's form makes of names.
var typedName = strings.NewReplacer("%22", `"`, "%0A", "\n", "%0D", "\r")
