package acp

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
)

// FailureError is a failure with a sentence for a person.
type FailureError struct{ chat.Failure }

// Error is the sentence.
func (e *FailureError) Error() string { return e.Reason }

// codeAuth is ACP's "authentication required".
const codeAuth = -32000

// failure puts an agent's error into words.
func (c *Conversation) failure(e *rpcError) chat.Failure {
	text := first(string(e.Message), "no message")
	if data := compact(e.Data); data != "" {
		text += "\n" + data
	}
	detail, _ := cutMiddle(fmt.Sprintf("%d: %s", e.Code, text), maxDetail)
	f := chat.Failure{Detail: detail}
	low := strings.ToLower(text)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(low, w) {
				return true
			}
		}
		return false
	}
	switch said := brokerSaid(text); {
	case said != "":
		f.Reason, f.Retryable = said, has("could not be reached")
	case has("529", "overloaded", "503", "service unavailable"):
		f.Reason, f.Retryable = "The model's servers are overloaded. Try again in a few minutes.", true
	case has("429", "rate limit", "rate_limit", "too many requests", "quota"):
		f.Reason, f.Retryable = "The model's rate limit or quota is used up for now. Try again later, or use another key.", true
	case has("budget"):
		f.Reason = "The task's budget for models is used up. Raise it to go on."
	case e.Code == codeAuth || has("authentication", "unauthorized", "invalid api key", "invalid x-api-key", "401"):
		f.Reason = c.needsKey()
	case has("timeout", "timed out", "econnreset", "econnrefused", "fetch failed", "socket hang up", "connection error"):
		f.Reason, f.Retryable = "The model's servers could not be reached. Try again.", true
	default:
		f.Reason, f.Retryable = c.c.Agent+" reported an error: "+line(first(string(e.Message), "no message")), true
	}
	return f
}

// brokerSaid is the node's own sentence in an error of the model API: the
// broker marks what it refuses, and agents hand it on inside their own words.
func brokerSaid(text string) string {
	_, said, _ := strings.Cut(text, "samnode: ")
	if i := strings.IndexAny(said, "\"\\\n"); i >= 0 {
		said = said[:i]
	}
	if said = line(said); said == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(said)
	return string(unicode.ToUpper(r)) + said[n:]
}

func (c *Conversation) needsKey() string {
	if c.c.Secret == "" {
		return c.c.Agent + " is not signed in."
	}
	return c.c.Agent + " has no valid key. Set it with `samnode secret set " + c.c.Secret + "`, then try again."
}

// crash says how the process ended.
func (c *Conversation) crash() *chat.Failure {
	how := "ended"
	switch e := c.exit; {
	case e == nil:
	case e.OOM:
		how = "ran out of the workspace's memory and was killed"
	case e.Signal != "":
		how = "was ended by a signal (" + line(e.Signal) + ")"
	case e.Reason != "":
		how = "ended (" + line(e.Reason) + ")"
	default:
		how = fmt.Sprintf("ended with exit code %d", e.Code)
	}
	detail, _ := cutMiddle(c.Stderr(), maxDetail)
	return &chat.Failure{Reason: c.c.Agent + " " + how + " before it was done.", Detail: detail, Retryable: true}
}
