package devcontainer

import (
	"errors"
	"testing"
)

func TestRemoteAdd(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		remote bool
	}{
		"a file":                    {"FROM x\nADD app.tar.gz /app\nCOPY http://x /y\n", false},
		"a file, to a variable":     {"ADD app.tar.gz $HOME/\n", false},
		"a URL in a RUN":            {"RUN curl http://169.254.169.254/\n", false},
		"a URL in a comment":        {"# ADD http://x /y\n", false},
		"a URL":                     {"FROM x\nADD http://169.254.169.254/latest /x\n", true},
		"lower case, indented":      {"FROM x\n\t add https://x/y /x", true},
		"second of three":           {"ADD a http://x /y\n", true},
		"continued":                 {"ADD a \\\n\n # why\n  http://x \\\n /y\n", true},
		"continued in the keyword":  {"AD\\\nD http://x /y\n", true},
		"continued, other escape":   {"# escape=`\nADD ht`\ntp://x /y\n", true},
		"continued, windows lines":  {"ADD \\\r\nhttp://x /y\r\n", true},
		"escaped characters":        {`ADD http:\/\/x /y`, true},
		"quoted in parts":           {`ADD "http:/"/x /y`, true},
		"JSON":                      {`ADD ["http://x", "/y"]`, true},
		"JSON without spaces":       {`ADD ["$A","/y"]`, true},
		"from a variable":           {"ARG A\nADD ${A} /y\n", true},
		"a trigger for later":       {"ONBUILD ADD http://x /y\n", true},
		"after a continued comment": {"# x \\\nADD http://x /y\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := remoteAdd([]byte(c.file)); (got != "") != c.remote {
				t.Errorf("remoteAdd(%q) = %q, want one: %v", c.file, got, c.remote)
			}
		})
	}
}

// The engine would fetch it from this machine's own network.
func TestRemoteAddIsRefused(t *testing.T) {
	checkout := write(t, map[string]string{
		defaultPath:                `{"build": {"dockerfile": "Dockerfile"}}`,
		".devcontainer/Dockerfile": "FROM " + base + "\nADD http://169.254.169.254/latest/meta-data/ /stolen\n",
	})
	d, err := Read(checkout, defaultPath)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := newStage(checkout, d, vars{}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("newStage = %v, %v, want ErrInvalid", s, err)
	}
}

// The name of the container whose network is shared differs from task to task;
// the image does not.
func TestKeyIgnoresTheGate(t *testing.T) {
	checkout := write(t, map[string]string{
		defaultPath: `{"image": "` + base + `", "features": {"./a": {}}}`,
		".devcontainer/a/devcontainer-feature.json": `{"id": "a", "version": "1.0.0", "name": "a"}`,
	})
	d, err := Read(checkout, defaultPath)
	if err != nil {
		t.Fatal(err)
	}
	key := func(network string) string {
		b := &Builder{Config{Network: network, Proxy: "http://127.0.0.1:7103"}}
		s, err := newStage(checkout, d, vars{}, b.options())
		if err != nil {
			t.Fatal(err)
		}
		defer s.remove()
		k, err := s.key(d, network)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if a, b := key("container:samnode-a-1-build"), key("container:samnode-b-7-build"); a != b {
		t.Errorf("keys = %s, %s, want equal ones", a, b)
	}
	if a, b := key("container:x"), key("none"); a == b {
		t.Errorf("key = %s with and without a network", a)
	}
}
