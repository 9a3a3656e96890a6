package api

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
)

// Finder looks a task up, and waits for the log.
type Finder interface {
	Task(id string) (chat.Task, error)
	Index() uint64
	Wait(ctx context.Context, index uint64) error
}

// Arrival is how long a reader waits for what another node has already.
const Arrival = 2 * time.Second

// young is the age up to which an unknown task may be on its way here; it
// covers clocks that differ a little.
const young = time.Minute

// FindTask is room's Task. One that was made a moment ago, as its id says, may
// not have come here from the node that made it: it is waited for.
func FindTask(ctx context.Context, room Finder, id string) (chat.Task, error) {
	wait, stop := context.WithTimeout(ctx, Arrival)
	defer stop()
	for {
		index := room.Index() // before the look: what comes after it ends the wait
		t, err := room.Task(id)
		if !errors.Is(err, chat.ErrNotFound) || !isYoung(id) {
			return t, err
		}
		if room.Wait(wait, index+1) != nil {
			return t, err // the last answer stands
		}
	}
}

func isYoung(id string) bool {
	u, err := ulid.ParseStrict(strings.ToUpper(id))
	return err == nil && time.Since(ulid.Time(u.Time())).Abs() < young
}

// plainOrigin is what may stand in a header: nothing that could end a word.
var plainOrigin = regexp.MustCompile(`^https?://[A-Za-z0-9.:\[\]-]+$`)

// Origin is the scheme, host and port of the node's pages as a browser writes
// them, or empty when the node names none.
func (n Node) Origin() string {
	u, err := url.Parse(n.URL)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	if port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]; port != "" {
		host = strings.TrimSuffix(host, port)
	}
	origin := u.Scheme + "://" + host
	if !plainOrigin.MatchString(origin) {
		return ""
	}
	return origin
}
