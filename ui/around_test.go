package ui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// fakeMesh is a mesh that remembers what it was told to do.
type fakeMesh struct {
	mu      sync.Mutex
	around  around
	asked   int
	asleep  bool          // nodes do not tell about themselves
	slow    time.Duration // that they take not to
	did     []string
	invited map[string]api.Invitation
	roles   map[chat.Person]string
	backup  api.Backup
}

func newFakeMesh() *fakeMesh {
	m := &fakeMesh{around: sampleMesh(), invited: map[string]api.Invitation{}, roles: map[chat.Person]string{"ana@example.com": "owner", "ben@example.com": "member"}}
	m.around.Mesh.Quorum, m.around.Mesh.BehindMS, m.around.Mesh.Lag = true, 0, 0
	return m
}

// with fills a config's parts of the mesh.
func (m *fakeMesh) with(c *Config) {
	c.Mesh, c.NodeKeeper, c.Invitations, c.People, c.Backups = m, m, m, m, m
}

// set changes the mesh.
func (m *fakeMesh) set(change func(*around)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.around)
}

func (m *fakeMesh) note(by chat.Author, format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did = append(m.did, string(by.Person)+" "+fmt.Sprintf(format, args...))
}

func (m *fakeMesh) Mesh(context.Context) (api.MeshInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return m.around.Mesh, nil
}

func (m *fakeMesh) Nodes(context.Context) ([]api.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.around.Nodes), nil
}

func (m *fakeMesh) Node(ctx context.Context, name string) (api.NodeDetail, error) {
	nodes, _ := m.Nodes(ctx)
	i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Name == name })
	if i < 0 {
		return api.NodeDetail{}, fmt.Errorf("%w: there is no node %q", chat.ErrNotFound, name)
	}
	if m.asleep {
		select {
		case <-time.After(m.slow):
		case <-ctx.Done():
		}
		return api.NodeDetail{}, errors.New("dial: no route to host")
	}
	d := sampleDetail(sampleMesh())
	d.Node = nodes[i]
	return d, nil
}

func (m *fakeMesh) Label(_ context.Context, by chat.Author, node string, labels []string) error {
	m.note(by, "label %s %v", node, labels)
	return nil
}

func (m *fakeMesh) Drain(_ context.Context, by chat.Author, node string, on bool) error {
	m.note(by, "drain %s %v", node, on)
	m.set(func(a *around) {
		for i := range a.Nodes {
			if a.Nodes[i].Name == node {
				a.Nodes[i].Draining = on
			}
		}
	})
	return nil
}

func (m *fakeMesh) Remove(_ context.Context, by chat.Author, node string) (string, error) {
	if node == "core-1" {
		return "", fmt.Errorf("%w: core-1 is the last core node that answers", chat.ErrRefused)
	}
	m.note(by, "remove %s", node)
	m.set(func(a *around) {
		a.Nodes = slices.DeleteFunc(slices.Clone(a.Nodes), func(n api.Node) bool { return n.Name == node })
	})
	return "", nil
}

func (m *fakeMesh) Invitations(context.Context) ([]api.Invitation, error) {
	var out []api.Invitation
	for _, i := range m.invited {
		out = append(out, i)
	}
	return out, nil
}

func (m *fakeMesh) Invite(_ context.Context, by chat.Author, id string, core bool, valid time.Duration) (api.Invitation, error) {
	if _, was := m.invited[id]; was {
		return api.Invitation{}, fmt.Errorf("%w: this invitation was shown before", chat.ErrRefused)
	}
	m.note(by, "invite core=%v %s", core, valid)
	m.invited[id] = api.Invitation{ID: id, Core: core, By: by.Person, Expires: time.Now().Add(valid), Token: "s3cret", Command: "samnode join s3cret"}
	return m.invited[id], nil
}

func (m *fakeMesh) Withdraw(_ context.Context, _ chat.Author, id string) error {
	if _, was := m.invited[id]; !was {
		return fmt.Errorf("%w: it was used or withdrawn before", chat.ErrNotFound)
	}
	delete(m.invited, id)
	return nil
}

func (m *fakeMesh) People(context.Context) ([]api.Person, error) {
	return []api.Person{{Person: "ana@example.com", Role: m.roles["ana@example.com"]}, {Person: "ben@example.com", Role: m.roles["ben@example.com"]}}, nil
}

func (m *fakeMesh) SetRole(_ context.Context, _ chat.Author, person chat.Person, role string) error {
	if person == "ana@example.com" {
		return fmt.Errorf("%w: ana is the last owner", chat.ErrRefused)
	}
	m.roles[person] = role
	return nil
}

func (m *fakeMesh) Backup(context.Context) (api.Backup, error) { return m.backup, nil }

func (m *fakeMesh) SetBackup(_ context.Context, _ chat.Author, set api.BackupSettings) error {
	if set.Schedule == "sometimes" {
		return fmt.Errorf(`%w: write "daily 03:00"`, chat.ErrInvalid)
	}
	m.backup.BackupSettings = set
	return nil
}

func (m *fakeMesh) BackUp(_ context.Context, by chat.Author) (api.BackupMade, error) {
	m.note(by, "backup to %s", m.backup.Destination)
	made := api.BackupMade{At: sampleNow, Where: m.backup.Destination, Size: 41 << 20, Index: 1204}
	m.backup.Last = &made
	return made, nil
}
