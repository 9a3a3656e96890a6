package devcontainer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/workspace/docker"
)

const base = "samnode/base:latest"

// cli installs the reference CLI once per test binary.
var cli = struct {
	once sync.Once
	dir  string
	err  error
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	if cli.dir != "" {
		_ = os.RemoveAll(cli.dir)
	}
	os.Exit(code)
}

func tools(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("installs the CLI and needs Docker; -short")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no Node here")
	}
	cli.once.Do(func() {
		if cli.dir, cli.err = os.MkdirTemp("", "devcontainer-test-"); cli.err == nil { //nolint:usetesting // of all tests
			cli.err = Install(context.Background(), cli.dir, nil)
		}
	})
	if cli.err != nil {
		t.Skip("the dev container CLI cannot be installed here: ", cli.err)
	}
	return cli.dir
}

type bench struct {
	t       testing.TB
	engine  *docker.Engine
	builder *Builder
	lines   []string
}

// setup has an engine and an offline builder, and removes what a test made.
func setup(t testing.TB, dir string) *bench {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Docker; -short")
	}
	mesh := "devcontainer-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	e, err := docker.Open(t.Context(), docker.Config{Mesh: mesh})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Ping(t.Context()); errors.Is(err, docker.ErrNoEngine) {
		t.Skip("no Docker engine here")
	}
	if ok, _, err := e.HasImage(t.Context(), base); err != nil || !ok {
		t.Skip("no base image here; run scripts/image: ", err)
	}
	b, err := New(Config{Engine: e, Dir: dir, Network: "none"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, err := e.List(context.Background(), nil)
		if err != nil {
			t.Error(err)
		}
		for _, c := range list {
			if err := e.Remove(context.Background(), c.ID); err != nil {
				t.Error(err)
			}
		}
		e.Close()
	})
	return &bench{t: t, engine: e, builder: b}
}

func (b *bench) request(files map[string]string) Request {
	return Request{Checkout: write(b.t, files), Config: defaultPath, Folder: "/workspaces/app", ID: "w1"}
}

// build builds and removes the image after the test.
func (b *bench) build(r Request) (Result, error) {
	b.lines = nil
	res, err := b.builder.Build(b.t.Context(), r, func(l string) { b.lines = append(b.lines, l) })
	if strings.HasPrefix(res.Image, "samnode/dev:") || strings.HasPrefix(res.Image, "samnode/adapted:") {
		b.t.Cleanup(func() { rmi(res.Image) })
	}
	return res, err
}

func rmi(image string) { _ = exec.Command("docker", "rmi", "-f", image).Run() }

func (b *bench) must(r Request) Result {
	b.t.Helper()
	res, err := b.build(r)
	if err != nil {
		b.t.Fatalf("Build = %v", err)
	}
	return res
}

// run runs a script in a workspace's container of the image.
func (b *bench) run(res Result, script string) string {
	b.t.Helper()
	ctx := b.t.Context()
	id, err := b.engine.Create(ctx, docker.Spec{Name: "devcontainer-run", Image: res.Image, Cmd: []string{"/bin/sh", "-c", script}, Env: res.Env})
	if err != nil {
		b.t.Fatal(err)
	}
	defer b.engine.Remove(ctx, id) // the clean-up tries again
	if err := b.engine.Start(ctx, id); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.engine.Wait(ctx, id); err != nil {
		b.t.Fatal(err)
	}
	out, err := b.engine.Logs(ctx, id, 100)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// unprivileged looks at a workspace's container of the image from both sides.
func (b *bench) unprivileged(res Result) {
	b.t.Helper()
	ctx := b.t.Context()
	id, err := b.engine.Create(ctx, docker.Spec{Name: "devcontainer-look", Image: res.Image, Cmd: []string{"sleep", "60"}, Env: res.Env})
	if err != nil {
		b.t.Fatal(err)
	}
	defer b.engine.Remove(ctx, id) // the clean-up tries again
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format",
		"{{.HostConfig.Privileged}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{.HostConfig.NetworkMode}} {{.Config.User}} {{len .Mounts}} {{.HostConfig.Binds}} {{.HostConfig.PidMode}}", id).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v", out, err)
	}
	if want := "false [ALL] [] [no-new-privileges] none 1000:1000 0 []"; strings.TrimSpace(string(out)) != want {
		b.t.Errorf("container = %q, want %q", strings.TrimSpace(string(out)), want)
	}
	if out := b.run(res, "id -u; ls /hostetc 2>/dev/null; grep CapEff /proc/self/status"); out != "1000\nCapEff:\t0000000000000000\n" {
		b.t.Errorf("inside = %q, want uid 1000, no capability and no host folder", out)
	}
}

