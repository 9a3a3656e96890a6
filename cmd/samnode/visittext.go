package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/sshd"
)

// visitWords are the ways into a workspace, as a count of each.
var visitWords = []struct {
	by        chat.VisitBy
	one, many string
}{
	{chat.VisitPage, "1 terminal in the page", "terminals in the page"},
	{chat.VisitShell, "1 shell", "shells"},
	{chat.VisitCommand, "1 command", "commands"},
	{chat.VisitFiles, "1 exchange of files", "exchanges of files"},
	{chat.VisitForward, "1 forwarded connection", "forwarded connections"},
	{chat.VisitPreview, "1 preview", "previews"},
	{chat.VisitSSH, "1 connection that did nothing", "connections that did nothing"},
}

// text is a stay in a line of the chat.
func (s *stay) text(over bool, now time.Time) string {
	if !over {
		return fmt.Sprintf("%s is in the workspace, from %s.", s.person, s.device)
	}
	end := s.left
	if s.uses > 0 { // the node stops
		end = now
	}
	var did []string
	for _, w := range visitWords {
		switch n := s.sum[w.by]; n {
		case 0:
		case 1:
			did = append(did, w.one)
		default:
			did = append(did, fmt.Sprintf("%d %s", n, w.many))
		}
	}
	return fmt.Sprintf("%s was in the workspace for %s, from %s: %s.", s.person, max(end.Sub(s.began), 0).Round(time.Second), s.device, strings.Join(did, ", "))
}

// cutText is text on one line, of at most so many characters, that tells a
// terminal nothing.
func cutText(text string, limit int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD")))
	if len(runes) > limit {
		runes = append(runes[:limit-1], '…')
	}
	return strings.TrimSpace(string(runes))
}

// saidNo tells what the chat says no to from what may work later.
func saidNo(err error) bool {
	return errors.Is(err, chat.ErrInvalid) || errors.Is(err, chat.ErrNotFound) || errors.Is(err, chat.ErrRefused) || errors.Is(err, chat.ErrTooLarge)
}

// sshUse is what the ssh server calls the ways.
func sshUse(by sshd.Use) chat.VisitBy {
	switch by {
	case sshd.UseShell:
		return chat.VisitShell
	case sshd.UseCommand:
		return chat.VisitCommand
	case sshd.UseFiles:
		return chat.VisitFiles
	case sshd.UseForward:
		return chat.VisitForward
	}
	return chat.VisitSSH
}

// putVisits writes visits into the log. They need no lease.
func (n *node) putVisits(ctx context.Context, op chat.Visits) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := n.room.Do(ctx, chat.Author{Node: chat.Node(n.c.Node)}, "", chat.Op{Visits: &op})
	return err
}

// keepVisits writes them until the node stops, after it has ended those that it
// had open when it stopped the last time.
func (n *node) keepVisits(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { n.visits.run(ctx); return nil })
	g.Go(func() error {
		select {
		case <-n.caught:
		case <-ctx.Done():
			return nil
		}
		for ctx.Err() == nil {
			err := n.endLostVisits(ctx)
			if err == nil {
				return nil
			}
			n.c.Logger.Warn("ending the visits of before this node stopped", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(visitsEvery):
			}
		}
		return nil
	})
}

// endLostVisits ends what nobody saw the end of: this node was killed.
func (n *node) endLostVisits(ctx context.Context) error {
	for _, t := range append(n.room.Tasks(chat.Filter{}), n.room.Tasks(chat.Filter{Archived: true})...) {
		op := chat.Visits{Task: t.ID}
		for _, v := range n.room.Visits(t.ID) {
			if string(v.Node) != n.c.Node || !v.Ended.IsZero() || !v.Began.Before(n.started) {
				continue
			}
			v.Lost, v.Ended = true, v.Began
			if v.Seen.After(v.Began) {
				v.Ended = v.Seen
			}
			op.Visits = append(op.Visits, v)
		}
		if len(op.Visits) == 0 {
			continue
		}
		if err := n.putVisits(ctx, op); err != nil && !saidNo(err) {
			return err
		}
	}
	return nil
}
