package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// Where things are in every workspace's container.
const (
	WorkspacesDir = "/workspaces" // the volume; survives the container
	HomeDir       = "/home/agent"

	// UID is the user and group that everything in a workspace runs as. Host
	// folders bound into one must belong to it where they are to be written.
	UID = 1000

	defaultPids = 1024
	shmSize     = 256 << 20 // browsers want more than the engine's 64 MB
)

// Spec is one workspace's container. The zero values are safe.
type Spec struct {
	Name   string            // of the container, unique on the machine
	Image  string            // must be there; see HasImage, Pull, Adapt
	Labels map[string]string // LabelTask, LabelWorkspace, LabelToken; LabelMesh comes from the Config
	Cmd    []string          // what runs as PID 1; the image's own entrypoint is never used
	Env    []string          // "K=V", after the image's own
	Dir    string            // working directory; empty: /workspaces
	Volume string            // named volume at /workspaces; empty: none, and /workspaces is read-only
	Home   string            // at /home/agent: a named volume, or a host folder by absolute path; empty: a tmpfs
	Binds  []Bind
	CPUs   float64 // cores, at most what the machine has; 0: no limit
	Memory int64   // bytes, with no swap on top; 0: no limit
	Pids   int64   // processes and threads; 0: 1024
	User   string  // uid:gid; empty: 1000:1000. Root is refused
}

// Bind puts a file, folder or socket of the host into the container.
type Bind struct {
	Host, Container string
	ReadOnly        bool
}

func (s Spec) validate() error {
	switch {
	case s.Name == "" || s.Image == "" || len(s.Cmd) == 0:
		return fmt.Errorf("container needs a name, an image and a command: %+q, %+q, %q", s.Name, s.Image, s.Cmd)
	case s.CPUs < 0 || s.Memory < 0 || s.Pids < 0:
		return fmt.Errorf("container %s: a limit is below zero", s.Name)
	case s.User != "" && !nonRoot(s.User):
		return fmt.Errorf("container %s: user %q is not a pair of numbers above zero", s.Name, s.User)
	}
	for _, b := range s.Binds {
		if !strings.HasPrefix(b.Host, "/") || !strings.HasPrefix(b.Container, "/") {
			return fmt.Errorf("container %s: bind %s to %s: both must be absolute", s.Name, b.Host, b.Container)
		}
	}
	return nil
}

// nonRoot takes numbers only: a name would be looked up in the image's own
// passwd file, which may call anyone root.
func nonRoot(user string) bool {
	uid, gid, both := strings.Cut(user, ":")
	number := func(s string) bool { return s != "" && s[0] != '0' && strings.Trim(s, "0123456789") == "" }
	return number(uid) && (!both || number(gid))
}

// digest tells one Spec from another, so that a container made from an older
// one is not taken for the new.
func (s Spec) digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func (s Spec) config(labels map[string]string) *container.Config {
	labels = maps.Clone(labels)
	labels[labelSpec] = s.digest()
	user, dir := s.User, s.Dir
	if user == "" {
		user = fmt.Sprintf("%d:%d", UID, UID)
	}
	if dir == "" {
		dir = WorkspacesDir
	}
	return &container.Config{
		Hostname:    hostname(s.Name),
		Image:       s.Image,
		Entrypoint:  s.Cmd[:1], // replaces the image's own
		Cmd:         s.Cmd[1:],
		Env:         s.Env,
		WorkingDir:  dir,
		User:        user,
		Labels:      labels,
		StopSignal:  "SIGTERM",
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}, // an image's would run beside the agent for ever
	}
}

// host is the hardened profile. Whatever is added here, add a line to
// TestProfile.
func (s Spec) host() *container.HostConfig {
	pids, noInit := s.Pids, false
	if pids == 0 {
		pids = defaultPids
	}
	return &container.HostConfig{
		Privileged:     false,
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges"}, // seccomp stays at the engine's default
		ReadonlyRootfs: true,
		NetworkMode:    "none",
		IpcMode:        "private",
		Init:           &noInit, // the shim is PID 1 and reaps
		OomScoreAdj:    500,     // the agent goes before the engine and the node
		ShmSize:        shmSize,
		// The node starts the container again after a restart of the engine, for
		// it alone knows whether the lease still holds. The journal is on the volume.
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "5m", "max-file": "2"}},
		Mounts:        s.mounts(),
		Tmpfs:         s.tmpfs(),
		Resources: container.Resources{
			NanoCPUs:   int64(s.CPUs * 1e9),
			Memory:     s.Memory,
			MemorySwap: s.Memory,
			PidsLimit:  &pids,
		},
	}
}

func (s Spec) mounts() []mount.Mount {
	var m []mount.Mount
	if s.Volume != "" {
		m = append(m, mount.Mount{Type: mount.TypeVolume, Source: s.Volume, Target: WorkspacesDir})
	}
	switch {
	case strings.HasPrefix(s.Home, "/"):
		m = append(m, bind(Bind{Host: s.Home, Container: HomeDir}))
	case s.Home != "":
		m = append(m, mount.Mount{Type: mount.TypeVolume, Source: s.Home, Target: HomeDir})
	}
	for _, b := range s.Binds {
		m = append(m, bind(b))
	}
	return m
}

func bind(b Bind) mount.Mount {
	return mount.Mount{
		Type: mount.TypeBind, Source: b.Host, Target: b.Container, ReadOnly: b.ReadOnly,
		BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
	}
}

func (s Spec) tmpfs() map[string]string {
	owner := fmt.Sprintf("uid=%d,gid=%d", UID, UID)
	size := ""
	if s.Memory > 0 { // its pages count as the container's memory
		size = fmt.Sprintf(",size=%d", s.Memory/2)
	}
	t := map[string]string{
		"/tmp": "rw,exec,nosuid,nodev,mode=1777" + size,
		"/run": "rw,nosuid,nodev,mode=0755,size=64m," + owner,
	}
	if s.Home == "" {
		t[HomeDir] = "rw,exec,nosuid,nodev,mode=0755," + owner + size
	}
	return t
}

// hostname makes a valid one of a container's name.
func hostname(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	return strings.Trim(name[:min(len(name), 63)], "-")
}

// labels are ours over the caller's.
func (e *Engine) labels(given map[string]string) map[string]string {
	l := map[string]string{LabelTask: "", LabelWorkspace: "", LabelToken: "", LabelMesh: ""}
	maps.Copy(l, given)
	l[LabelOwner] = "1"
	if e.mesh != "" {
		l[LabelMesh] = e.mesh
	}
	return l
}

// owned says whether labels are those of something this Engine made.
func (e *Engine) owned(l map[string]string) bool {
	return l[LabelOwner] == "1" && (e.mesh == "" || l[LabelMesh] == e.mesh)
}
