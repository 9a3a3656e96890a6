package hetznertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// terraform is a directory in which Terraform runs with Hetzner's provider
// against a cloud.
type terraform struct {
	*testing.T
	dir string
}

// newTerraform skips where Terraform or the provider is missing. The provider's
// binary is the one that TERRAFORM_PROVIDER_HCLOUD names, else the one in PATH.
func newTerraform(t *testing.T, c *Cloud, config string) terraform {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("SKIPPED: terraform is not installed")
	}
	provider := os.Getenv("TERRAFORM_PROVIDER_HCLOUD")
	if provider == "" {
		var err error
		if provider, err = exec.LookPath("terraform-provider-hcloud"); err != nil {
			t.Skip("SKIPPED: terraform-provider-hcloud is not in PATH, and TERRAFORM_PROVIDER_HCLOUD does not name it")
		}
	}
	tf := terraform{t, t.TempDir()}
	tf.write("terraformrc", fmt.Sprintf("provider_installation {\n dev_overrides { \"hetznercloud/hcloud\" = %q }\n direct {}\n}\n", filepath.Dir(provider)))
	tf.write("main.tf", fmt.Sprintf(`terraform {
  required_providers { hcloud = { source = "hetznercloud/hcloud" } }
}
provider "hcloud" {
  token         = %q
  endpoint      = %q
  poll_interval = "100ms"
}
`, c.cfg.Token, c.URL)+config)
	return tf
}

func (tf terraform) write(name, text string) {
	tf.Helper()
	if err := os.WriteFile(filepath.Join(tf.dir, name), []byte(text), 0o600); err != nil {
		tf.Fatal(err)
	}
}

func (tf terraform) run(args ...string) string {
	tf.Helper()
	cmd := exec.CommandContext(tf.Context(), "terraform", append(args, "-no-color", "-input=false")...)
	cmd.Dir = tf.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + tf.dir, "TF_CLI_CONFIG_FILE=" + filepath.Join(tf.dir, "terraformrc"),
		"CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		tf.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

const oneServer = `
data "hcloud_ssh_key" "people" {
  fingerprint = "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f"
}
resource "hcloud_server" "w" {
  name        = "w1"
  server_type = "cx23"
  image       = "debian-12"
  location    = "nbg1"
  ssh_keys    = [data.hcloud_ssh_key.people.id]
  user_data   = "#cloud-config\n"
  labels      = { mesh = "m1", role = "worker" }
}
`

// TestTerraformWorksWithIt: Hetzner's provider makes a server, finds nothing to
// change in it, labels it anew, and deletes it.
func TestTerraformWorksWithIt(t *testing.T) {
	t.Parallel()
	spec, err := LoadSpec()
	if err != nil {
		t.Skip("SKIPPED: ", err)
	}
	quick := 100 * time.Millisecond
	c := Start(t, Config{Token: strings.Repeat("t", 64), CreateTime: quick, StartTime: quick, DeleteTime: quick})
	c.Validate(spec)
	c.AddSSHKey("people", "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f")
	tf := newTerraform(t, c, oneServer)
	tf.run("apply", "-auto-approve")
	if all := c.Alive(); len(all) != 1 || all[0].Name != "w1" || all[0].Labels["mesh"] != "m1" || all[0].Status != "running" {
		t.Fatalf("there are %+v", all)
	}
	if out := tf.run("plan"); !strings.Contains(out, "No changes") {
		t.Errorf("there is something to change:\n%s", out)
	}
	tf.write("main.tf", strings.Replace(tf.read("main.tf"), `"m1"`, `"m2"`, 1))
	tf.run("apply", "-auto-approve")
	if all := c.Alive(); len(all) != 1 || all[0].Labels["mesh"] != "m2" {
		t.Errorf("there are %+v", all)
	}
	tf.run("destroy", "-auto-approve")
	if left := c.Alive(); len(left) != 0 || len(c.Ever()) != 1 {
		t.Errorf("left: %+v of %+v", left, c.Ever())
	}
	for _, v := range c.Violations() {
		t.Errorf("not as described: %s", v)
	}
	t.Logf("%d calls, %d requests and answers held against the description", len(c.Calls()), c.Checked())
}

func (tf terraform) read(name string) string {
	tf.Helper()
	data, err := os.ReadFile(filepath.Join(tf.dir, name))
	if err != nil {
		tf.Fatal(err)
	}
	return string(data)
}
