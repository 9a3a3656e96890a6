package git

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// remote is a URL that was checked.
type remote struct {
	url  string // as given, without a trailing slash
	kind string // https, http, ssh, file: git's protocol name
	site string // scheme://host[:port]/ of http and https
	path string // of file
}

var (
	scpRE  = regexp.MustCompile(`^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:[^:/-][^:]*$|^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:/[^/].*$`)
	userRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+@-]*$`)
	hostRE = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)
	slugRE = regexp.MustCompile(`[^a-z0-9]+`)
)

// CheckURL says whether a repository's URL is one that samnode can work with.
func CheckURL(s string) error {
	_, err := parseURL(s)
	return err
}

func badURL(s, why string) error {
	return &Error{Kind: ErrURL, Text: fmt.Sprintf("the repository URL %q cannot be used: %s", s, why)}
}

func parseURL(s string) (remote, error) {
	s = strings.TrimRight(s, "/")
	switch {
	case s == "":
		return remote{}, badURL(s, "it is empty")
	case len(s) > 2048:
		return remote{}, badURL(s[:60]+"…", "it is too long")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' || r == '"' || r == 0xfffd }):
		return remote{}, badURL(s, "it has a space or a control character")
	case strings.HasPrefix(s, "-"):
		return remote{}, badURL(s, "it looks like an option")
	case strings.HasPrefix(s, "/"):
		return filePath(s, s)
	case strings.Contains(s, "://"):
		return parseScheme(s)
	case scpRE.MatchString(s):
		return remote{url: s, kind: "ssh"}, nil
	}
	return remote{}, badURL(s, "use https://…, ssh://…, user@host:path, or an absolute path")
}

func filePath(s, p string) (remote, error) {
	if p != path.Clean(p) || p == "/" || !strings.HasPrefix(p, "/") {
		return remote{}, badURL(s, "the path must be absolute and without . or .. in it")
	}
	return remote{url: s, kind: "file", path: p}, nil
}

func parseScheme(s string) (remote, error) {
	u, err := url.Parse(s)
	if err != nil {
		return remote{}, badURL(s, "it is not a URL")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return remote{}, badURL(u.Redacted(), "it has a query or a fragment")
	}
	if _, has := u.User.Password(); has {
		return remote{}, badURL(u.Redacted(), "it holds a password; put that into the project's secrets")
	}
	if u.User != nil && !userRE.MatchString(u.User.Username()) {
		return remote{}, badURL(s, "its user name is odd")
	}
	if u.Scheme == "file" {
		if u.Host != "" {
			return remote{}, badURL(s, "a file URL has no host: file:///path")
		}
		return filePath(s, u.Path)
	}
	if u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh" {
		return remote{}, badURL(s, "only https, http, ssh and file are supported")
	}
	if !hostRE.MatchString(u.Host) {
		return remote{}, badURL(s, "its host is odd")
	}
	if p := strings.Trim(u.Path, "/"); p == "" || strings.HasPrefix(p, "-") {
		return remote{}, badURL(s, "it names no repository")
	}
	rem := remote{url: s, kind: u.Scheme}
	if u.Scheme != "ssh" {
		rem.site = u.Scheme + "://" + u.Host + "/"
	}
	return rem, nil
}

// folder names the mirror: readable, and unique by the hash.
func (r remote) folder() string {
	sum := sha256.Sum256([]byte(r.url))
	base := strings.TrimSuffix(path.Base(strings.ReplaceAll(r.url, ":", "/")), ".git")
	slug := strings.Trim(slugRE.ReplaceAllString(strings.ToLower(base), "-"), "-")
	if len(slug) > 40 {
		slug = slug[:40]
	}
	if slug == "" {
		slug = "repo"
	}
	return slug + "-" + hex.EncodeToString(sum[:6]) + ".git"
}
