package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/mesh"
)

func (c *cli) leave() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Take this machine's node out of its mesh for ever",
		Long: "Take the node that runs on this machine out of its mesh. Its tasks start again elsewhere from their last pushed\n" +
			"commit, its key leaves the tailnet, and the node stops. Drain it first to let its tasks end. It says when its device\n" +
			"stays in the control server's list.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out map[string]string
			if err := c.client().call(cmd.Context(), http.MethodPost, "leave", struct{}{}, &out); err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s has left the mesh and stops\n", out["left"])
				if trace := out["trace"]; trace != "" {
					fmt.Fprintln(w, trace)
				}
			})
		},
	}
}

// leavePath is asked of the node that is to leave, on its own machine or by an
// owner.
const leavePath = "POST /api/v1/leave"

// fromHere keeps pages of elsewhere out, as the other pages do for themselves:
// a browser sends what they ask for in the name of its person.
func fromHere(next http.HandlerFunc) http.Handler {
	return http.NewCrossOriginProtection().Handler(next)
}

func (n *node) leaveRequest(w http.ResponseWriter, r *http.Request) {
	var trace string
	who, role, err := n.who(r)
	if err == nil && role != mesh.Owner {
		err = fmt.Errorf("only owners may do this: %w", errForbidden)
	}
	if err == nil {
		n.c.Logger.Info("this node leaves the mesh", "by", who)
		trace, err = n.remove(r.Context(), n.c.Node)
	}
	answerLeave(w, n.c.Node, trace, err)
}

func (w *worker) leaveRequest(rw http.ResponseWriter, r *http.Request) {
	var out leaveAnswer
	err := w.cores.call(r.Context(), "/calls/v1/leave", struct{}{}, &out)
	answerLeave(rw, w.c.Node, out.Trace, err)
}

func answerLeave(w http.ResponseWriter, node, trace string, err error) {
	w.Header().Set("Content-Type", "application/json")
	body := map[string]string{"left": node}
	if trace != "" {
		body["trace"] = trace
	}
	switch {
	case errors.Is(err, errForbidden), errors.Is(err, mesh.ErrStranger):
		w.WriteHeader(http.StatusForbidden)
	case isRefusal(err):
		w.WriteHeader(http.StatusConflict)
	case err != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if err != nil {
		body = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(body) // whoever asked is gone
}

// callLeave takes the calling node out of the mesh.
func (n *node) callLeave(ctx context.Context, from mesh.Caller, _ struct{}) (leaveAnswer, error) {
	m, err := n.member(ctx, from)
	if err != nil {
		return leaveAnswer{}, err
	}
	trace, err := n.remove(ctx, m.Name)
	return leaveAnswer{Trace: trace}, err
}

// left ends a node that was removed: it goes off the tailnet, and its
// directory says that it is no node's any more. Its work stays where it is.
func (h *host) left(why error) error {
	if errors.Is(why, errTwin) {
		// This start does not count, or the copy would be the newer one the next time.
		h.id.Generation--
		return errors.Join(why, h.id.write(h.c.State))
	}
	if o, ok := errors.AsType[*errOvertaken](why); ok {
		h.id.Overtaken = o.epoch
		return errors.Join(&exitError{exitRefused, why.Error()}, h.id.write(h.c.State))
	}
	if !errors.Is(why, errNotMember) {
		return why
	}
	h.c.Logger.Warn("this node was removed from the mesh; it stops")
	var errs []error
	if t, ok := h.net.(interface{ Logout(context.Context) error }); ok {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		errs = append(errs, t.Logout(ctx))
	}
	if err := os.Rename(h.c.dir(identityFile), h.c.dir(leftFile)); err != nil {
		errs = append(errs, fmt.Errorf("marking the directory as left: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		h.c.Logger.Warn("leaving", "err", err)
	}
	return &exitError{exitRefused, "this node was removed from its mesh; to come back it needs an invitation and another --state"}
}
