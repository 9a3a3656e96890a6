package ui

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/a-h/templ"

	"github.com/samnode/samnode/chat"
)

type context_ = context.Context

func jsonOf(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be encoded
	}
	return string(b)
}

func by(person string) chat.Author { return chat.Author{Person: chat.Person(person)} }

// fragment is a component as a page has it.
func fragment(ctx context.Context, c templ.Component) (string, error) {
	var b strings.Builder
	err := c.Render(ctx, &b)
	return b.String() + "\n", err
}
