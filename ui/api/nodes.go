package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/samnode/samnode/chat"
)

// mesh answers with the mesh as this node sees it.
func (s *server) mesh(w http.ResponseWriter, r *request) error {
	if s.c.Mesh == nil {
		return errNotHere
	}
	m, err := s.c.Mesh.Mesh(r.Context())
	if err != nil {
		return fmt.Errorf("reading the mesh: %w", err)
	}
	m.Members, m.Warnings = notNil(m.Members), notNil(m.Warnings)
	if m.Versions == nil {
		m.Versions = map[string]string{}
	}
	return answer(w, http.StatusOK, m)
}

// notNil makes an empty list of JSON out of none.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *server) nodes(w http.ResponseWriter, r *request) error {
	if s.c.Mesh == nil {
		return errNotHere
	}
	list, err := s.c.Mesh.Nodes(r.Context())
	if err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	return answer(w, http.StatusOK, map[string]any{"nodes": notNil(list)})
}

func (s *server) node(w http.ResponseWriter, r *request) error {
	if s.c.Mesh == nil {
		return errNotHere
	}
	n, err := s.c.Mesh.Node(r.Context(), r.PathValue("node"))
	if err != nil {
		return fmt.Errorf("reading node: %w", err)
	}
	return answer(w, http.StatusOK, n)
}

func (s *server) drain(w http.ResponseWriter, r *request) error {
	if s.c.Mesh == nil || s.c.NodeKeeper == nil {
		return errNotHere
	}
	in := struct {
		On bool `json:"on"`
	}{On: true}
	if err := decode(r, &in); err != nil {
		return err
	}
	name := r.PathValue("node")
	if err := s.c.NodeKeeper.Drain(r.Context(), r.by, name, in.On); err != nil {
		return fmt.Errorf("draining node: %w", err)
	}
	return s.answerNode(w, r, name)
}

func (s *server) label(w http.ResponseWriter, r *request) error {
	if s.c.Mesh == nil || s.c.NodeKeeper == nil {
		return errNotHere
	}
	var in struct {
		Labels []string `json:"labels"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	name := r.PathValue("node")
	if err := s.c.NodeKeeper.Label(r.Context(), r.by, name, in.Labels); err != nil {
		return fmt.Errorf("labelling node: %w", err)
	}
	return s.answerNode(w, r, name)
}

func (s *server) answerNode(w http.ResponseWriter, r *request, name string) error {
	list, err := s.c.Mesh.Nodes(r.Context())
	if err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	i := slices.IndexFunc(list, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no node %.60q: %w", name, chat.ErrNotFound)
	}
	return answer(w, http.StatusOK, list[i])
}

func (s *server) removeNode(w http.ResponseWriter, r *request) error {
	if s.c.NodeKeeper == nil {
		return errNotHere
	}
	name := r.PathValue("node")
	trace, err := s.c.NodeKeeper.Remove(r.Context(), r.by, name)
	if err != nil {
		return fmt.Errorf("removing node: %w", err)
	}
	return answer(w, http.StatusOK, Removed{Removed: name, Trace: trace})
}

func (s *server) invitations(w http.ResponseWriter, r *request) error {
	if s.c.Invitations == nil {
		return errNotHere
	}
	list, err := s.c.Invitations.Invitations(r.Context())
	if err != nil {
		return fmt.Errorf("reading invitations: %w", err)
	}
	for i := range list {
		list[i].Token, list[i].Command = "", "" // nobody sees them a second time
	}
	return answer(w, http.StatusOK, map[string]any{"invitations": notNil(list)})
}

// The time for which an invitation is good.
const (
	DefaultValid = time.Hour
	minValid     = time.Minute
	maxValid     = 7 * 24 * time.Hour
)

// CheckValid refuses an invitation that is good for too short or too long.
func CheckValid(valid time.Duration) error {
	if valid < minValid || valid > maxValid {
		return fmt.Errorf("%w: an invitation is good for a minute at least and for seven days at most", chat.ErrInvalid)
	}
	return nil
}

func (s *server) invite(w http.ResponseWriter, r *request) error {
	if s.c.Invitations == nil {
		return errNotHere
	}
	var in struct {
		ID    string `json:"id,omitempty"`
		Core  bool   `json:"core,omitempty"`
		Valid string `json:"valid,omitempty"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	valid := DefaultValid
	if in.Valid != "" {
		var err error
		if valid, err = time.ParseDuration(in.Valid); err != nil {
			return fmt.Errorf("valid is a length of time such as 30m or 24h: %w", chat.ErrInvalid)
		}
	}
	if err := CheckValid(valid); err != nil {
		return err
	}
	if in.ID == "" {
		in.ID = s.c.NewID()
	}
	made, err := s.c.Invitations.Invite(r.Context(), r.by, in.ID, in.Core, valid)
	if err != nil {
		return fmt.Errorf("inviting: %w", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, http.StatusCreated, made)
}

func (s *server) withdraw(w http.ResponseWriter, r *request) error {
	if s.c.Invitations == nil {
		return errNotHere
	}
	if err := s.c.Invitations.Withdraw(r.Context(), r.by, r.PathValue("id")); err != nil {
		return fmt.Errorf("withdrawing an invitation: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// allowMesh lets pages of the mesh's other nodes read the answer: a page whose
// node died looks for another. Other origins do not even learn that a node is
// here.
func (s *server) allowMesh(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	from := r.Header.Get("Origin")
	if from == "" || s.c.Mesh == nil {
		return
	}
	list, err := s.c.Mesh.Nodes(r.Context())
	if err != nil {
		s.c.Logger.Warn("reading the nodes for a page of another", "err", err)
		return
	}
	if slices.ContainsFunc(list, func(n Node) bool { return n.Origin() == from }) {
		w.Header().Set("Access-Control-Allow-Origin", from)
	}
}

// readOnly is the sentence for a mesh that cannot write.
func (s *server) readOnly(ctx context.Context) string {
	if s.c.Mesh == nil {
		return ReadOnly(MeshInfo{Quorum: true}, nil)
	}
	m, err := s.c.Mesh.Mesh(ctx)
	if err != nil {
		return ReadOnly(MeshInfo{Quorum: true}, nil)
	}
	nodes, err := s.c.Mesh.Nodes(ctx)
	if err != nil {
		s.c.Logger.Warn("reading the nodes", "err", err)
	}
	return ReadOnly(m, nodes)
}
