package devcontainer

import (
	"encoding/json"
	"errors"
	"strings"
)

// LabelMetadata is the image label in which dev container images carry
// settings of their own, and the CLI those of features.
const LabelMetadata = "devcontainer.metadata"

// policed holds every setting that is refused, of a devcontainer.json, a
// feature or an image label alike. What is not known is not used either.
type policed struct {
	Initialize     json.RawMessage `json:"initializeCommand"`
	Mounts         json.RawMessage `json:"mounts"`
	RunArgs        json.RawMessage `json:"runArgs"`
	Privileged     json.RawMessage `json:"privileged"`
	CapAdd         json.RawMessage `json:"capAdd"`
	SecurityOpt    json.RawMessage `json:"securityOpt"`
	WorkspaceMount json.RawMessage `json:"workspaceMount"`
	Entrypoint     json.RawMessage `json:"entrypoint"`
	AppPort        json.RawMessage `json:"appPort"`
	PostAttach     json.RawMessage `json:"postAttachCommand"`
}

// refused lists what of it is set. "init" is not among them: every workspace
// has an init that reaps.
func (p policed) refused(from string) []Refusal {
	var list []Refusal
	for _, r := range []struct {
		raw       json.RawMessage
		what, why string
	}{
		{p.Initialize, "initializeCommand", "it would run on the host"},
		{p.Mounts, "mounts", "a workspace sees its own volume only"},
		{p.RunArgs, "runArgs", "they can open the host to the container"},
		{p.Privileged, "privileged", "a workspace has no rights on the host"},
		{p.CapAdd, "capAdd", "a workspace has no capabilities"},
		{p.SecurityOpt, "securityOpt", "the default protections stay on"},
		{p.WorkspaceMount, "workspaceMount", "the repository is on the workspace's own volume"},
		{p.Entrypoint, "entrypoint", "it would run as root when the container starts"},
		{p.AppPort, "appPort", "ports of the host stay closed; use the task's ports instead"},
		{p.PostAttach, "postAttachCommand", "no editor attaches before the agent starts"},
	} {
		if asksFor(r.raw) {
			list = append(list, Refusal{r.what, r.why, from})
		}
	}
	return list
}

// asksFor is false for what asks for nothing: null, false, "", [] and {}.
func asksFor(raw json.RawMessage) bool {
	switch strings.Join(strings.Fields(string(raw)), "") {
	case "", "null", "false", `""`, "[]", "{}":
		return false
	}
	return true
}

// layer is one entry of an image's metadata label: the settings of the base
// image or of one feature.
type layer struct {
	ID            string             `json:"id"`
	ContainerEnv  map[string]string  `json:"containerEnv"`
	RemoteEnv     map[string]*string `json:"remoteEnv"`
	RemoteUser    string             `json:"remoteUser"`
	ContainerUser string             `json:"containerUser"`
	lifecycle
	policed
}

func (l layer) from() string {
	if l.ID == "" {
		return "image"
	}
	return "feature " + l.ID
}

// layers reads the label: a list of objects, or one object.
func layers(label string) ([]layer, error) {
	if strings.TrimSpace(label) == "" {
		return nil, nil
	}
	var list []layer
	if json.Unmarshal([]byte(label), &list) == nil {
		return list, nil
	}
	var one layer
	if err := json.Unmarshal([]byte(label), &one); err != nil {
		return nil, errors.New("the image's " + LabelMetadata + " label is not valid: " + err.Error())
	}
	return []layer{one}, nil
}
