package preview

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

var errBroken = errors.New("the connection broke")

// trouble is why there is no preview, as a person reads it.
type trouble struct {
	Status      int
	Title, Text string
	Ports       []port // that listen instead
	Task        string // URL of the task's page; empty: none of their business
	Again       int    // seconds until the page asks again; 0: never
}

type port struct {
	Number int
	URL    string
}

// explain answers with the page of an error.
func (s *Server) explain(w http.ResponseWriter, r *http.Request, v View, err error) {
	if r.Context().Err() != nil {
		return // nobody is there
	}
	t := s.trouble(r.Context(), v, err)
	if t.Status == http.StatusInternalServerError {
		s.logger.Error("a preview failed", "task", v.Task, "port", v.Port, "err", err)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Error(w, t.Title+" "+t.Text, t.Status)
		return
	}
	if t.Again > 0 && r.Method == http.MethodGet {
		h.Set("Refresh", strconv.Itoa(t.Again))
	}
	var b bytes.Buffer
	if err := pageOf.Execute(&b, t); err != nil {
		http.Error(w, "This page could not be rendered.", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"+styleHash+"'")
	w.WriteHeader(t.Status)
	_, _ = w.Write(b.Bytes()) // the browser went away
}

func (s *Server) trouble(ctx context.Context, v View, err error) trouble {
	page := v.Pages + "/t/" + v.Task
	switch {
	case errors.Is(err, ErrNoTask):
		return trouble{Status: http.StatusNotFound, Title: "There is no such preview.", Text: "No task has this id, or it is not shown to you."}
	case errors.Is(err, ErrForbidden):
		return trouble{Status: http.StatusForbidden, Title: "You may not see this preview.", Text: sentence(err)}
	case errors.Is(err, ErrOwn):
		return trouble{Status: http.StatusForbidden, Title: fmt.Sprintf("Port %d is not shown.", v.Port), Text: "It is samnode's own way out of the workspace, and serves what runs inside.", Task: page}
	case errors.Is(err, ErrNoWorkspace):
		return trouble{Status: http.StatusServiceUnavailable, Title: "No workspace of this task is alive.", Text: "The task's page starts one. This page tries again by itself.", Task: page, Again: 5}
	case errors.Is(err, ErrAway):
		return trouble{Status: http.StatusBadGateway, Title: "The machine of this workspace does not answer.", Text: "It may be starting again. This page tries again by itself.", Task: page, Again: 5}
	case errors.Is(err, ErrClosed):
		return s.closed(ctx, v, page)
	case errors.Is(err, errBroken):
		return trouble{Status: http.StatusBadGateway, Title: "The connection broke.", Text: fmt.Sprintf("The server on port %d, or its machine, ended it before it answered. This page tries again by itself.", v.Port), Task: page, Again: 5}
	}
	return trouble{Status: http.StatusInternalServerError, Title: "Something went wrong on this node.", Text: "It was written to the node's log.", Task: page}
}

// closed says what listens instead.
func (s *Server) closed(ctx context.Context, v View, page string) trouble {
	t := trouble{
		Status: http.StatusBadGateway, Title: fmt.Sprintf("Nothing listens on port %d.", v.Port), Task: page, Again: 3,
		Text: "Start the server, or ask the agent to. This page tries again by itself.",
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	list, err := s.c.Listening(ctx, v.Task)
	if err != nil {
		s.logger.Debug("listing ports", "task", v.Task, "err", err)
	}
	slices.Sort(list)
	for _, n := range list[:min(len(list), 20)] {
		t.Ports = append(t.Ports, port{n, page + "/ports/" + strconv.Itoa(n) + "/open"})
	}
	return t
}

// sentence is an error's own text, without the sentinel's.
func sentence(err error) string {
	text := strings.TrimSuffix(err.Error(), ": "+ErrForbidden.Error())
	text = strings.TrimPrefix(text, ErrForbidden.Error()+": ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// Explain answers with the page of an error where there is no preview yet.
func (s *Server) Explain(w http.ResponseWriter, r *http.Request, v View, err error) {
	s.explain(w, r, v, err)
}

const style = `:root{color-scheme:light dark}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:light-dark(#f6f7f9,#0f1216);color:light-dark(#1a1f26,#e4e8ee);font:16px/1.5 system-ui,sans-serif}
main{max-width:34rem;padding:24px;box-sizing:border-box;overflow-wrap:anywhere}
h1{font-size:1.375rem;line-height:1.3;margin:0 0 8px}
p{margin:0 0 16px;color:light-dark(#525c69,#a3adba)}
ul{display:flex;flex-wrap:wrap;gap:8px;list-style:none;padding:0;margin:0 0 24px}
a{color:light-dark(#1d55c9,#8ab4ff)}
li a,.task{display:inline-block;padding:8px 14px;border:1px solid light-dark(#c3cad3,#3a4450);border-radius:8px;text-decoration:none;font-variant-numeric:tabular-nums}
:focus-visible{outline:2px solid currentColor;outline-offset:2px}`

var styleHash = hash(style)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var pageOf = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title><meta name="viewport" content="width=device-width, initial-scale=1"><style>` + style + `</style></head>
<body><main>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{with .Ports}}<p>These do:</p>
<ul>{{range .}}<li><a href="{{.URL}}">{{.Number}}</a></li>{{end}}</ul>
{{end}}{{with .Task}}<a class="task" href="{{.}}">The task</a>{{end}}
</main></body></html>
`))
