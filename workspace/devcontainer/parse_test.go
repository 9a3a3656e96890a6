package devcontainer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/samnode/samnode/workspace/docker"
)

const defaultPath = ".devcontainer/devcontainer.json"

func ptr[T any](v T) *T { return &v }

func TestParse(t *testing.T) {
	got, err := parse(defaultPath, []byte("\ufeff"+`// a comment
{
	"name": "app",
	"build": { "dockerfile": "Dockerfile", "context": "..", "args": {"A": "1"}, "target": "dev" },
	"features": {
		"./b": {"x": 1}, // order counts
		"ghcr.io/devcontainers/features/a:1": {},
	},
	"overrideFeatureInstallOrder": ["./b"],
	"containerEnv": {"C": "1"},
	"remoteEnv": {"R": "2", "GONE": null},
	"remoteUser": "dev",
	"onCreateCommand": "echo a && echo b",
	"updateContentCommand": ["npm", "ci"],
	"postCreateCommand": {"z": "make z", "a": ["make", "a"]},
	"postStartCommand": "",
	"forwardPorts": [3000, "db:5432"],
	"hostRequirements": {"cpus": 4, "memory": "8gb", "storage": "32 GB", "gpu": "optional"},
	"workspaceFolder": "/workspaces/app",
	"init": true,
	"customizations": {"editor": {}},
}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Definition{
		Path: defaultPath, Name: "app",
		Build: &Build{Dockerfile: ".devcontainer/Dockerfile", Context: ".", Args: map[string]string{"A": "1"}, Target: "dev"},
		Features: []Feature{
			{ID: "./b", Options: []byte(`{"x": 1}`)},
			{ID: "ghcr.io/devcontainers/features/a:1", Options: []byte(`{}`)},
		},
		InstallOrder: []string{"./b"},
		ContainerEnv: map[string]string{"C": "1"},
		RemoteEnv:    map[string]*string{"R": ptr("2"), "GONE": nil},
		RemoteUser:   "dev",
		Hooks: []Hook{
			{Name: "onCreateCommand", From: fromConfig, Once: true, Commands: []Command{{Argv: []string{"/bin/sh", "-c", "echo a && echo b"}}}},
			{Name: "updateContentCommand", From: fromConfig, Once: true, Commands: []Command{{Argv: []string{"npm", "ci"}}}},
			{Name: "postCreateCommand", From: fromConfig, Once: true, Commands: []Command{
				{Name: "a", Argv: []string{"make", "a"}}, {Name: "z", Argv: []string{"/bin/sh", "-c", "make z"}},
			}},
		},
		ForwardPorts:     []int{3000},
		HostRequirements: HostRequirements{CPUs: 4, Memory: 8 << 30, Storage: 32 << 30},
		WorkspaceFolder:  "/workspaces/app",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("parse (-want +got):\n%s", d)
	}
}

func TestParseRefusesWhatReachesTheHost(t *testing.T) {
	d, err := parse(defaultPath, []byte(`{
		"image": "x", "initializeCommand": "id", "mounts": ["source=/etc,target=/e,type=bind"], "runArgs": ["--privileged"],
		"privileged": true, "capAdd": ["SYS_ADMIN"], "securityOpt": ["seccomp=unconfined"], "workspaceMount": "source=/,target=/w,type=bind",
		"appPort": 80, "postAttachCommand": "x", "build": {"options": ["--secret=id=x,src=/etc/shadow"]}, "init": true}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range d.Refused {
		if r.Why == "" || r.From != fromConfig {
			t.Errorf("refusal without why or from: %+v", r)
		}
		got = append(got, r.What)
	}
	want := []string{"initializeCommand", "mounts", "runArgs", "privileged", "capAdd", "securityOpt", "workspaceMount", "appPort", "postAttachCommand", "build.options"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("refused (-want +got):\n%s", d)
	}
	d, err = parse(defaultPath, []byte(`{"image": "x", "mounts": [], "runArgs": [ ], "privileged": false, "capAdd": null, "initializeCommand": ""}`))
	if err != nil || len(d.Refused) != 0 {
		t.Errorf("what asks for nothing is refused: %+v, %v", d.Refused, err)
	}
}

func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		is         error
	}{
		"not JSON":             {"{\n  \"image\": \"x\",\n  oops\n}", "line 3, column 3", ErrInvalid},
		"cut off":              {`{"image": "x"`, "line 1", ErrInvalid},
		"empty":                {"", "line 1", ErrInvalid},
		"wrong type":           {"{\n  \"image\": \"x\",\n  \"containerEnv\": {\"A\": 5}\n}", "line 3", ErrInvalid},
		"no image":             {`{"name": "x"}`, `"image"`, ErrInvalid},
		"compose":              {`{"dockerComposeFile": "c.yml", "service": "x"}`, "compose", ErrCompose},
		"hook of a wrong type": {`{"image": "x", "postCreateCommand": 5}`, "postCreateCommand", ErrInvalid},
		"bad size":             {`{"image": "x", "hostRequirements": {"memory": "lots"}}`, `"lots"`, ErrInvalid},
		"context outside":      {`{"build": {"dockerfile": "Dockerfile", "context": "../.."}}`, "outside", ErrInvalid},
		"dockerfile outside":   {`{"build": {"dockerfile": "../../etc/shadow"}}`, "outside", ErrInvalid},
		"older spelling too":   {`{"dockerFile": "../../x"}`, "outside", ErrInvalid},
		"an option for a name": {`{"image": "--privileged"}`, "not the name of an image", ErrInvalid},
		"lines in a name":      {`{"image": "a\nRUN b"}`, "not the name of an image", ErrInvalid},
		"features as a list":   {`{"image": "x", "features": ["a"]}`, "object", ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(defaultPath, []byte(c.text))
			var f *Failure
			if !errors.Is(err, c.is) || !errors.As(err, &f) || !strings.Contains(f.Reason, c.want) || !strings.Contains(f.Reason, defaultPath) {
				t.Errorf("parse = %v, want %v that says %q", err, c.is, c.want)
			}
		})
	}
}

