package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/samnode/samnode/chat"
)

// The networks that a node can be on.
const (
	onLoopback = "loopback"
	onTailnet  = "tailnet"
)

// identity is who this node is and how it reaches the others. It is written by
// `init`, `join` or `dev`, and kept in the state directory as mesh.json.
type identity struct {
	Mesh string `json:"mesh"` // id of the mesh
	Node string `json:"node"` // this node's name, for ever
	Core bool   `json:"core"`
	// Founder is the node that began the mesh. It alone may begin a log; the
	// others wait to be added to one.
	Founder bool `json:"founder,omitempty"`
	// Over is the mesh whose backup this one began from.
	Over string `json:"over,omitempty"`
	// Lost are the core nodes that a recovery gave up and that are still in the
	// pool: this one, which leads alone, takes them out.
	Lost []string `json:"lost,omitempty"`
	// Epoch is how often the mesh was recovered (samnode recover), and Overtaken
	// one that another node told of: this one was given up by it.
	Epoch     uint64 `json:"epoch,omitempty"`
	Overtaken uint64 `json:"overtaken,omitempty"`
	// Generation grows with each start of a process on this directory. Two
	// processes with the same one run on copies of it.
	Generation uint64 `json:"generation"`

	Network  string `json:"network"`            // onLoopback or onTailnet
	Control  string `json:"control,omitempty"`  // URL of the control server; empty: Tailscale's
	Hostname string `json:"hostname,omitempty"` // asked for on the tailnet
	UDPPort  uint16 `json:"udp_port,omitempty"` // fixed: a restarted node is found at once
	// RequestTag: the node was let in by a person who owns the tag, not by a key.
	RequestTag bool   `json:"request_tag,omitempty"`
	Shared     string `json:"shared,omitempty"` // address that all core nodes share

	NodeAddr string `json:"node_addr,omitempty"` // loopback: where the other nodes call
	Secret   []byte `json:"secret,omitempty"`    // loopback: what the nodes know and strangers do not

	// Person is who a worker's own machine speaks for: who invited it.
	Person chat.Person `json:"person,omitempty"`
	// Cores is where a worker, or a core node that joins, finds the mesh first.
	Cores []peer `json:"cores,omitempty"`
}

// peer is a core node as others find it.
type peer struct {
	Node string `json:"node"`
	Addr string `json:"addr"`
	URL  string `json:"url,omitempty"` // of its pages
}

const (
	identityFile = "mesh.json"
	leftFile     = identityFile + ".left" // what becomes of it when the node leaves
)

var errNoMesh = errors.New("this state directory belongs to no mesh")

// readIdentity reads who the directory belongs to, or errNoMesh.
func readIdentity(state string) (identity, error) {
	var id identity
	data, err := os.ReadFile(filepath.Join(state, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(state, leftFile)); err == nil {
			return id, fmt.Errorf("%s: %w any more: its node left or was removed; ask for an invitation (samnode node invite) and join with another --state", state, errNoMesh)
		}
		return id, fmt.Errorf("%s: %w; begin one with `samnode init`, or enter one with `samnode join`", state, errNoMesh)
	}
	if err != nil {
		return id, fmt.Errorf("reading who this node is: %w", err)
	}
	if err := json.Unmarshal(data, &id); err != nil {
		return id, fmt.Errorf("reading %s: %w: restore the file, or remove the directory and join the mesh again", filepath.Join(state, identityFile), err)
	}
	if id.Node == "" || id.Network == "" {
		return id, fmt.Errorf("%s says neither node nor network: restore the file, or remove the directory and join the mesh again", filepath.Join(state, identityFile))
	}
	return id, nil
}

// engineName is how this node's containers and volumes are told from those of
// other nodes, also of other meshes, on the same engine.
func (id identity) engineName() string {
	return id.Node + "-" + strings.ToLower(id.Mesh[max(0, len(id.Mesh)-6):])
}

// write replaces the file whole, so that a crash leaves the old one or the new.
func (id identity) write(state string) error {
	data, err := json.MarshalIndent(id, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding who this node is: %w", err)
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	return writeWhole(filepath.Join(state, identityFile), append(data, '\n'))
}

// writeWhole writes a private file in one step.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkName refuses what cannot be a host name: it is one on the tailnet.
func checkName(name string) error {
	if nodeName.MatchString(name) {
		return nil
	}
	return &exitError{exitUsage, fmt.Sprintf("%.80q cannot be a node's name: use up to 63 lower-case letters, digits and hyphens (--name)", name)}
}

// token draws n random bytes.
func token(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
