package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// invitation is what `samnode node invite` prints and `samnode join` takes:
// where the mesh is, and a secret that works once.
type invitation struct {
	Version int       `json:"v"`
	Mesh    string    `json:"m"`
	ID      string    `json:"i"`
	Secret  string    `json:"s"`
	Core    bool      `json:"c,omitempty"`
	Expires time.Time `json:"e"`

	Network   string `json:"n"`
	Control   string `json:"u,omitempty"` // control server
	Cores     []peer `json:"p"`
	DevSecret []byte `json:"d,omitempty"` // of a loopback mesh
}

const invitationPrefix = "samnode-join-"

// text is the invitation as one word.
func (v invitation) text() (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding the invitation: %w", err)
	}
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(data), nil
}

// hash is what the mesh keeps of the secret.
func (v invitation) hash() string {
	sum := sha256.Sum256([]byte(v.Secret))
	return hex.EncodeToString(sum[:])
}

// parseInvitation reads what a person pasted.
func parseInvitation(text string) (invitation, error) {
	const again = "copy the whole word that `samnode node invite` printed, from " + invitationPrefix + " to its end"
	var v invitation
	word, ok := strings.CutPrefix(strings.TrimSpace(text), invitationPrefix)
	if !ok {
		return v, &exitError{exitUsage, "that is not an invitation: " + again}
	}
	data, err := base64.RawURLEncoding.DecodeString(word)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	switch {
	case err != nil:
		return v, &exitError{exitUsage, "the invitation is cut off or changed: " + again}
	case v.Version > 1:
		return v, &exitError{exitFailed, "the invitation is of a newer samnode: install the mesh's version on this machine first"}
	case v.Mesh == "" || v.ID == "" || v.Secret == "" || len(v.Cores) == 0:
		return v, &exitError{exitUsage, "the invitation is incomplete: " + again}
	}
	return v, nil
}
