package hetznertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// Spec is Hetzner's own description of the API.
type Spec struct{ router routers.Router }

// SpecFile finds the description: where HETZNER_OPENAPI says, or in
// ../shared/hetzner beside the checkout that holds the working directory.
func SpecFile() (string, error) {
	file := os.Getenv("HETZNER_OPENAPI")
	if file == "" {
		dir, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("finding the checkout: %w", err)
		}
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			if dir == filepath.Dir(dir) {
				return "", errors.New("there is no checkout around the working directory")
			}
		}
		file = filepath.Join(filepath.Dir(dir), "shared", "hetzner", "hcloud.json")
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("finding the description of Hetzner's API (HETZNER_OPENAPI says where): %w", err)
	}
	return file, nil
}

// LoadSpec reads the description of [SpecFile], once in a process.
var LoadSpec = sync.OnceValues(func() (*Spec, error) {
	file, err := SpecFile()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the description of Hetzner's API: %w", err)
	}
	return ReadSpec(data)
})

// served are the parts of the API that the cloud has.
var served = []string{"servers", "actions", "server_types", "locations", "images", "pricing", "primary_ips", "ssh_keys", "datacenters"}

// ReadSpec reads a description.
func ReadSpec(data []byte) (*Spec, error) {
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, fmt.Errorf("reading the description of Hetzner's API: %w", err)
	}
	doc.Servers = nil // any host
	for path, item := range doc.Paths.Map() {
		item.Servers = nil
		if !contains(served, strings.Split(path, "/")[1]) {
			doc.Paths.Delete(path)
		}
	}
	for _, part := range served {
		if doc.Paths.Find("/"+part) == nil {
			return nil, fmt.Errorf("the description of Hetzner's API lacks /%s", part)
		}
	}
	keysByNumber(doc)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("reading the description of Hetzner's API: %w", err)
	}
	return &Spec{router: router}, nil
}

// keysByNumber allows an SSH key to be named by its number, as Hetzner's own
// clients do; the description knows names only.
func keysByNumber(doc *openapi3.T) {
	body := doc.Paths.Find("/servers").Post.RequestBody.Value.Content.Get("application/json").Schema.Value
	keys := body.Properties["ssh_keys"].Value
	keys.Items = openapi3.NewSchemaRef("", openapi3.NewOneOfSchema(openapi3.NewStringSchema(), openapi3.NewInt64Schema()))
}

// Violation is one way in which a call was not as described.
type Violation struct {
	Call string // "POST /v1/servers"
	Side string // request or answer
	Text string
}

func (v Violation) String() string { return v.Call + ": " + v.Side + ": " + v.Text }

// Validate holds every request and answer from now on against the description.
func (c *Cloud) Validate(s *Spec) { c.change(func() { c.spec = s }) }

// Violations are what was not as described, and Checked how many requests and
// answers were held against it.
func (c *Cloud) Violations() []Violation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Violation(nil), c.broken...)
}

// Checked is how many requests and answers were held against the description.
func (c *Cloud) Checked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checked
}

func (c *Cloud) compare(r *http.Request, body []byte, a answer, h http.Header, data []byte) {
	c.mu.Lock()
	spec := c.spec
	c.mu.Unlock()
	if spec == nil {
		return
	}
	n, found := spec.compare(r, body, a, h, data)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked += n
	c.broken = append(c.broken, found...)
}

func (s *Spec) compare(r *http.Request, body []byte, a answer, h http.Header, data []byte) (n int, found []Violation) {
	call := r.Method + " " + r.URL.RequestURI()
	add := func(side string, err error) {
		n++
		if err != nil {
			found = append(found, Violation{call, side, flat(err)})
		}
	}
	in := r.Clone(context.WithoutCancel(r.Context()))
	in.URL.Scheme, in.URL.Host, in.Host = "", "", ""
	in.URL.Path = strings.TrimPrefix(in.URL.Path, "/v1")
	in.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := s.router.FindRoute(in)
	if err != nil {
		add("request", fmt.Errorf("it is not in the description: %w", err))
		return n, found
	}
	options := &openapi3filter.Options{MultiError: true, IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	request := &openapi3filter.RequestValidationInput{Request: in, PathParams: params, Route: route, Options: options}
	add("request", errors.Join(openapi3filter.ValidateRequest(in.Context(), request), unknownQuery(in, route)))
	if a.wrong {
		return n, found
	}
	response := &openapi3filter.ResponseValidationInput{RequestValidationInput: request, Status: a.status, Header: h, Options: options}
	response.SetBodyBytes(data)
	add("answer", openapi3filter.ValidateResponse(in.Context(), response))
	return n, found
}

// unknownQuery is for parameters that nobody described; the filter lets them
// pass. Those of lists are sent by Hetzner's own clients to all lists.
func unknownQuery(r *http.Request, route *routers.Route) error {
	for name := range r.URL.Query() {
		if route.Operation.Parameters.GetByInAndName("query", name) == nil && !contains([]string{"page", "per_page", "sort"}, name) {
			return fmt.Errorf("there is no parameter %q", name)
		}
	}
	return nil
}

// flat is an error on one line.
func flat(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > 600 {
		s = s[:600] + "…"
	}
	return s
}
