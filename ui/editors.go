package ui

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/samnode/samnode/chat"
)

// SSHAddr is where ssh reaches a task's workspace.
type SSHAddr struct {
	User, Host string
	Dir        string // the working copy, absolute
}

func (a SSHAddr) String() string { return a.User + "@" + a.Host }

// sshAddr is the zero value where there is none for whoever looks.
func (s *Server) sshAddr(t chat.Task, may bool) SSHAddr {
	if s.SSH == nil || !may {
		return SSHAddr{}
	}
	return s.SSH(t)
}

// ssh is the command into the task's workspace, while there are both.
func (s *Server) ssh(t chat.Task) string {
	if s.SSH == nil || t.Lease == nil {
		return ""
	}
	return s.SSH(t).command()
}

func (a SSHAddr) command() string {
	if a.Host == "" {
		return ""
	}
	return "ssh " + a.String()
}

func forward(ssh string, port int) string {
	n := strconv.Itoa(port)
	return strings.Replace(ssh, "ssh ", "ssh -L "+n+":localhost:"+n+" ", 1)
}

// editors are links that open the working copy in an editor on the person's own
// computer, each in the form that the editor registers with the system:
//
//   - VS Code and its relatives: vscode://vscode-remote/ssh-remote+USER@HOST/DIR
//   - Zed: zed.dev/docs/remote-development, "zed://ssh/[USER@]HOST[:PORT]/PATH"
//   - JetBrains Gateway: its parameters are those that its own backend prints
func (a SSHAddr) editors() []link {
	if a.Host == "" {
		return nil
	}
	dir := (&url.URL{Path: a.Dir}).EscapedPath()
	at := url.PathEscape(a.User) + "@" + url.PathEscape(a.Host)
	gateway := url.Values{
		"host": {a.Host}, "port": {"22"}, "user": {a.User}, "type": {"ssh"}, "deploy": {"true"}, "projectPath": {a.Dir},
	}
	return []link{
		{Name: "VS Code", URL: "vscode://vscode-remote/ssh-remote+" + at + dir},
		{Name: "Cursor", URL: "cursor://vscode-remote/ssh-remote+" + at + dir},
		{Name: "Zed", URL: "zed://ssh/" + at + dir},
		{Name: "JetBrains Gateway", URL: "jetbrains-gateway://connect#" + gateway.Encode()},
	}
}
