package githubtest

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// Specification is the package that carries GitHub's OpenAPI description.
const Specification = "@octokit/openapi@23.0.2"

// Spec is GitHub's own description of the part of its API that is used here.
type Spec struct {
	Version string // of GitHub's API
	ops     []operation
	fault   *openapi3.Schema // shape of undeclared errors
}

type operation struct {
	method string
	path   *regexp.Regexp
	name   string
	op     *openapi3.Operation
}

// LoadSpec gets the description by npm, once into this user's cache, and reads
// it, once in a process. An error says why there is none, e.g. no network.
var LoadSpec = sync.OnceValues(loadSpec)

func loadSpec() (*Spec, error) {
	data, err := readSpec()
	if err != nil {
		return nil, err
	}
	pruned, err := prune(data)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(pruned)
	if err != nil {
		return nil, fmt.Errorf("reading GitHub's OpenAPI description: %w", err)
	}
	s := &Spec{Version: doc.Info.Version, fault: doc.Components.Schemas["basic-error"].Value}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			s.ops = append(s.ops, operation{method, pathRE(path), path, op})
		}
	}
	return s, nil
}

// used are the paths that the fake serves. The whole description is 13 MB.
var used = []string{
	"/user", "/rate_limit", "/repos/{owner}/{repo}", "/repos/{owner}/{repo}/pulls", "/repos/{owner}/{repo}/pulls/{pull_number}",
	"/repos/{owner}/{repo}/pulls/{pull_number}/reviews", "/repos/{owner}/{repo}/commits/{ref}/check-runs",
	"/repos/{owner}/{repo}/commits/{ref}/status", "/repos/{owner}/{repo}/git/ref/{ref}", "/app/installations/{installation_id}/access_tokens",
}

func prune(data []byte) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading GitHub's OpenAPI description: %w", err)
	}
	all, _ := doc["paths"].(map[string]any)
	paths := map[string]any{}
	for _, p := range used {
		if all[p] == nil {
			return nil, fmt.Errorf("GitHub's OpenAPI description lacks %s", p)
		}
		paths[p] = all[p]
	}
	doc["paths"] = paths
	delete(doc, "x-webhooks")
	delete(doc, "webhooks")
	dropExamples(doc)
	return json.Marshal(doc)
}

// dropExamples removes what is large and not a rule.
func dropExamples(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, isMap := v["examples"].(map[string]any); isMap {
			delete(v, "examples")
		}
		for _, sub := range v {
			dropExamples(sub)
		}
	case []any:
		for _, sub := range v {
			dropExamples(sub)
		}
	}
}

// readSpec returns the description from the cache, filled by npm.
func readSpec() ([]byte, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the cache: %w", err)
	}
	dir := filepath.Join(cache, "samnode-test")
	file := filepath.Join(dir, strings.NewReplacer("@", "", "/", "-").Replace(Specification)+".json")
	if data, err := os.ReadFile(file); err == nil {
		return data, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, "npm-")
	if err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("npm", "pack", "--silent", "--pack-destination", tmp, Specification)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("getting %s by npm: %w: %s", Specification, err, out)
	}
	data, err := untar(tmp, "package/generated/api.github.com.json")
	if err != nil {
		return nil, err
	}
	part := filepath.Join(tmp, "spec.json")
	if err := os.WriteFile(part, data, 0o644); err != nil {
		return nil, fmt.Errorf("filling the cache: %w", err)
	}
	return data, os.Rename(part, file)
}

// untar reads one file of the only archive in a folder.
func untar(dir, name string) ([]byte, error) {
	packs, _ := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if len(packs) != 1 {
		return nil, fmt.Errorf("npm left %d archives", len(packs))
	}
	f, err := os.Open(packs[0])
	if err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the archive lacks %s", name)
		} else if err != nil {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		if h.Name == name {
			return io.ReadAll(t)
		}
	}
}

var braces = regexp.MustCompile(`\{[^}]+\}`)

// pathRE: {ref} may hold slashes, escaped or not; nothing else may.
func pathRE(path string) *regexp.Regexp {
	re := braces.ReplaceAllStringFunc(path, func(name string) string {
		if name == "{ref}" && strings.HasSuffix(path, "{ref}") {
			return ".+"
		}
		return "[^/]+"
	})
	return regexp.MustCompile("^" + re + "$")
}

// Validate holds every request and answer from now on against the
// specification; Faults returns what did not agree.
func (s *Server) Validate(spec *Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spec = spec
}

// Faults returns what did not agree with the specification.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.faults...)
}

// compare returns how one exchange differs from the specification.
func (s *Spec) compare(req *http.Request, body []byte, status int, answer []byte) []string {
	path := strings.TrimPrefix(req.URL.EscapedPath(), "/api/v3")
	if path == "/api/graphql" {
		return nil // not REST
	}
	var o *operation
	for i := range s.ops {
		if s.ops[i].method == req.Method && s.ops[i].path.MatchString(path) {
			o = &s.ops[i]
		}
	}
	if o == nil {
		return []string{fmt.Sprintf("%s %s is not in the specification", req.Method, path)}
	}
	var faults []string
	fault := func(what string, err error) {
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s %s: %s: %v", req.Method, o.name, what, err))
		}
	}
	fault("query", o.query(req))
	fault("request", o.request(body))
	fault(fmt.Sprintf("answer %d", status), s.answer(o, status, answer))
	return faults
}

func (o *operation) query(req *http.Request) error {
	for name, values := range req.URL.Query() {
		p := o.op.Parameters.GetByInAndName("query", name)
		if p == nil {
			return fmt.Errorf("no parameter %q", name)
		}
		if err := p.Schema.Value.VisitJSON(scalar(p.Schema.Value, values[0])); err != nil {
			return fmt.Errorf("parameter %q: %w", name, err)
		}
	}
	return nil
}

func scalar(schema *openapi3.Schema, text string) any {
	var n float64
	if schema.Type.Is("integer") {
		if _, err := fmt.Sscan(text, &n); err == nil {
			return n
		}
	}
	return text
}

func (o *operation) request(body []byte) error {
	if o.op.RequestBody == nil {
		if len(strings.TrimSpace(string(body))) > 0 {
			return errors.New("there is a body")
		}
		return nil
	}
	if len(body) == 0 {
		return nil
	}
	return visit(o.op.RequestBody.Value.Content, body)
}

// answer: errors that are not declared for an operation have the shape that
// all of GitHub's have.
func (s *Spec) answer(o *operation, status int, body []byte) error {
	if status == http.StatusNotModified {
		if len(body) > 0 {
			return errors.New("there is a body")
		}
		return nil
	}
	res := o.op.Responses.Status(status)
	if res == nil && status >= 400 {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			return err
		}
		return s.fault.VisitJSON(v)
	}
	if res == nil {
		return errors.New("it is not declared")
	}
	return visit(res.Value.Content, body)
}

func visit(content openapi3.Content, body []byte) error {
	media := content.Get("application/json")
	if media == nil || media.Schema == nil {
		return nil
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return media.Schema.Value.VisitJSON(v, openapi3.MultiErrors())
}
