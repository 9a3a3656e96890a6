package ui

import "net/http"

func (s *Server) gallery(w http.ResponseWriter, r *http.Request) error {
	return errNoPage
}
