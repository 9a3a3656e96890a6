package ui

import (
	"testing"

	"github.com/samnode/samnode/chat"
)

func TestAnAskIsNamedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		ask  chat.Ask
		want string
	}{
		"the command as its own name":    {chat.Ask{Kind: chat.AskPermission, Title: "npm test", Detail: "npm test"}, wantsToRun},
		"its first line":                 {chat.Ask{Kind: chat.AskPermission, Title: "npm ci …", Detail: "npm ci\nnpm test"}, wantsToRun},
		"its start":                      {chat.Ask{Kind: chat.AskPermission, Title: "npm te…", Detail: "npm test"}, wantsToRun},
		"a name that says more":          {chat.Ask{Kind: chat.AskPermission, Title: "Ready to code?", Detail: "1. Read"}, "Ready to code?"},
		"a permission without a command": {chat.Ask{Kind: chat.AskPermission, Title: "Edit a.go"}, "Edit a.go"},
		"a question":                     {chat.Ask{Kind: chat.AskQuestion, Title: "Asks", Detail: "Asks"}, "Asks"},
		"no name":                        {chat.Ask{Kind: chat.AskPermission, Detail: "npm test"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := askTitle(test.ask); got != test.want {
				t.Errorf("askTitle = %q, want %q", got, test.want)
			}
		})
	}
}

// A message that was taken out of the queue stays readable, but not as one that
// the agent got.
func TestARemovedMessageIsANote(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix login redirect")
	v := s.item(s.kit.Get(t, task.ID), chat.Message{
		ID: "u2", Task: task.ID, Seq: 9, Kind: chat.KindUser, Text: "Also the changelog", Detail: "Removed by ana before it was sent.",
	})
	if v.Kind != "status" || v.Text != "Removed by ana before it was sent." || v.Detail != "Also the changelog" || v.Hidden {
		t.Errorf("item = %+v", v)
	}
}
