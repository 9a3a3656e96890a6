package cloudinit

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a folder in which user-data is executed. Its PATH holds the real
// tools that every image has, and stand-ins that note how they were called.
type machine struct {
	t    *testing.T
	root string
	dash string
}

func newMachine(t *testing.T, standIns map[string]string) *machine {
	t.Helper()
	dash, err := exec.LookPath("dash")
	if err != nil {
		t.Skip("SKIPPED: no dash here")
	}
	m := &machine{t: t, root: t.TempDir(), dash: dash}
	for _, dir := range []string{"bin", "usr/local/bin", "run/samnode-boot", "var/lib/cloud/instance/scripts"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"cut", "rm", "install", "sha256sum", "cp"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(m.root, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	for name, body := range standIns {
		m.write("bin/"+name, "#!/bin/sh\necho "+name+" \"$@\" >>"+m.root+"/calls\n"+body+"\n")
	}
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

// at puts the machine's folder before the paths that a script writes to.
func (m *machine) at(script string) string {
	for _, path := range []string{"/run/samnode-boot", "/usr/local/bin/", "/var/lib/"} {
		script = strings.ReplaceAll(script, path, m.root+path)
	}
	return script
}

// run executes user-data as cloud-init does: the commands of the early boot, the
// files, and the commands of the end. It returns what was called, in order.
func (m *machine) run(text string) (calls []string, output string) {
	m.t.Helper()
	m.write("run/samnode-boot/keys", indented(m.t, text, "/run/samnode-boot/keys"))
	m.write("run/samnode-boot/up", m.at(script(m.t, text)))
	var out strings.Builder
	for _, list := range []string{"bootcmd", "runcmd"} {
		for _, args := range commands(m.t, text, list) {
			if args[0] == "/bin/sh" {
				args[0] = m.dash
			}
			cmd := exec.CommandContext(m.t.Context(), m.dash, "-c", `exec "$@"`, "-")
			for _, a := range args {
				cmd.Args = append(cmd.Args, m.at(a))
			}
			cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = []string{"PATH=" + m.root + "/bin:" + m.root + "/usr/local/bin"}, m.root, &out, &out
			if err := cmd.Run(); err != nil {
				m.t.Fatalf("%q: %v\n%s", args, err, out.String())
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(m.root, "calls"))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n"), out.String()
}

// commands are those of a list of the user-data, which has each in one line.
func commands(t *testing.T, text, list string) (all [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n"+list+":\n")
	if !ok {
		t.Fatalf("there is no %s", list)
	}
	for line := range strings.Lines(rest) {
		words, ok := strings.CutPrefix(line, "  - [")
		if !ok {
			break
		}
		all = append(all, strings.Split(strings.TrimSuffix(strings.TrimSpace(words), "]"), ", "))
	}
	return all
}

// imageWith is a machine with the tools of a stock image, and others.
func imageWith(t *testing.T, more ...string) (*machine, Boot) {
	t.Helper()
	const binary = "#!/bin/sh\necho samnode \"$@\" >>\"${0%/usr/local/bin/*}/calls\"\n"
	tools := map[string]string{
		"systemctl": "", "passwd": "", "apt-get": "", "apt": "", "dpkg": "", "sleep": "",
		"curl": `while [ "$1" != -o ]; do shift; done; cp "${0%/bin/*}/served" "$2"`,
	}
	for _, name := range more {
		tools[name] = ""
	}
	m := newMachine(t, tools)
	m.write("served", binary)
	b, sum := full(), sha256.Sum256([]byte(binary))
	b.SHA256 = hex.EncodeToString(sum[:])
	return m, b
}

// TestR30NoAptOnTheCriticalPath executes the user-data: what works on packages
// by itself is off before anything else is done, and from there until the mesh
// is joined no package is asked for. Only an image without Docker, which is not
// the stock one, has it installed.
func TestR30NoAptOnTheCriticalPath(t *testing.T) {
	m, b := imageWith(t, "docker")
	text, err := b.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\npackage_update: false\n", "\npackage_upgrade: false\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("cloud-init is not told %s", strings.TrimSpace(want))
		}
	}
	for _, never := range []string{"\npackages:", "\napt:", "\nsnap:", "package_reboot_if_required"} {
		if strings.Contains(text, never) {
			t.Errorf("cloud-init is told %s", strings.TrimSpace(never))
		}
	}
	calls, out := m.run(text)
	for _, unit := range []string{"apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service", "unattended-upgrades.service"} {
		if !strings.HasPrefix(calls[0], "systemctl mask --now ") || !slices.Contains(strings.Fields(calls[0]), unit) {
			t.Errorf("%s is not off before anything else: %q", unit, calls)
		}
	}
	for _, call := range calls {
		if name, _, _ := strings.Cut(call, " "); slices.Contains([]string{"apt-get", "apt", "dpkg"}, name) {
			t.Errorf("%q is called although the image has Docker", call)
		}
	}
	joins, installs := calling(calls, "samnode join "), calling(calls, "samnode install ")
	if fetch := calling(calls, "curl "); fetch < 1 || joins < fetch || installs < joins || !strings.HasSuffix(strings.TrimSpace(out), " up") {
		t.Errorf("it does not fetch, join and install in this order: %q\n%s", calls, out)
	}
}

// TestR30OtherImagesGetDocker: the same test sees apt where it is called.
func TestR30OtherImagesGetDocker(t *testing.T) {
	m, b := imageWith(t)
	text, err := b.Config()
	if err != nil {
		t.Fatal(err)
	}
	calls, out := m.run(text)
	update, install := calling(calls, "apt-get update"), calling(calls, "apt-get install")
	if update < 1 || install < update || !strings.HasSuffix(calls[install], " docker.io") || calling(calls, "samnode join ") < install {
		t.Errorf("Docker is not installed before it joins: %q\n%s", calls, out)
	}
	if !strings.Contains(out, "this image has no Docker") {
		t.Errorf("it does not say why it takes long:\n%s", out)
	}
}

// calling is where the first call is that begins so, or -1.
func calling(calls []string, prefix string) int {
	return slices.IndexFunc(calls, func(c string) bool { return strings.HasPrefix(c, prefix) })
}

// TestForgetsTheKeys: nothing of what it was made with is left, and the way to
// the provider's copy is closed.
func TestForgetsTheKeys(t *testing.T) {
	m, b := imageWith(t, "docker")
	text, err := b.Config()
	if err != nil {
		t.Fatal(err)
	}
	left := []string{"user-data.txt", "user-data.txt.i", "cloud-config.txt", "obj.pkl", "scripts/runcmd"}
	for _, name := range left {
		m.write("var/lib/cloud/instance/"+name, b.AuthKey)
	}
	calls, _ := m.run(text)
	for _, name := range append(left, "../../../../run/samnode-boot/keys") {
		if _, err := os.Stat(filepath.Join(m.root, "var/lib/cloud/instance", name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if closed, installs := calling(calls, "systemctl enable --now samnode-metadata.service"), calling(calls, "samnode install "); closed < 0 || closed > installs {
		t.Errorf("the way to the metadata is not closed before samnode runs: %q", calls)
	}
}