// label builds an image on the base that carries a metadata label.
func label(t testing.TB, name, metadata string) {
	t.Helper()
	c := exec.Command("docker", "build", "-t", name, "-")
	c.Stdin = strings.NewReader(fmt.Sprintf("FROM %s\nLABEL %s=%q\n", base, LabelMetadata, metadata))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	t.Cleanup(func() { rmi(name) })
}

const evilFeature = `{"id": "evil", "version": "1.0.0", "name": "evil", "privileged": true, "capAdd": ["ALL"],
	"mounts": ["source=/etc,target=/hostetc,type=bind"], "entrypoint": "/evil.sh", "onCreateCommand": "echo from the feature"}`

// The four ways in which "devcontainer up" hands the host to a repository.
func TestHostTakeOvers(t *testing.T) {
	b := setup(t, tools(t))
	owned := filepath.Join(t.TempDir(), "owned")
	const metadata = `[{"privileged": true, "mounts": ["source=/etc,target=/hostetc,type=bind"], "initializeCommand": "touch /owned", "onCreateCommand": "echo from the image"}]`
	label(t, "devcontainer-evil:1", metadata)
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
		hooks []string
	}{
		"initializeCommand": {
			files: map[string]string{defaultPath: `{"image": "` + base + `", "initializeCommand": "touch ` + owned + `"}`},
			want:  []string{"devcontainer.json: initializeCommand"},
		},
		"mounts and runArgs": {
			files: map[string]string{defaultPath: `{"image": "` + base + `", "runArgs": ["--privileged"], "mounts": ["source=/etc,target=/hostetc,type=bind"]}`},
			want:  []string{"devcontainer.json: mounts", "devcontainer.json: runArgs"},
		},
		"a local feature": {
			files: map[string]string{
				defaultPath: `{"image": "` + base + `", "features": {"./evil": {}}}`,
				".devcontainer/evil/devcontainer-feature.json": evilFeature, ".devcontainer/evil/install.sh": "#!/bin/sh\ntrue\n",
			},
			want:  []string{"feature ./evil: mounts", "feature ./evil: privileged", "feature ./evil: capAdd", "feature ./evil: entrypoint"},
			hooks: []string{"feature ./evil: onCreateCommand"},
		},
		"an image's label": {
			files: map[string]string{defaultPath: `{"image": "devcontainer-evil:1"}`},
			want:  []string{"image: initializeCommand", "image: mounts", "image: privileged"},
			hooks: []string{"image: onCreateCommand"},
		},
		"a label through a Dockerfile": {
			files: map[string]string{defaultPath: `{"build": {"dockerfile": "Dockerfile"}}`, ".devcontainer/Dockerfile": "FROM devcontainer-evil:1\n"},
			want:  []string{"image: initializeCommand", "image: mounts", "image: privileged"},
			hooks: []string{"image: onCreateCommand"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			res := b.must(b.request(c.files))
			if d := cmp.Diff(c.want, refusals(res.Refused)); d != "" {
				t.Errorf("refused (-want +got):\n%s", d)
			}
			var hooks []string
			for _, h := range res.Hooks {
				hooks = append(hooks, h.From+": "+h.Name)
			}
			if d := cmp.Diff(c.hooks, hooks); d != "" {
				t.Errorf("the rest is used, hooks (-want +got):\n%s", d)
			}
			b.unprivileged(res)
			if _, err := os.Stat(owned); err == nil {
				t.Error("a command of the repository ran on the host")
			}
		})
	}
}