// write makes a checkout of the files.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	dir := write(t, map[string]string{
		defaultPath:                           `{"image": "x", "name": "Main"}`,
		".devcontainer.json":                  `{"image": "x"}`,
		".devcontainer/web/devcontainer.json": `{"image": "x"}`,
		".devcontainer/api/devcontainer.json": `{"image": `,
		".devcontainer/feat/install.sh":       ``,
		".devcontainer/a/b/devcontainer.json": `{}`,
		"sub/.devcontainer/devcontainer.json": `{}`,
	})
	outside := write(t, map[string]string{"devcontainer.json": `{"image": "x", "name": "secret"}`})
	if err := os.Symlink(outside, filepath.Join(dir, ".devcontainer", "link")); err != nil {
		t.Fatal(err)
	}
	got, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Found{
		{defaultPath, "Main"},
		{".devcontainer.json", "default"},
		{".devcontainer/api/devcontainer.json", "api"},
		{".devcontainer/web/devcontainer.json", "web"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Find (-want +got):\n%s", d)
	}
	if got, err := Find(t.TempDir()); err != nil || len(got) != 0 {
		t.Errorf("Find(nothing) = %v, %v", got, err)
	}
	if _, err := Read(dir, ".devcontainer/link/devcontainer.json"); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Read through a link out of the checkout = %v, want ErrInvalid", err)
	}
	if _, err := Read(dir, "../x"); !errors.Is(err, ErrInvalid) {
		t.Errorf("Read(../x) = %v, want ErrInvalid", err)
	}
}

