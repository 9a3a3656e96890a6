package ui

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/samnode/samnode/ui/api"
)

// What a person changed at one node shows at the next: a cookie says how far
// the log was then, and a page that moved here says it in its address. A node
// that is not as far waits a moment before it answers.
const (
	markName = "samnode-at"
	markFor  = 30 // seconds; a node that lags for longer says so on every page
)

// remember leaves the index of what was just done with the reader.
func (s *Server) remember(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{
		Name: markName, Value: strconv.FormatUint(s.Room.Index(), 10), Path: "/", MaxAge: markFor,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// catchUp waits for what the reader has seen elsewhere. Streams wait by their
// own cursor.
func (s *Server) catchUp(r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/events") || strings.HasPrefix(r.URL.Path, "/events/") {
		return
	}
	seen, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64) // nonsense waits for nothing
	if c, err := r.Cookie(markName); err == nil {
		at, _ := strconv.ParseUint(c.Value, 10, 64)
		seen = max(seen, at)
	}
	if seen <= s.Room.Index() {
		return
	}
	ctx, stop := context.WithTimeout(r.Context(), api.Arrival)
	defer stop()
	_ = s.Room.Wait(ctx, seen) // a node that stays behind shows what it has
}
