package preview

import (
	"net/http"
	"strings"
)

// Cookies know no ports, so all previews of a node, and whatever else its host
// serves, share them. The names of each preview's begin with a word that only
// the proxy knows, and HttpOnly keeps scripts from reading them; so no server
// gets another's cookies, and none can be slipped to it.

// cookiesIn keeps those cookies of a request that are the preview's own.
func cookiesIn(h http.Header, word string) {
	if word == "" {
		return
	}
	var own []string
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(pair), word); ok && rest != "" {
				own = append(own, rest)
			}
		}
	}
	h.Del("Cookie")
	if len(own) > 0 {
		h.Set("Cookie", strings.Join(own, "; "))
	}
}

// cookiesOut makes the cookies of an answer the preview's own.
func cookiesOut(h http.Header, word string) {
	set := h["Set-Cookie"]
	h.Del("Set-Cookie")
	for _, line := range set {
		if own, ok := ownCookie(line, word); ok {
			h.Add("Set-Cookie", own)
		}
	}
}

func ownCookie(line, word string) (string, bool) {
	pair, rest, _ := strings.Cut(line, ";")
	pair = strings.TrimSpace(pair)
	if word != "" && strings.IndexByte(pair, '=') < 1 {
		return "", false // browsers take it for a cookie without a name, which has no owner
	}
	out := []string{word + pair}
	for a := range strings.SplitSeq(rest, ";") {
		a = strings.TrimSpace(a)
		name, _, _ := strings.Cut(a, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "", "domain":
			continue
		case "httponly":
			if word != "" {
				continue
			}
		}
		out = append(out, a)
	}
	if word != "" {
		out = append(out, "HttpOnly")
	}
	return strings.Join(out, "; "), true
}