func TestDockerfileOffline(t *testing.T) {
	b := setup(t, "")
	files := map[string]string{
		defaultPath: `{
			"name": "offline", "build": {"dockerfile": "Dockerfile", "context": "..", "args": {"WHO": "${localWorkspaceFolderBasename}"}},
			"containerEnv": {"GREETING": "hello"}, "remoteEnv": {"PATH": "/extra:${containerEnv:PATH}"},
			"postCreateCommand": "make setup"}`,
		".devcontainer/Dockerfile": "FROM " + base + "\nUSER root\nARG WHO\nCOPY data.txt /data.txt\nRUN echo \"built for $WHO\" >>/data.txt && ! curl -s --max-time 2 http://10.255.255.1\n",
		"data.txt":                 "from the repository\n",
		".git/HEAD":                "ref: x\n",
	}
	r := b.request(files)
	res := b.must(r)
	if res.Cached {
		t.Error("the first build was cached")
	}
	if got, want := b.run(res, "cat /data.txt; echo $GREETING; id -un; stat -c %u /workspaces"), "from the repository\nbuilt for app\nhello\nagent\n1000\n"; got != want {
		t.Errorf("inside = %q, want %q", got, want)
	}
	if d := cmp.Diff([]string{"PATH=/extra:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, res.RemoteEnv); d != "" {
		t.Errorf("remote env (-want +got):\n%s", d)
	}
	if !slices.ContainsFunc(b.lines, func(l string) bool { return strings.Contains(l, "COPY data.txt") }) {
		t.Errorf("progress shows no build step: %q", b.lines)
	}

	// The same sources elsewhere, with another git state: nothing to build.
	files[".git/HEAD"] = "ref: y\n"
	again := b.must(b.request(files))
	if !again.Cached || again.Image != res.Image || !slices.ContainsFunc(b.lines, func(l string) bool { return strings.HasPrefix(l, "Using the image built before") }) {
		t.Errorf("second build: cached %v, %s, %q", again.Cached, again.Image, b.lines)
	}
	for what, change := range map[string]func(map[string]string){
		"a file of the context": func(f map[string]string) { f["data.txt"] = "new\n" },
		"the Dockerfile":        func(f map[string]string) { f[".devcontainer/Dockerfile"] += "RUN true\n" },
		"an argument":           func(f map[string]string) { f[defaultPath] = strings.Replace(f[defaultPath], "${local", "x${local", 1) },
	} {
		f := maps.Clone(files)
		change(f)
		if res := b.must(b.request(f)); res.Cached {
			t.Errorf("a change of %s did not build", what)
		}
	}
}

func TestFeatureOffline(t *testing.T) {
	b := setup(t, tools(t))
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	r := b.request(map[string]string{
		defaultPath: `{"build": {"dockerfile": "Dockerfile"}, "remoteUser": "agent",
			"features": {"./tool": {"word": "${localWorkspaceFolderBasename}"}}, "onCreateCommand": "echo config"}`,
		".devcontainer/Dockerfile": "FROM " + base + "\nUSER root\n",
		".devcontainer/tool/devcontainer-feature.json": `{"id": "tool", "version": "1.0.0", "name": "tool", "containerEnv": {"TOOL": "1"},
			"options": {"word": {"type": "string", "default": "none"}}, "dependsOn": {"./dep": {}}, "onCreateCommand": ["echo", "feature"]}`,
		".devcontainer/tool/install.sh":               "#!/bin/sh\nset -e\ncat /dep\necho \"$WORD for $_REMOTE_USER, sees [$(env | grep -c LEAK)]\" >/tool\n",
		".devcontainer/dep/devcontainer-feature.json": `{"id": "dep", "version": "1.0.0", "name": "dep"}`,
		".devcontainer/dep/install.sh":                "#!/bin/sh\necho dep >/dep\n",
	})
	t.Setenv("LEAK", "of the host")
	res := b.must(r)
	if got, want := b.run(res, "cat /tool; echo $TOOL; id -un"), "app for agent, sees [0]\n1\nagent\n"; got != want {
		t.Errorf("inside = %q, want %q", got, want)
	}
	want := []Hook{
		{"onCreateCommand", "feature ./tool", true, []Command{{Argv: []string{"echo", "feature"}}}},
		{"onCreateCommand", fromConfig, true, []Command{{Argv: []string{"/bin/sh", "-c", "echo config"}}}},
	}
	if d := cmp.Diff(want, res.Hooks); d != "" {
		t.Errorf("hooks (-want +got):\n%s", d)
	}
	if again := b.must(r); !again.Cached {
		t.Error("the second build was not cached")
	}
	if err := os.WriteFile(filepath.Join(r.Checkout, ".devcontainer/dep/install.sh"), []byte("#!/bin/sh\necho new >/dep\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := b.must(r); again.Cached {
		t.Error("a changed feature did not build")
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBuildFailures(t *testing.T) {
	dockerfile := `{"build": {"dockerfile": "Dockerfile"}}`
	for name, c := range map[string]struct {
		files          map[string]string
		is             error
		reason, detail string
		cli            bool
	}{
		"a command fails": {
			files: map[string]string{defaultPath: dockerfile, ".devcontainer/Dockerfile": "FROM " + base + "\nRUN echo about to fail; exit 9\n"},
			is:    ErrBuild, reason: "9", detail: "about to fail",
		},
		"not a Dockerfile": {
			files: map[string]string{defaultPath: dockerfile, ".devcontainer/Dockerfile": "FROM " + base + "\nOOPS\n"},
			is:    ErrBuild, reason: "OOPS", detail: "OOPS",
		},
		"a file to copy is missing": {
			files: map[string]string{defaultPath: dockerfile, ".devcontainer/Dockerfile": "FROM " + base + "\nCOPY nothing /\n"},
			is:    ErrBuild, reason: "nothing", detail: "nothing",
		},
		"the base image is out of reach": {
			files: map[string]string{defaultPath: dockerfile, ".devcontainer/Dockerfile": "FROM 127.0.0.1:1/none:1\n"},
			is:    ErrNoBase, reason: "cannot be fetched", detail: "127.0.0.1:1",
		},
		"the image is out of reach": {
			files: map[string]string{defaultPath: `{"image": "127.0.0.1:1/none:1"}`},
			is:    ErrNoBase, reason: "127.0.0.1:1/none:1", detail: "refused",
		},
		"no Dockerfile": {files: map[string]string{defaultPath: dockerfile}, is: ErrInvalid, reason: "Dockerfile"},
		"no configuration": {
			files: map[string]string{"a": ""}, is: ErrInvalid, reason: "no such file",
		},
		"a feature fails": {
			files: map[string]string{
				defaultPath: `{"image": "` + base + `", "features": {"./bad": {}}}`,
				".devcontainer/bad/devcontainer-feature.json": `{"id": "bad", "version": "1.0.0", "name": "bad"}`,
				".devcontainer/bad/install.sh":                "#!/bin/sh\necho this feature fails; exit 4\n",
			},
			is: ErrBuild, reason: "4", detail: "this feature fails", cli: true,
		},
		"a feature's image is out of reach": {
			files: map[string]string{
				defaultPath: `{"image": "127.0.0.1:1/none:1", "features": {"./ok": {}}}`,
				".devcontainer/ok/devcontainer-feature.json": `{"id": "ok", "version": "1.0.0", "name": "ok"}`,
				".devcontainer/ok/install.sh":                "#!/bin/sh\n",
			},
			is: ErrNoBase, reason: "cannot be fetched", detail: "127.0.0.1:1", cli: true,
		},
		"a feature is out of reach": {
			files: map[string]string{defaultPath: `{"image": "` + base + `", "features": {"127.0.0.1:1/a/b:1": {}}}`},
			is:    ErrNoBase, reason: "cannot be fetched", detail: "127.0.0.1:1", cli: true,
		},
		"a feature is missing": {
			files: map[string]string{defaultPath: `{"image": "` + base + `", "features": {"./none": {}}}`}, is: ErrInvalid, reason: "./none", cli: true,
		},
		"features without the CLI": {
			files: map[string]string{
				defaultPath: `{"image": "` + base + `", "features": {"./ok": {}}}`, ".devcontainer/ok/install.sh": "",
			},
			is: ErrNoTool, reason: "Node",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.cli {
				dir = tools(t)
			}
			b := setup(t, dir)
			_, err := b.build(b.request(c.files))
			var f *Failure
			if !errors.Is(err, c.is) || !errors.As(err, &f) {
				t.Fatalf("Build = %v, want %v", err, c.is)
			}
			if !strings.Contains(f.Reason, c.reason) || !strings.Contains(f.Out, c.detail) {
				t.Errorf("reason %q, want %q in it; detail %q, want %q in it", f.Reason, c.reason, f.Out, c.detail)
			}
			if left := dangling(t); len(left) > 0 {
				t.Errorf("containers left behind: %v", left)
			}
			if n := strings.Count(f.Out, "\n") + 1; n > tailLines+1 {
				t.Errorf("detail has %d lines", n)
			}
		})
	}
}

// dangling lists the stopped containers of builds, which have no labels.
func dangling(t testing.TB) []string {
	t.Helper()
	out, err := exec.Command("docker", "ps", "-a", "--filter", "status=exited", "--format", "{{.Image}} {{.Command}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for l := range strings.Lines(string(out)) {
		if strings.Contains(l, "about to") || strings.Contains(l, "chmod -") {
			list = append(list, l)
		}
	}
	return list
}

// Links in the repository must not carry files of the host into an image.
func TestLinksOutOfTheCheckout(t *testing.T) {
	b := setup(t, tools(t))
	secret := write(t, map[string]string{"secret": "FROM secret-of-the-host\n", "dir/install.sh": "#!/bin/sh\n", "dir/devcontainer-feature.json": `{"id": "evil", "version": "1.0.0"}`})
	link := func(r Request, to, name string) {
		t.Helper()
		p := filepath.Join(r.Checkout, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
	}
	dockerfile := b.request(map[string]string{defaultPath: `{"build": {"dockerfile": "Dockerfile"}}`})
	link(dockerfile, filepath.Join(secret, "secret"), ".devcontainer/Dockerfile")
	context := b.request(map[string]string{defaultPath: `{"build": {"dockerfile": "Dockerfile", "context": "ctx"}}`, ".devcontainer/Dockerfile": "FROM " + base + "\nCOPY secret /\n"})
	link(context, secret, ".devcontainer/ctx")
	feature := b.request(map[string]string{defaultPath: `{"image": "` + base + `", "features": {"./evil": {}}}`})
	link(feature, filepath.Join(secret, "dir"), ".devcontainer/evil")
	for name, r := range map[string]Request{"Dockerfile": dockerfile, "context": context, "feature": feature} {
		if _, err := b.build(r); err == nil || strings.Contains(err.Error(), "secret-of-the-host") {
			t.Errorf("%s through a link = %v, want an error that shows nothing of the host", name, err)
		}
	}

	inner := b.request(map[string]string{
		defaultPath: `{"image": "` + base + `", "features": {"./evil": {}}}`,
		".devcontainer/evil/devcontainer-feature.json": `{"id": "evil", "version": "1.0.0", "name": "evil"}`,
		".devcontainer/evil/install.sh":                "#!/bin/sh\nls >/files\n",
	})
	link(inner, filepath.Join(secret, "secret"), ".devcontainer/evil/stolen")
	res := b.must(inner)
	if d := cmp.Diff([]string{"feature ./evil: link .devcontainer/evil/stolen"}, refusals(res.Refused)); d != "" {
		t.Errorf("refused (-want +got):\n%s", d)
	}
	if out := b.run(res, "cat /files"); strings.Contains(out, "stolen") || !strings.Contains(out, "install.sh") {
		t.Errorf("the feature saw %q", out)
	}
}

// An image that has nothing but one static program, and no user 1000.
func TestForeignImageIsAdapted(t *testing.T) {
	b := setup(t, "")
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil || bytes.Contains(busybox, []byte("ld-linux")) {
		t.Skip("needs a static busybox")
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range []string{"bin/busybox", "bin/sh"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(busybox))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(busybox); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("docker", "import", "-", "devcontainer-scratch:1")
	c.Stdin = &buf
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	t.Cleanup(func() { rmi("devcontainer-scratch:1") })
	res := b.must(b.request(map[string]string{defaultPath: `{"image": "devcontainer-scratch:1", "remoteUser": "root"}`}))
	if out := b.run(res, "/bin/busybox id -un; /bin/busybox stat -c %u /workspaces"); out != "agent\n1000\n" {
		t.Errorf("inside = %q", out)
	}
	if d := cmp.Diff([]string{"devcontainer.json: remoteUser root"}, refusals(res.Refused)); d != "" {
		t.Errorf("refused (-want +got):\n%s", d)
	}
	if err := b.engine.Glibc(t.Context(), res.Image); !errors.Is(err, docker.ErrNoGlibc) {
		t.Errorf("Glibc = %v, want ErrNoGlibc", err)
	}
}

func TestInstallOnce(t *testing.T) {
	tools(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := Install(t.Context(), dir, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || !Installed(dir) {
		t.Errorf("after three installers at once: %v, %v", entries, err)
	}
}

func TestCancelEndsTheBuild(t *testing.T) {
	b := setup(t, "")
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("stopped by a person")
	r := b.request(map[string]string{defaultPath: `{"build": {"dockerfile": "Dockerfile"}}`, ".devcontainer/Dockerfile": "FROM " + base + "\nRUN echo begun; sleep 120\n"})
	_, err := b.builder.Build(ctx, r, func(l string) {
		if strings.Contains(l, "begun") {
			cancel(because)
		}
	})
	if !errors.Is(err, because) {
		t.Errorf("Build = %v, want the cause", err)
	}
}

// Features of builds at the same time must not get mixed up.
func TestFeatureBuildsTakeTurns(t *testing.T) {
	b := setup(t, tools(t))
	const n = 3
	results := make([]Result, n)
	var wg sync.WaitGroup
	for i := range n {
		r := b.request(map[string]string{
			defaultPath: `{"image": "` + base + `", "features": {"./f": {}}}`,
			".devcontainer/f/devcontainer-feature.json": `{"id": "f", "version": "1.0.0", "name": "f"}`,
			".devcontainer/f/install.sh":                fmt.Sprintf("#!/bin/sh\necho %d >/which\n", i),
		})
		wg.Go(func() {
			var err error
			if results[i], err = b.builder.Build(t.Context(), r, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, res := range results {
		t.Cleanup(func() { rmi(res.Image) })
		if got := b.run(res, "cat /which"); got != fmt.Sprintln(i) {
			t.Errorf("build %d has the feature of build %s", i, got)
		}
	}
}

// What a warm start pays for a dev container that was built before.
func BenchmarkCached(b *testing.B) {
	w := setup(b, "")
	r := w.request(map[string]string{defaultPath: `{"build": {"dockerfile": "Dockerfile"}}`, ".devcontainer/Dockerfile": "FROM " + base + "\nCOPY devcontainer.json /\n"})
	w.must(r)
	for b.Loop() {
		if res, err := w.builder.Build(b.Context(), r, nil); err != nil || !res.Cached {
			b.Fatal(res.Cached, err)
		}
	}
}
