package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/ui"
	"github.com/samnode/samnode/workspace"
	"github.com/samnode/samnode/workspace/sshd"
)

const (
	sshPath     = "GET /api/v1/ssh"
	sshProtocol = "samnode-ssh" // of an upgrade; a page cannot ask for one
	localSSH    = "samnode"     // host of the block that leads to the API
)

// sshInfo is what a client of SSH has to know of the mesh.
type sshInfo struct {
	Mesh    string    `json:"mesh"`     // alias of all nodes in known_hosts
	HostKey string    `json:"host_key"` // as in known_hosts, after the names
	Nodes   []sshNode `json:"nodes"`    // that answer ssh; none on loopback
}

type sshNode struct {
	Name string `json:"name"`
	Host string `json:"host"`
}

// ssh tells how to connect, or becomes a connection.
func (n *node) ssh(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == sshProtocol {
		n.sshTunnel(w, r)
		return
	}
	var info sshInfo
	_, err := n.apiCaller(r)
	if err == nil {
		info, err = n.sshInfo(r)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}) // whoever asked is gone
		return
	}
	_ = json.NewEncoder(w).Encode(info) // whoever asked is gone
}

func (n *node) sshInfo(r *http.Request) (sshInfo, error) {
	key, err := n.hostKey(r.Context())
	if err != nil {
		return sshInfo{}, err
	}
	public, err := sshd.PublicKey(key)
	if err != nil {
		return sshInfo{}, err
	}
	pool, _ := n.pool.Pool()
	info := sshInfo{Mesh: "samnode-" + strings.ToLower(pool.Mesh.ID), HostKey: public, Nodes: []sshNode{}}
	if n.id.Network == onTailnet {
		info.Nodes = sshNodes(pool)
	}
	return info, nil
}

// sshNodes are the core nodes by their hosts: workers know nobody's role.
func sshNodes(pool provision.Pool) []sshNode {
	var list []sshNode
	for _, m := range pool.Nodes {
		u, err := url.Parse(m.URL)
		if err == nil && m.Core && u.Hostname() != "" {
			list = append(list, sshNode{m.Name, u.Hostname()})
		}
	}
	return list
}

// sshAddr is where people's own ssh finds a task's workspace: at this node, or
// by the name that ssh-config gives a mesh without a tailnet.
func (n *node) sshAddr(t chat.Task) ui.SSHAddr {
	a := ui.SSHAddr{User: string(t.ID), Host: localSSH}
	if p, err := n.room.Project(string(t.Project)); err == nil {
		a.Dir = workspace.DirOf(p)
	}
	if n.id.Network != onTailnet {
		return a
	}
	pool, _ := n.pool.Pool()
	for _, s := range sshNodes(pool) {
		if a.Host == localSSH || s.Name == n.c.Node {
			a.Host = s.Host
		}
	}
	return a
}

// sshTunnel makes a request's connection one of SSH, for who sent it.
func (n *node) sshTunnel(w http.ResponseWriter, r *http.Request) {
	door := n.door.get()
	if _, ok := mesh.CallerOf(r.Context()); !ok || door == nil {
		http.Error(w, mesh.ErrStranger.Error(), http.StatusForbidden)
		return
	}
	raw, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot carry ssh: "+err.Error(), http.StatusHTTPVersionNotSupported)
		return
	}
	defer raw.Close()
	if _, err := fmt.Fprintf(raw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", sshProtocol); err != nil {
		return
	}
	door.ServeConn(door.open, &tunnelled{upgraded{raw, buffered.Reader}, r.URL.Query().Get("task"), func() mesh.Caller {
		who, _ := mesh.CallerOf(r.Context())
		return who
	}})
}

// tunnelled is a connection that a request became.
type tunnelled struct {
	upgraded
	task   string // whose workspace is wanted; empty: that of ssh's user
	caller func() mesh.Caller
}

// Caller says who sent the request, now.
func (t *tunnelled) Caller() mesh.Caller { return t.caller() }
