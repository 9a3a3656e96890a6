package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"
	"github.com/google/go-cmp/cmp"
)

const base = "samnode/base:latest"

// engine is the machine's own, with a mesh of the test's own, and nothing of
// that mesh is left behind. It skips where there is none.
func engine(t testing.TB) *Engine {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Docker; -short")
	}
	e, err := Open(t.Context(), Config{Mesh: "docker-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Ping(t.Context()); errors.Is(err, ErrNoEngine) {
		t.Skip("no Docker engine here")
	} else if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := e.HasImage(t.Context(), base); err != nil {
		t.Fatal(err)
	} else if !ok {
		t.Skip("no base image here; run scripts/image")
	}
	clean := func() {
		ctx := context.Background()
		list, err := e.List(ctx, nil)
		if err != nil {
			t.Error(err)
		}
		for _, c := range list {
			if err := e.Remove(ctx, c.ID); err != nil {
				t.Error(err)
			}
		}
		volumes, err := e.ListVolumes(ctx, nil)
		if err != nil {
			t.Error(err)
		}
		for _, v := range volumes {
			if err := e.RemoveVolume(ctx, v.Name); err != nil {
				t.Error(err)
			}
		}
	}
	clean() // what a killed run left
	t.Cleanup(func() { clean(); e.Close() })
	return e
}

// spec runs a shell script in a container of the test's name.
func spec(e *Engine, script string) Spec {
	return Spec{
		Name: e.mesh, Image: base, Cmd: []string{"/bin/sh", "-c", script},
		Labels: map[string]string{LabelTask: "T1", LabelWorkspace: "T1-1"},
		Volume: e.mesh + "-work", Home: e.mesh + "-home",
		CPUs: 1, Memory: 256 << 20, Pids: 64,
	}
}

func create(t testing.TB, e *Engine, s Spec) string {
	t.Helper()
	id, err := e.Create(t.Context(), s)
	if err != nil {
		t.Fatalf("Create(%s) = %v", s.Name, err)
	}
	return id
}

// run creates, starts and waits; it returns the exit code and what was printed.
func run(t testing.TB, e *Engine, s Spec) (int, string) {
	t.Helper()
	id := create(t, e, s)
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	st, err := e.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Logs(t.Context(), id, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return st.ExitCode, out
}

func TestProfile(t *testing.T) {
	e := engine(t)
	s := spec(e, "sleep 60")
	id := create(t, e, s)
	c, err := e.api.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	type facts struct {
		Privileged, ReadOnly, Init, AutoRemove   bool
		CapAdd, CapDrop, SecurityOpt, Binds      []string
		Network, PID, IPC, UTS, Userns, Restart  string
		User, Volume                             string
		CPUs, Memory, Swap, Pids                 int64
		Devices, DeviceRequests, Links, MaskedOK bool
	}
	h := c.HostConfig
	got := facts{
		Privileged: h.Privileged, ReadOnly: h.ReadonlyRootfs, Init: *h.Init, AutoRemove: h.AutoRemove,
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, SecurityOpt: h.SecurityOpt, Binds: h.Binds,
		Network: string(h.NetworkMode), PID: string(h.PidMode), IPC: string(h.IpcMode), UTS: string(h.UTSMode), Userns: string(h.UsernsMode),
		Restart: string(h.RestartPolicy.Name), User: c.Config.User, Volume: c.Mounts[0].Name + c.Mounts[1].Name,
		CPUs: h.NanoCPUs, Memory: h.Memory, Swap: h.MemorySwap, Pids: *h.PidsLimit,
		Devices: len(h.Devices) > 0, DeviceRequests: len(h.DeviceRequests) > 0, MaskedOK: slices.Contains(h.MaskedPaths, "/proc/kcore"),
	}
	want := facts{
		ReadOnly: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		Network: "none", IPC: "private", Restart: "no", User: "1000:1000",
		CPUs: 1e9, Memory: 256 << 20, Swap: 256 << 20, Pids: 64, MaskedOK: true,
	}
	got.Volume = "" // their order is the engine's
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("host config (-want +got):\n%s", d)
	}
}

