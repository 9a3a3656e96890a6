package preview

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
)

var (
	errOutside = errors.New("Another page may not ask this. Open the preview itself.")    //nolint:staticcheck // people read it
	errSocket  = errors.New("Only the preview's own page may open this connection.")      //nolint:staticcheck // people read it
	errMethod  = errors.New("A preview knows no such method.")                            //nolint:staticcheck // people read it
	errUpgrade = errors.New("A connection of a preview can become a WebSocket, no more.") //nolint:staticcheck // people read it
)

// sender refuses what a page of another origin had the browser send, but for
// following a link. Browsers say who sent a request in ways that no page can
// change: Sec-Fetch-* where the connection is secure, and Origin wherever
// something could be changed.
func sender(r *http.Request) error {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	reading := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return errMethod
	case r.Header.Get("Upgrade") != "":
		return socket(r, origin)
	case site == "same-origin" || site == "none":
		return nil
	case site != "":
		link := r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
		if !reading || !link {
			return errOutside
		}
		return nil
	case origin != "" && !isOwn(origin, r.Host):
		return errOutside
	}
	return nil // no browser, or one that follows a link or loads a part of a page
}

func socket(r *http.Request, origin string) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return errUpgrade
	}
	if !isOwn(origin, r.Host) {
		return errSocket
	}
	return nil
}

func isOwn(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
