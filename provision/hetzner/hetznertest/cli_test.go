package hetznertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hcloud runs Hetzner's command line tool against a cloud.
func hcloud(t *testing.T, c *Cloud, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "hcloud", args...)
	home := t.TempDir()
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "HCLOUD_CONFIG=" + filepath.Join(home, "none.toml"),
		"HCLOUD_ENDPOINT=" + c.URL, "HCLOUD_TOKEN=token",
	}
	out, err := cmd.CombinedOutput()
	return strings.Join(strings.Fields(string(out)), " "), err
}

func TestHetznersOwnToolWorksWithIt(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("hcloud"); err != nil {
		t.Skip("SKIPPED: hcloud is not installed (scripts/setup test brings it)")
	}
	spec, err := LoadSpec()
	if err != nil {
		t.Skip("SKIPPED: ", err)
	}
	quick := 100 * time.Millisecond
	c := Start(t, Config{Token: "token", CreateTime: quick, StartTime: quick, DeleteTime: -1})
	c.Validate(spec)
	c.AddSSHKey("people", "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f")
	data := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(data, []byte("#cloud-config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	make1 := "server create --name w1 --type cx23 --image debian-12 --location nbg1 --label mesh=m1 --ssh-key people --user-data-from-file " + data
	for _, step := range []struct {
		want string // part of what is said
		ok   bool
		args string
	}{
		{"", true, "server list -o noheader"},
		{"created", true, make1},
		{"uniqueness_error", false, make1},
		{"created", true, "server create --name w2 --type cpx22 --image ubuntu-24.04 --location hel1 --label mesh=m2"},
		{"w1", true, "server list -o noheader -o columns=name -l mesh=m1"},
		{"m1 running", true, `server describe w1 -o format={{.Labels.mesh}}{{"\x20"}}{{.Status}}`},
		{"Label op added", true, "server add-label w1 op=o1"},
		{"Label op removed", true, "server remove-label w1 op"},
		{"stopped", true, "server poweroff w1"},
		{"w1 off", true, "server list -o noheader -o columns=name,status -l mesh=m1"},
		{"started", true, "server poweron w1"},
		{"cpx32", true, "server-type list"},
		{"nbg1", true, "location list"},
		{"debian-12", true, "image list"},
		{"Server w1", true, "primary-ip list"},
		{"people", true, "ssh-key list"},
		{"deprecated_api_endpoint", false, "datacenter list"},
		{"w1 deleted", true, "server delete w1"},
		{"w2", true, "server list -o noheader -o columns=name"},
		{"w2 deleted", true, "server delete w2"},
		{"not found", false, "server delete w2"},
	} {
		out, err := hcloud(t, c, strings.Fields(step.args)...)
		if (err == nil) != step.ok || !strings.Contains(out, step.want) {
			t.Errorf("hcloud %s = %q, %v, want %q", step.args, out, err, step.want)
		}
	}
	if left := c.Alive(); len(left) != 0 || len(c.Ever()) != 2 || c.Ever()[0].UserData != "#cloud-config\n" {
		t.Errorf("there were %+v", c.Ever())
	}
	for _, v := range c.Violations() {
		t.Errorf("not as described: %s", v)
	}
	t.Logf("%d calls, %d requests and answers held against the description", len(c.Calls()), c.Checked())
}