// What the profile means, seen from inside.
func TestInside(t *testing.T) {
	e := engine(t)
	checks := map[string]struct{ script, want string }{
		"uid 1000 with a name":          {"id -u; id -g; id -un", "1000\n1000\nagent\n"},
		"no capability":                 {"grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | sort -u | awk '{print $2}' | sort -u", "0000000000000000\n"},
		"no new privileges":             {"awk '/NoNewPrivs/{print $2}' /proc/self/status", "1\n"},
		"seccomp filters":               {"awk '/^Seccomp:/{print $2}' /proc/self/status", "2\n"},
		"loopback only":                 {"ls /sys/class/net", "lo\n"},
		"root is read-only":             {"touch /x 2>&1; touch /usr/x 2>&1; touch /etc/x 2>&1", "touch: cannot touch '/x': Read-only file system\ntouch: cannot touch '/usr/x': Read-only file system\ntouch: cannot touch '/etc/x': Read-only file system\n"},
		"volumes are the agent's":       {"stat -c %u:%g /workspaces /home/agent && touch /workspaces/a /home/agent/b && echo ok", "1000:1000\n1000:1000\nok\n"},
		"temporary folders, executable": {"for d in /tmp /run; do touch $d/f || exit 1; done; printf '#!/bin/sh\necho ran\n' >/tmp/p; chmod +x /tmp/p; /tmp/p", "ran\n"},
		"no setuid way up":              {"su -c id 2>&1 </dev/null | grep -c uid=0", "0\n"},
		"fork bomb meets the limit":     {"(for i in $(seq 100); do sleep 5 & done) 2>/tmp/err; read -r l </tmp/err; echo $l", "/bin/sh: 0: Cannot fork\n"},
		"not more than one core":        {"cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || awk '{print $1}' /sys/fs/cgroup/cpu.max", "100000\n"},
		"no docker socket, no host":     {"ls /var/run/docker.sock /host 2>&1 | wc -l; ls /dev | grep -c -E '^(vd|sd|kmsg|mem)'", "2\n0\n"},
		"kernel settings are closed":    {"echo 1 2>&1 >/proc/sys/kernel/hostname || mount -t tmpfs x /mnt 2>/dev/null || echo closed", "/bin/sh: 1: cannot create /proc/sys/kernel/hostname: Read-only file system\nclosed\n"},
	}
	for name, c := range checks {
		t.Run(name, func(t *testing.T) {
			_, out := run(t, e, spec(e, c.script))
			if d := cmp.Diff(c.want, out); d != "" {
				t.Errorf("%s (-want +got):\n%s", c.script, d)
			}
		})
	}
}

func TestMemoryLimitKills(t *testing.T) {
	e := engine(t)
	s := spec(e, "exec python3 -c 'x = bytearray(300 << 20)'")
	if code, out := run(t, e, s); code != 137 {
		t.Errorf("allocating 300 MB of 256 = exit %d, %q, want 137", code, out)
	}
}

