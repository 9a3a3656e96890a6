package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) sshConfig() *cobra.Command {
	var known bool
	cmd := &cobra.Command{
		Use:   "ssh-config",
		Short: "Print a block for ~/.ssh/config",
		Long: "Print a block for ~/.ssh/config, with which `ssh TASK@NODE`, `ssh TASK.samnode`, scp, sftp and editors get\n" +
			"into workspaces. The tailnet says who you are, so there are no keys of yours; the mesh's own key is in the block,\n" +
			"the same for all nodes.\n\n" +
			"  samnode ssh-config >> ~/.ssh/config\n\n" +
			"Clients that are not OpenSSH read ~/.ssh/known_hosts instead: samnode ssh-config --known-hosts >> ~/.ssh/known_hosts",
		Args: args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&known, "known-hosts", false, "print the line for ~/.ssh/known_hosts instead")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var info sshInfo
		if err := c.client().call(cmd.Context(), http.MethodGet, "ssh", nil, &info); err != nil {
			return err
		}
		return c.print(info, func(w io.Writer) {
			if known {
				fmt.Fprintln(w, info.knownHosts())
				return
			}
			fmt.Fprint(w, info.config(c.api, ownPath()))
		})
	}
	return cmd
}

// ownPath is how a shell runs this program.
func ownPath() string {
	if p, err := os.Executable(); err == nil {
		return p
	}
	return "samnode"
}

// proxyWord is one word of a ProxyCommand: ssh fills in what begins with %, and
// the shell reads the rest.
func proxyWord(s string) string {
	return "'" + strings.NewReplacer("%", "%%", "'", `'\''`).Replace(s) + "'"
}

// names are all by which a client may know a node.
func (i sshInfo) names() []string {
	names := []string{i.Mesh}
	for _, n := range i.Nodes {
		names = append(names, n.Name, n.Host)
		if short, _, _ := strings.Cut(n.Host, "."); short != n.Name && short != n.Host {
			names = append(names, short)
		}
	}
	return names
}

// knownHosts is the line that tells the mesh's key.
func (i sshInfo) knownHosts() string { return strings.Join(i.names(), ",") + " " + i.HostKey }

// config is the block. Without a tailnet the way leads through the API of the
// node on this machine.
func (i sshInfo) config(api, program string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Workspaces of the mesh %s: ssh TASK@NODE, or ssh TASK.%s\n", i.Mesh, localSSH)
	hosts := i.names()[1:]
	if len(i.Nodes) == 0 {
		hosts = []string{localSSH}
		fmt.Fprintf(&b, "Host %s\n  ProxyCommand %s --api %s ssh --stdio\n", localSSH, proxyWord(program), proxyWord(api))
	}
	for _, n := range i.Nodes {
		fmt.Fprintf(&b, "Host %s\n  HostName %s\n", n.Name, n.Host)
	}
	// A workspace's own name, which no DNS knows: ssh tells it to the command alone.
	fmt.Fprintf(&b, "Host *.%s\n  ProxyCommand %s --api %s ssh --stdio -- '%%n'\n", localSSH, proxyWord(program), proxyWord(api))
	hosts = append(hosts, "*."+localSSH)
	fmt.Fprintf(&b, "Host %s\n  HostKeyAlias %s\n  KnownHostsCommand /bin/echo %s %s\n", strings.Join(hosts, " "), i.Mesh, i.Mesh, i.HostKey)
	b.WriteString("  StrictHostKeyChecking yes\n  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null\n" +
		"  PreferredAuthentications none\n  ForwardAgent no\n  ServerAliveInterval 15\n" +
		"  Ciphers ^aes128-gcm@openssh.com,aes256-gcm@openssh.com\n") // twice as quick here as ssh's own choice
	return b.String()
}
