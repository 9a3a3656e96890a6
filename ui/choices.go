package ui

import (
	"net/url"
	"strings"

	"github.com/samnode/samnode/chat"
)

// choice is one of a fixed few.
type choice struct{ Value, Label, Help string }

var modes = []choice{
	{string(chat.ModePlan), "Plan", "reads and plans, changes nothing"},
	{string(chat.ModeAsk), "Ask", "asks before each risky tool"},
	{string(chat.ModeAcceptEdits), "Accept edits", "edits files freely, asks for the rest"},
	{string(chat.ModeEverything), "Everything", "never asks"},
}

var publishes = []choice{
	{string(chat.PublishBranch), "Push the branch", "a person opens the pull request"},
	{string(chat.PublishDraft), "Draft pull request", "ready when the task is idle"},
	{string(chat.PublishReady), "Pull request", "an ordinary one at the first push"},
}

var egresses = []choice{
	{string(chat.EgressNone), "Nothing", "the model and git only"},
	{string(chat.EgressPackages), "Package registries", "those that samnode knows, and where editors get their servers and extensions"},
	{string(chat.EgressListed), "Listed hosts", "the list below, and the registries"},
	{string(chat.EgressOpen), "Everything", "no limit"},
}

// exampleTasks fill the composer; they never send.
var exampleTasks = []string{
	"What is in this repository? Explain how it is built and tested.",
	"Run the tests and fix what fails.",
	"Find the three riskiest parts of this code and say why.",
}

func exampleURL(page, text string) string { return page + "?example=" + url.QueryEscape(text) }

func agentLabel(a AgentInfo) string {
	label := a.Label
	if label == "" {
		label = a.Name
	}
	if !a.Ready {
		label += " (not ready)"
	}
	return label
}

func agentChip(a AgentInfo) chip {
	if a.Ready {
		return chip{Shape: "dot", Tone: "ok"}
	}
	return chip{Shape: "dashed", Tone: "quiet"}
}

// keyTable is the help and the contract of app.js.
var keyTable = []struct {
	keys []string
	does string
}{
	{[]string{"Ctrl K"}, "jump to a task, project or page"},
	{[]string{"?"}, "these keys"},
	{[]string{"c"}, "new task"},
	{[]string{"/"}, "filter"},
	{[]string{"j", "k"}, "next, previous row or item"},
	{[]string{"Enter"}, "open"},
	{[]string{"1", "…", "9"}, "choose an answer"},
	{[]string{"a", "r"}, "approve, reject (press r twice)"},
	{[]string{"g", "t"}, "tasks"},
	{[]string{"g", "p"}, "projects"},
	{[]string{"g", "m"}, "nodes of the mesh"},
	{[]string{"g", "o"}, "pool of machines"},
	{[]string{"g", "s"}, "settings"},
	{[]string{"g", "n"}, "tasks that need you"},
	{[]string{"v", "c"}, "chat"},
	{[]string{"v", "d"}, "diff"},
	{[]string{"v", "f"}, "files"},
	{[]string{"v", "t"}, "terminal"},
	{[]string{"v", "p"}, "ports"},
	{[]string{"v", "e"}, "access: who was in the workspace"},
	{[]string{"v", "l"}, "log"},
	{[]string{"[", "]"}, "previous, next turn"},
	{[]string{"e"}, "next task that needs you"},
	{[]string{"f"}, "focus: hide the list, then the header"},
	{[]string{"Ctrl ↵"}, "send or queue"},
	{[]string{"Ctrl ⇧ ↵"}, "send now (steer)"},
	{[]string{"Ctrl ."}, "stop"},
	{[]string{"Esc"}, "close, then leave the box"},
}

func initial(person string) string {
	for _, r := range strings.ToUpper(person) {
		return string(r)
	}
	return "?"
}

func planClass(status string) string {
	switch status {
	case "completed", "in_progress":
		return status
	}
	return "pending"
}

func askTone(a *ask) string {
	if a.Open {
		return "needs"
	}
	return "quiet"
}

type askInput = chat.AskField

func fieldLabel(f askInput) string {
	label := visible(f.Label)
	if label == "" {
		label = visible(f.Name)
	}
	if f.Required {
		label += " *"
	}
	return label
}

func startChip(done bool) chip {
	if done {
		return chip{Shape: "dot", Tone: "ok"}
	}
	return chip{Shape: "dashed", Tone: "quiet"}
}
