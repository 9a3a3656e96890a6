package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/mesh"
	"github.com/samnode/samnode/ui/preview"
)

// How many ports of this node on its tailnet are given to previews, and how long
// they answer.
const (
	portalsMost    = 4096 // that are remembered
	portalsOfATask = 32
	portalOpenFor  = 24 * time.Hour // after it was last used; its link opens it again
)

// portal is a port of this node that shows one port of one workspace. What a
// browser keeps it keeps by port, so a port is given to one preview for good:
// until it is forgotten, it is never another's.
type portal struct {
	Task    string    `json:"task"`
	Port    int       `json:"port"`
	At      uint16    `json:"at"`      // of this node
	Cookies string    `json:"cookies"` // begins the names of its cookies
	Used    time.Time `json:"used"`
}

// portals are those that were given, as they are in a file of the state.
type portals struct {
	file string

	mu   sync.Mutex
	list []*portal
}

func openPortals(file string) (*portals, error) {
	w := &portals{file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &w.list)
	}
	if err != nil {
		return nil, fmt.Errorf("reading which ports previews have: %w", err)
	}
	return w, nil
}

// give returns the portal of a preview, making it when there is none.
func (w *portals) give(t preview.Target) (portal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if i := slices.IndexFunc(w.list, func(x *portal) bool { return x.Task == t.Task && x.Port == t.Port }); i >= 0 {
		old := w.list[i].Used
		w.list[i].Used = now
		if now.Sub(old) < time.Hour {
			return *w.list[i], nil
		}
		return *w.list[i], w.write()
	}
	w.forget(func(x *portal) bool { return x.Task == t.Task }, portalsOfATask-1)
	w.forget(func(*portal) bool { return true }, portalsMost-1)
	at, err := w.free()
	if err != nil {
		return portal{}, err
	}
	made := &portal{Task: t.Task, Port: t.Port, At: at, Cookies: "sn" + strings.ToLower(rand.Text()) + "-", Used: now}
	w.list = append(w.list, made)
	return *made, w.write()
}

// forget drops those of a kind that were used least lately, beyond some. A task
// that wants many loses its own.
func (w *portals) forget(kind func(*portal) bool, most int) {
	var of []*portal
	for _, x := range w.list {
		if kind(x) {
			of = append(of, x)
		}
	}
	if len(of) <= most {
		return
	}
	slices.SortFunc(of, func(a, b *portal) int { return a.Used.Compare(b.Used) })
	drop := of[:len(of)-most]
	w.list = slices.DeleteFunc(w.list, func(x *portal) bool { return slices.Contains(drop, x) })
}

// free draws a port that is nobody's. It is drawn by chance, so that one that
// was forgotten does not come back soon, and nobody can tell whose it will be.
func (w *portals) free() (uint16, error) {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(mesh.LastPort-mesh.FirstPort+1))
		if err != nil {
			return 0, fmt.Errorf("drawing a port: %w", err)
		}
		at := uint16(mesh.FirstPort + n.Int64())
		if !slices.ContainsFunc(w.list, func(x *portal) bool { return x.At == at }) {
			return at, nil
		}
	}
}

// at returns the portal at a port of this node, if it is open, and notes that
// it is used.
func (w *portals) at(port uint16) (portal, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.list, func(x *portal) bool { return x.At == port })
	if i < 0 || time.Since(w.list[i].Used) > portalOpenFor {
		return portal{}, false
	}
	w.list[i].Used = time.Now()
	return *w.list[i], true
}

func (w *portals) open(port uint16) bool {
	_, ok := w.at(port)
	return ok
}

// write puts the list on the disk: whole, or as it was.
func (w *portals) write() error {
	data, err := json.Marshal(w.list)
	if err == nil {
		err = os.WriteFile(w.file+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(w.file+".new", w.file)
	}
	if err != nil {
		return fmt.Errorf("keeping which ports previews have in %s: %w", filepath.Base(w.file), err)
	}
	return nil
}