func TestBindsAndEnv(t *testing.T) {
	e := engine(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := spec(e, "cat /opt/samnode/x/f; touch /opt/samnode/x/g 2>&1; echo $A; pwd; hostname")
	s.Binds = []Bind{{Host: dir, Container: "/opt/samnode/x", ReadOnly: true}}
	s.Env, s.Dir, s.Home = []string{"A=b c"}, "/tmp", ""
	_, out := run(t, e, s)
	want := "from the host\ntouch: cannot touch '/opt/samnode/x/g': Read-only file system\nb c\n/tmp\n" + hostname(s.Name) + "\n"
	if d := cmp.Diff(want, out); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPing(t *testing.T) {
	e := engine(t)
	i, err := e.Ping(t.Context())
	if err != nil || i.Version == "" || i.API == "" || i.Driver == "" || i.Free <= 0 || i.CPUs < 1 || i.Memory < 1<<20 {
		t.Errorf("Ping = %+v, %v", i, err)
	}
	s := spec(e, "echo ran")
	s.CPUs = float64(i.CPUs) + 100
	for range 2 { // asked, remembered
		if code, out := run(t, e, s); code != 0 || out != "ran\n" {
			t.Errorf("more cores than there are = exit %d, %q", code, out)
		}
	}
}

func TestSpecRefused(t *testing.T) {
	e := engine(t)
	ok := spec(e, "true")
	for name, change := range map[string]func(*Spec){
		"root":             func(s *Spec) { s.User = "0" },
		"root by name":     func(s *Spec) { s.User = "root" },
		"root's group":     func(s *Spec) { s.User = "1000:0" },
		"any name":         func(s *Spec) { s.User = "agent" },
		"no command":       func(s *Spec) { s.Cmd = nil },
		"no name":          func(s *Spec) { s.Name = "" },
		"relative bind":    func(s *Spec) { s.Binds = []Bind{{Host: "x", Container: "/x"}} },
		"limit below zero": func(s *Spec) { s.Memory = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := ok
			change(&s)
			if id, err := e.Create(t.Context(), s); err == nil {
				t.Errorf("Create = %s, want an error", id)
			}
		})
	}
}

func TestCreateAdopts(t *testing.T) {
	e := engine(t)
	s := spec(e, "sleep 60")
	first := create(t, e, s)
	if again := create(t, e, s); again != first {
		t.Errorf("second Create = %s, want the first's %s", again, first)
	}
	changed := s
	changed.Env = []string{"NEW=1"}
	anew := create(t, e, changed)
	if anew == first {
		t.Error("a stopped container with other settings was adopted")
	}
	if err := e.Start(t.Context(), anew); err != nil {
		t.Fatal(err)
	}
	if running := create(t, e, s); running != anew {
		t.Errorf("Create over a running container = %s, want it adopted: %s", running, anew)
	}
	other := s
	other.Labels = map[string]string{LabelTask: "T2", LabelWorkspace: "T2-1"}
	if _, err := e.Create(t.Context(), other); !errors.Is(err, ErrForeign) {
		t.Errorf("Create for another task = %v, want ErrForeign", err)
	}
	other.Name += "-2"
	if _, err := e.Create(t.Context(), other); !errors.Is(err, ErrForeign) {
		t.Errorf("Create on another task's volume = %v, want ErrForeign", err)
	}
	next := s
	next.Name, next.Labels = s.Name+"-3", map[string]string{LabelTask: "T1", LabelWorkspace: "T1-2"}
	create(t, e, next) // the task's next workspace goes on with its volume
}

func TestForeignIsNotTouched(t *testing.T) {
	e := engine(t)
	ctx := t.Context()
	s := spec(e, "sleep 60")
	foreign, err := e.api.ContainerCreate(ctx, &container.Config{Image: base, Cmd: []string{"sleep", "60"}}, &container.HostConfig{NetworkMode: "none"}, nil, nil, s.Name)
	if err != nil {
		t.Fatal(err)
	}
	vol, err := e.api.VolumeCreate(ctx, volume.CreateOptions{Name: s.Name + "-foreign"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.api.ContainerRemove(context.Background(), foreign.ID, container.RemoveOptions{Force: true})
		_ = e.api.VolumeRemove(context.Background(), vol.Name, true)
	})
	calls := map[string]func() error{
		"Create":       func() error { _, err := e.Create(ctx, s); return err },
		"Start":        func() error { return e.Start(ctx, foreign.ID) },
		"Stop":         func() error { return e.Stop(ctx, foreign.ID, time.Second) },
		"Remove":       func() error { return e.Remove(ctx, s.Name) },
		"Inspect":      func() error { _, err := e.Inspect(ctx, s.Name); return err },
		"Logs":         func() error { _, err := e.Logs(ctx, s.Name, 1); return err },
		"CreateVolume": func() error { return e.CreateVolume(ctx, vol.Name, nil) },
		"RemoveVolume": func() error { return e.RemoveVolume(ctx, vol.Name) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrForeign) {
			t.Errorf("%s on something foreign = %v, want ErrForeign", name, err)
		}
	}
	other, err := Open(ctx, Config{Mesh: e.mesh + "-2"})
	if err != nil {
		t.Fatal(err)
	}
	mine := spec(e, "sleep 60")
	mine.Name += "-mine"
	id := create(t, e, mine)
	if err := other.Remove(ctx, id); !errors.Is(err, ErrForeign) {
		t.Errorf("Remove of another mesh's container = %v, want ErrForeign", err)
	}
	if list, err := other.List(ctx, nil); err != nil || len(list) != 0 {
		t.Errorf("List of another mesh = %v, %v, want none", list, err)
	}
}

func TestLifeCycle(t *testing.T) {
	e := engine(t)
	ctx := t.Context()
	s := spec(e, `trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done`)
	id := create(t, e, s)
	before, err := e.Inspect(ctx, s.Name)
	if err != nil || before.Running || !before.StartedAt.IsZero() || before.ID != id || before.Name != s.Name {
		t.Fatalf("Inspect before the start = %+v, %v", before, err)
	}
	actions, wait := watch(t, e, id)
	for range 2 {
		if err := e.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := e.List(ctx, map[string]string{LabelWorkspace: "T1-1"}); err != nil || len(list) != 1 || !list[0].Running || list[0].Labels[LabelTask] != "T1" {
		t.Errorf("List = %+v, %v, want the one running", list, err)
	}
	eventually(t, func() bool { out, err := e.Logs(ctx, id, 1); return err == nil && out == "hello\n" })
	for range 2 {
		if err := e.Stop(ctx, id, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	st, err := e.Wait(ctx, id)
	if err != nil || st.Running || st.ExitCode != 3 || st.StartedAt.IsZero() || st.FinishedAt.IsZero() {
		t.Errorf("Wait after Stop = %+v, %v, want exit 3", st, err)
	}
	if out, err := e.Logs(ctx, id, 10); err != nil || out != "hello\nbye\n" {
		t.Errorf("Logs = %q, %v", out, err)
	}
	for range 2 {
		if err := e.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	if d := cmp.Diff([]string{"start", "stop", "die 3", "destroy"}, sorted(*actions, "start", "stop", "die 3", "destroy")); d != "" {
		t.Errorf("actions (-want +got):\n%s", d)
	}
	if err := e.Stop(ctx, id, time.Second); err != nil {
		t.Errorf("Stop of what is gone = %v, want nil", err)
	}
	if _, err := e.Inspect(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("Inspect of what is gone = %v, want ErrNotFound", err)
	}
	if err := e.Start(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("Start of what is gone = %v, want ErrNotFound", err)
	}
}

// watch collects what happens to a container until it is destroyed, and has
// begun when it returns.
func watch(t testing.TB, e *Engine, id string) (actions *[]string, wait func()) {
	t.Helper()
	actions = new([]string)
	ctx, stop := context.WithCancelCause(t.Context())
	done := errors.New("seen all")
	begun, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		ended <- e.Events(ctx, map[string]string{LabelTask: "T1"}, func(ev Event) {
			once.Do(func() { close(begun) })
			switch {
			case ev.ID != id || ev.Action == "kill": // engines differ in when they tell of a kill
			case ev.Action == "die":
				*actions = append(*actions, fmt.Sprint("die ", ev.ExitCode))
			default:
				*actions = append(*actions, ev.Action)
				if ev.Action == "destroy" {
					stop(done)
				}
			}
		})
	}()
	// Nothing says when a watch has begun: make noise until it is heard.
	noise := spec(e, "true")
	noise.Name += "-noise"
	eventually(t, func() bool {
		if err := e.Remove(t.Context(), create(t, e, noise)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-begun:
			return true
		default:
			return false
		}
	})
	return actions, func() {
		if err := <-ended; !errors.Is(err, done) {
			t.Errorf("Events = %v, want the cause", err)
		}
	}
}

// sorted brings a known set into a known order: engines differ in it.
func sorted(got []string, order ...string) []string {
	slices.SortStableFunc(got, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return got
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("did not happen within 20 s")
}

// A person removes the container by hand; the volume and its work stay.
func TestRemovedByHand(t *testing.T) {
	e := engine(t)
	ctx := t.Context()
	s := spec(e, "test -e /workspaces/work && exit 7; touch /workspaces/work; sleep 60")
	id := create(t, e, s)
	if err := e.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { _, err := e.Wait(ctx, id); waited <- err }()
	eventually(t, func() bool {
		c, err := e.api.ContainerStatPath(ctx, id, "/workspaces/work")
		return err == nil && c.Name == "work"
	})
	if err := e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, ErrNotFound) {
		t.Errorf("Wait = %v, want ErrNotFound", err)
	}
	if code, _ := run(t, e, s); code != 7 {
		t.Errorf("the next container exits with %d, want 7: the work of the first is there", code)
	}
}

func TestMissingImage(t *testing.T) {
	e := engine(t)
	s := spec(e, "true")
	s.Image = "docker-none/such:1"
	if _, err := e.Create(t.Context(), s); !errors.Is(err, ErrNoImage) {
		t.Errorf("Create = %v, want ErrNoImage", err)
	}
	if _, err := e.Adapt(t.Context(), s.Image); !errors.Is(err, ErrNoImage) {
		t.Errorf("Adapt = %v, want ErrNoImage", err)
	}
	if ok, _, err := e.HasImage(t.Context(), s.Image); ok || err != nil {
		t.Errorf("HasImage = %v, %v, want false", ok, err)
	}
}

// scratch makes an image of the given files and removes it after the test.
func scratch(t testing.TB, e *Engine, name string, files map[string]string, changes ...string) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for path, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := e.api.ImageImport(t.Context(), image.ImportSource{Source: &buf, SourceName: "-"}, name, image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if out, err := io.ReadAll(r); err != nil || bytes.Contains(out, []byte("error")) {
		t.Fatalf("import: %s, %v", out, err)
	}
	t.Cleanup(func() {
		_, _ = e.api.ImageRemove(context.Background(), name, image.RemoveOptions{Force: true, PruneChildren: true})
	})
}

func TestGlibc(t *testing.T) {
	e := engine(t)
	if err := e.Glibc(t.Context(), base); err != nil {
		t.Errorf("Glibc(%s) = %v", base, err)
	}
	scratch(t, e, "docker-musl:1", map[string]string{"lib/ld-musl-x86_64.so.1": "x", "bin/busybox": "x"})
	scratch(t, e, "docker-compat:1", map[string]string{"lib64/ld-linux-x86-64.so.2": "x", "lib/ld-musl-x86_64.so.1": "x"})
	for _, ref := range []string{"docker-musl:1", "docker-compat:1", "docker-musl:1"} {
		err := e.Glibc(t.Context(), ref)
		if !errors.Is(err, ErrNoGlibc) || !strings.Contains(err.Error(), "Debian") {
			t.Errorf("Glibc(%s) = %v, want ErrNoGlibc and what to do", ref, err)
		}
	}
	if list, err := e.List(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// An image with nothing of ours still gives the agent a name, a home and a
// volume that it owns, adapted or not.
func TestAdapt(t *testing.T) {
	e := engine(t)
	busybox := static(t)
	users := "root:x:0:0::/:/bin/sh\nagent:x:44:44::/:/bin/sh" // the name is taken, and no newline
	for name, files := range map[string]map[string]string{
		"no users":      {"bin/busybox": busybox},
		"a taken name":  {"bin/busybox": busybox, "etc/passwd": users, "etc/group": "root:x:0:\n"},
		"uid is there":  {"bin/busybox": busybox, "etc/passwd": "dev:x:1000:1000::/:/bin/sh\n", "etc/group": "dev:x:1000:\n"},
		"files in ours": {"bin/busybox": busybox, "workspaces/left": "", "home/agent/left": ""},
	} {
		t.Run(name, func(t *testing.T) {
			ref := "docker-adapt:" + strings.ReplaceAll(name, " ", "-")
			scratch(t, e, ref, files, "LABEL x=y", `ENTRYPOINT ["/bin/false"]`, "ENV A=b", "USER root")
			script := "touch /workspaces/f /home/agent/f && /bin/busybox stat -c %u:%g /workspaces /home/agent && /bin/busybox id -un"
			s := spec(e, "")
			s.Volume, s.Home = s.Volume+s.Name, s.Home+s.Name
			s.Cmd, s.Image = []string{"/bin/busybox", "sh", "-c", script}, ref
			s.Name = e.mesh + "-" + strings.ReplaceAll(name, " ", "-")
			s.Volume, s.Home = s.Name+"-work", s.Name+"-home"
			if code, out := run(t, e, s); !strings.HasPrefix(out, "1000:1000\n1000:1000\n") {
				t.Errorf("not adapted: exit %d, %q", code, out)
			}
			fit, err := e.Adapt(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_, _ = e.api.ImageRemove(context.Background(), fit, image.RemoveOptions{Force: true})
			})
			if again, err := e.Adapt(t.Context(), ref); again != fit || err != nil {
				t.Errorf("second Adapt = %s, %v, want %s", again, err, fit)
			}
			if same, err := e.Adapt(t.Context(), fit); same != fit || err != nil {
				t.Errorf("Adapt of the adapted = %s, %v, want itself", same, err)
			}
			_, info, err := e.HasImage(t.Context(), fit)
			if err != nil || info.Labels["x"] != "y" || info.Labels[LabelOwner] == "1" || !slices.Contains(info.Env, "A=b") {
				t.Errorf("adapted image = %+v, %v: the image's own settings, and no workspace's label", info, err)
			}
			s.Name, s.Image, s.Volume, s.Home = s.Name+"-2", fit, s.Volume+"-2", s.Home+"-2"
			want := map[string]string{"a taken name": "samnode", "uid is there": "dev"}[name]
			if want == "" {
				want = "agent"
			}
			if code, out := run(t, e, s); code != 0 || out != "1000:1000\n1000:1000\n"+want+"\n" {
				t.Errorf("adapted: exit %d, %q, want owner 1000 and the name %s", code, out, want)
			}
		})
	}
	if fit, err := e.Adapt(t.Context(), base); fit != base || err != nil {
		t.Errorf("Adapt(%s) = %s, %v, want itself", base, fit, err)
	}
}

// static is a busybox without libraries.
func static(t testing.TB) string {
	t.Helper()
	for _, p := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if b, err := os.ReadFile(p); err == nil && !bytes.Contains(b, []byte("ld-linux")) {
			return string(b)
		}
	}
	t.Skip("needs a static busybox (apt-get install busybox-static)")
	return ""
}

func TestNoEngine(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(t.Context(), Config{Host: "unix://" + filepath.Join(dir, "none.sock")})
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"Ping":   func() error { _, err := e.Ping(t.Context()); return err },
		"Create": func() error { _, err := e.Create(t.Context(), spec(e, "true")); return err },
		"Start":  func() error { return e.Start(t.Context(), "x") },
		"Pull":   func() error { return e.Pull(t.Context(), "x", nil) },
		"Events": func() error { return e.Events(t.Context(), nil, func(Event) {}) },
	}
	for name, call := range calls {
		if err := call(); name != "Create" && !errors.Is(err, ErrNoEngine) {
			t.Errorf("%s without an engine = %v, want ErrNoEngine", name, err)
		}
	}
}

// serve is an engine that answers as told.
func serve(t *testing.T, h http.HandlerFunc) *Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l) // ends with Close
	t.Cleanup(func() { srv.Close() })
	e, err := Open(t.Context(), Config{Host: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSentinels(t *testing.T) {
	cases := map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"the engine dies in the middle": {func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		}, ErrLost},
		"the disk is full": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, `{"message":"mkdir /var/lib/docker/overlay2/x: no space left on device"}`, 500)
		}, ErrDiskFull},
		"no such container": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"message":"No such container: x"}`)
		}, ErrNotFound},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/_ping") {
					w.Header().Set("Api-Version", "1.41")
					return
				}
				c.answer(w, r)
			})
			if _, err := e.Inspect(t.Context(), "x"); !errors.Is(err, c.want) {
				t.Errorf("Inspect = %v, want %v", err, c.want)
			}
		})
	}
}

func TestPullTellsWhy(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			w.Header().Set("Api-Version", "1.41")
			return
		}
		_, _ = io.WriteString(w, `{"status":"Pulling from x","id":"latest"}
{"status":"Downloading","progressDetail":{"current":1},"id":"abc"}
{"status":"Downloading","progressDetail":{"current":2},"id":"abc"}
{"error":"write /x: no space left on device"}`)
	})
	var lines []string
	err := e.Pull(t.Context(), "x", func(l string) { lines = append(lines, l) })
	if !errors.Is(err, ErrDiskFull) {
		t.Errorf("Pull = %v, want ErrDiskFull", err)
	}
	if d := cmp.Diff([]string{"latest Pulling from x", "abc Downloading"}, lines); d != "" {
		t.Errorf("progress (-want +got):\n%s", d)
	}
}

func BenchmarkCreateStartRemove(b *testing.B) {
	e := engine(b)
	s := spec(e, "sleep 60")
	for b.Loop() {
		id := create(b, e, s)
		if err := e.Start(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		if err := e.Remove(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}
