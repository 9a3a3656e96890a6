package backup

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A backup's name tells, without its key, what it is a backup of:
//
//	samnode-MESH-INDEX-20060102T150405Z.age
const (
	namePrefix = "samnode-"
	nameSuffix = ".age"
	nameTime   = "20060102T150405Z"
	maxMesh    = 64
)

func nameOf(m Meta) string {
	return fmt.Sprintf("%s%s-%012d-%s%s", namePrefix, m.Mesh, m.Index, m.At.UTC().Format(nameTime), nameSuffix)
}

// parseName reads a name that nameOf made.
func parseName(name string) (Info, bool) {
	s, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return Info{}, false
	}
	s, ok = strings.CutSuffix(s, nameSuffix)
	if !ok {
		return Info{}, false
	}
	s, when, ok := cutLast(s)
	if !ok {
		return Info{}, false
	}
	at, err := time.Parse(nameTime, when)
	if err != nil {
		return Info{}, false
	}
	mesh, number, ok := cutLast(s)
	if !ok {
		return Info{}, false
	}
	index, err := strconv.ParseUint(number, 10, 64)
	if err != nil || checkMesh(mesh) != nil {
		return Info{}, false
	}
	return Info{Name: name, Mesh: mesh, Index: index, At: at}, true
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// checkMesh refuses what cannot be part of a name in every folder and bucket.
func checkMesh(mesh string) error {
	switch {
	case mesh == "":
		return errors.New("a backup needs the name of its mesh")
	case len(mesh) > maxMesh:
		return fmt.Errorf("the name of the mesh has %d characters; at most %d go into a backup's name", len(mesh), maxMesh)
	case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(mesh):
		return fmt.Errorf("the mesh's name %q cannot be part of a backup's name: only letters, digits, dots, dashes and underlines can", mesh)
	}
	return nil
}