func TestVariables(t *testing.T) {
	t.Setenv("SECRET", "of the host")
	v := vars{folder: "/workspaces/app", id: "w1", env: map[string]string{"PATH": "/bin"}}
	for in, want := range map[string]string{
		"${localEnv:SECRET}":                  "",
		"${localEnv:SECRET:fallback}":         "fallback",
		"${env:SECRET}":                       "",
		"${containerEnv:PATH}:/x":             "/bin:/x",
		"${containerEnv:NONE:y}":              "y",
		"${containerWorkspaceFolder}/a":       "/workspaces/app/a",
		"${localWorkspaceFolder}":             "/workspaces/app",
		"${localWorkspaceFolderBasename}":     "app",
		"${containerWorkspaceFolderBasename}": "app",
		"x-${devcontainerId}":                 "x-w1",
		"${unknown} $HOME ${HOME}":            "${unknown} $HOME ${HOME}",
	} {
		if got := v.in(in); got != want {
			t.Errorf("in(%s) = %q, want %q", in, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	d, err := parse(defaultPath, []byte(`{"image": "x", "name": "n", "remoteUser": "root", "workspaceFolder": "/app",
		"containerEnv": {"A": "config", "W": "${containerWorkspaceFolder}"}, "remoteEnv": {"PATH": "${containerEnv:PATH}:/mine", "IMG": null},
		"onCreateCommand": "config-create", "postStartCommand": ["${containerWorkspaceFolder}/start"]}`))
	if err != nil {
		t.Fatal(err)
	}
	image := docker.ImageInfo{Env: []string{"PATH=/bin"}, Labels: map[string]string{LabelMetadata: `[
		{"containerEnv": {"A": "image", "B": "image"}, "remoteEnv": {"IMG": "1"}, "remoteUser": "vscode", "postCreateCommand": "image-post", "capAdd": ["SYS_PTRACE"]},
		{"id": "./f", "onCreateCommand": "feature-create", "entrypoint": "/x.sh", "privileged": true}]`}}
	got, err := merge(d, image, vars{folder: "/workspaces/app"})
	if err != nil {
		t.Fatal(err)
	}
	sh := func(s string) []Command { return []Command{{Argv: []string{"/bin/sh", "-c", s}}} }
	want := Result{
		Name: "n", Env: []string{"A=config", "B=image", "W=/workspaces/app"}, RemoteEnv: []string{"PATH=/bin:/mine"},
		Hooks: []Hook{
			{"onCreateCommand", "feature ./f", true, sh("feature-create")},
			{"onCreateCommand", fromConfig, true, sh("config-create")},
			{"postCreateCommand", "image", true, sh("image-post")},
			{"postStartCommand", fromConfig, false, []Command{{Argv: []string{"/workspaces/app/start"}}}},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Result{}, "Refused")); d != "" {
		t.Errorf("merge (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"image: capAdd", "feature ./f: privileged", "feature ./f: entrypoint", "devcontainer.json: remoteUser root", "devcontainer.json: workspaceFolder"}, refusals(got.Refused)); d != "" {
		t.Errorf("refused (-want +got):\n%s", d)
	}
	image.Labels[LabelMetadata] = "{oops"
	if _, err := merge(d, image, vars{}); err == nil || !strings.Contains(err.Error(), LabelMetadata) {
		t.Errorf("merge with a broken label = %v, want an error that names it", err)
	}
}

func refusals(list []Refusal) []string {
	var s []string
	for _, r := range list {
		s = append(s, r.From+": "+r.What)
	}
	return s
}

func TestOutput(t *testing.T) {
	var seen []string
	o := &output{progress: func(l string) { seen = append(seen, l) }}
	for range 30 {
		if _, err := o.Write([]byte("[2026-01-02T03:04:05.678Z] \x1b[1mstep\x1b[0m\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	text := "    at Object.run (/x.js:1:2)\n[12 ms] Start\n" + strings.Repeat("x", 3*lineLimit) + "\n{\"outcome\":\"error\"}\nlast, no newline"
	if _, err := o.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	o.flush()
	if len(o.lines) != tailLines || o.lines[0] != "step" {
		t.Errorf("kept %d lines from %q, want the last %d", len(o.lines), o.lines[0], tailLines)
	}
	want := []string{"Start", strings.Repeat("x", lineLimit), "last, no newline"}
	if d := cmp.Diff(want, seen[30:]); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"image": "x", "features": {"a": {}}, "postCreateCommand": {"a": ["b"]}, "hostRequirements": {"memory": "8gb"}}`))
	f.Add([]byte(`{"build": {"dockerfile": "a/../../b"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parse(defaultPath, text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrCompose) {
				t.Errorf("parse = %v, want a sentinel", err)
			}
			return
		}
		if d.Build != nil && (!filepath.IsLocal(d.Build.Dockerfile) || !filepath.IsLocal(d.Build.Context)) {
			t.Errorf("build leaves the checkout: %+v", *d.Build)
		}
	})
}
