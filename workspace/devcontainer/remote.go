package devcontainer

import (
	"regexp"
	"strings"
)

var (
	// The builder drops comments, then joins lines, with either escape
	// character; empty lines in between do not count.
	comment   = regexp.MustCompile(`(?m)^[ \t]*#[^\n]*(?:\n|$)`)
	continued = regexp.MustCompile("[\\\\`][ \\t]*\\r?\\n(?:[ \\t]*\\r?\\n)*")
	add       = regexp.MustCompile(`(?im)^[ \t]*(?:ONBUILD[ \t]+)*ADD[ \t]+(.*)$`)
	quotes    = strings.NewReplacer(`\`, "", "`", "", `'`, "", `"`, "")
)

// remoteAdd returns the first ADD of a Dockerfile whose source may be a URL,
// or "". The engine fetches those itself, so the build's network is no fence
// for them. A variable may hold anything, so one in a source counts.
func remoteAdd(dockerfile []byte) string {
	text := continued.ReplaceAllString(comment.ReplaceAllString(string(dockerfile), ""), "")
	for _, m := range add.FindAllStringSubmatch(text, -1) {
		words := strings.Fields(m[1])
		sources := strings.Join(words[:max(1, len(words)-1)], " ")
		if strings.Contains(quotes.Replace(sources), "://") || strings.Contains(sources, "$") {
			return strings.TrimSpace(m[0])
		}
	}
	return ""
}
