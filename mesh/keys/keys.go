// Package keys asks a tailnet's control server for the keys with which new
// machines come onto it by themselves, and has it forget machines that are gone.
//
// A key lets one machine in, once, within minutes, with the mesh's tag, and the
// machine is ephemeral: the control server forgets it when it is away for long.
package keys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Lifetime is how long a key may be used. A machine asks for the tailnet about a
// minute after it was ordered; what was not used then is of no use to others.
const Lifetime = 15 * time.Minute

// The kinds of refusal.
var (
	// ErrDenied says that the credentials are wrong, or may not do that.
	ErrDenied = errors.New("the control server refuses the credentials")
	// ErrAway says that the control server gave no answer that counts.
	ErrAway = errors.New("the control server does not answer")
)

// Config is how one control server's API is reached.
type Config struct {
	// URL is the API's; empty: Tailscale's.
	URL string
	// Tag is what the machines get, with "tag:".
	Tag string
	// Credentials, one of two: of an OAuth client of Tailscale with the scopes
	// auth_keys and devices:core, which owns the tag, or an API key of headscale.
	ClientID, ClientSecret string
	APIKey                 string
	// Client is for tests; nil: one with a time limit.
	Client *http.Client
}

// tailscaleAPI is where Tailscale's API is.
const tailscaleAPI = "https://api.tailscale.com"

// Server is a control server's API.
type Server struct {
	c   Config
	api api
}

// api is what differs between the two.
type api interface {
	mint(ctx context.Context, s *Server, note string, expires time.Time) (string, error)
	find(ctx context.Context, s *Server, addr netip.Addr) (path string, err error)
	authorize(ctx context.Context, s *Server) (bearer string, err error)
}

// New returns the API of the control server that the credentials are for.
func New(c Config) (*Server, error) {
	s := &Server{c: c}
	switch {
	case c.Tag == "":
		return nil, errors.New("keys need a tag")
	case c.ClientID != "" && c.ClientSecret != "" && c.APIKey == "":
		s.api = tailscale{}
	case c.APIKey != "" && c.ClientID == "" && c.ClientSecret == "" && c.URL != "":
		s.api = headscale{}
	default:
		return nil, errors.New("give the id and the secret of an OAuth client of Tailscale, or the URL of headscale and an API key of it")
	}
	if s.c.URL == "" {
		s.c.URL = tailscaleAPI
	}
	if _, err := url.Parse(s.c.URL); err != nil {
		return nil, fmt.Errorf("the address of the control server's API: %w", err)
	}
	s.c.URL = strings.TrimRight(s.c.URL, "/")
	if s.c.Client == nil {
		s.c.Client = &http.Client{Timeout: 30 * time.Second}
	}
	return s, nil
}

// Mint makes a key for one machine. The note is for people who look at the keys
// in the control server. Errors wrap ErrDenied or ErrAway.
func (s *Server) Mint(ctx context.Context, note string) (string, error) {
	key, err := s.api.mint(ctx, s, note, time.Now().Add(Lifetime))
	if err == nil && key == "" {
		err = fmt.Errorf("%w: its answer has no key", ErrAway)
	}
	if err != nil {
		return "", fmt.Errorf("making a key for a machine: %w", err)
	}
	return key, nil
}

// Check makes a key to see that it can. It runs out unused.
func (s *Server) Check(ctx context.Context) error {
	_, err := s.Mint(ctx, "samnode doctor: runs out unused")
	return err
}

// Forget removes the device with that address from the tailnet. One that is not
// there is forgotten already.
func (s *Server) Forget(ctx context.Context, addr netip.Addr) error {
	path, err := s.api.find(ctx, s, addr)
	if err == nil && path != "" {
		err = s.call(ctx, http.MethodDelete, path, nil, nil)
	}
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("removing the device %s from the tailnet: %w", addr, err)
	}
	return nil
}

var errGone = errors.New("there is no such thing")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// call sends JSON with the credentials and reads JSON.
func (s *Server) call(ctx context.Context, method, path string, in, out any) error {
	bearer, err := s.api.authorize(ctx, s)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding what is asked: %w", err)
		}
		body = bytes.NewReader(data)
	}
	return s.send(ctx, method, path, "application/json", bearer, body, out)
}

func (s *Server) send(ctx context.Context, method, path, kind, bearer string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.c.URL+path, body)
	if err != nil {
		return fmt.Errorf("asking the control server: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := s.c.Client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	if err := refusal(resp.StatusCode, data); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%w: its answer is not what was expected: %w", ErrAway, err)
	}
	return nil
}

// refusal is nil for an answer that is none.
func refusal(status int, data []byte) error {
	if status < 300 {
		return nil
	}
	var said struct{ Message, Error string }
	if json.Unmarshal(data, &said) != nil {
		said.Message = ""
	}
	why := fmt.Sprintf("%d %s", status, strings.TrimSpace(said.Message+" "+said.Error))
	switch {
	case status == http.StatusNotFound:
		return fmt.Errorf("%w (%s)", errGone, why)
	case status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout:
		return fmt.Errorf("%w (%s)", ErrDenied, why)
	}
	return fmt.Errorf("%w (%s)", ErrAway, why)
}
