package ui

import (
	"context"
	"encoding/json"

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
