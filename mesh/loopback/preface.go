package loopback

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/samnode/samnode/mesh"
)

// A connection between nodes begins with a preface, in which both ends show
// that they know the mesh's secret:
//
//	caller: magic, its address, the service, a nonce
//	called: a nonce, proof("called")
//	caller: proof("caller")
//	called: a sentence; empty: welcome
//
// A proof is HMAC-SHA256 of who proves and of all that was said before, so it
// serves for this one connection only. Strings have a length of one byte.
const (
	magic     = "samnode\x01"
	nonceSize = 16
)

// ping is a service of the preface itself: welcome, and nothing after it.
const ping mesh.Service = "ping"

type preface struct {
	addr    string
	service mesh.Service
	nonces  [2 * nonceSize]byte // the caller's, the called one's
}

func (p *preface) proof(secret []byte, who string, called string) []byte {
	h := hmac.New(sha256.New, secret)
	for _, s := range []string{magic, who, called, p.addr, string(p.service), string(p.nonces[:])} {
		h.Write(text(s))
	}
	return h.Sum(nil)
}

// text is s with its length in front.
func text(s string) []byte { return append([]byte{byte(min(len(s), 255))}, s[:min(len(s), 255)]...) }

func readText(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// greet is the caller's half.
func (n *Node) greet(c net.Conn, to string, s mesh.Service) error {
	p := preface{addr: n.addr, service: s}
	rand.Read(p.nonces[:nonceSize])
	hello := append([]byte(magic), text(p.addr)...)
	hello = append(append(hello, text(string(s))...), p.nonces[:nonceSize]...)
	if _, err := c.Write(hello); err != nil {
		return fmt.Errorf("%w: %w", mesh.ErrUnreachable, err)
	}
	proof := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, p.nonces[nonceSize:]); err != nil {
		return fmt.Errorf("%w: it does not answer as a node: %w", mesh.ErrUnreachable, err)
	}
	if _, err := io.ReadFull(c, proof); err != nil {
		return fmt.Errorf("%w: it does not answer as a node: %w", mesh.ErrUnreachable, err)
	}
	if !hmac.Equal(proof, p.proof(n.secret, "called", to)) {
		return fmt.Errorf("%w: it does not know the secret of this mesh, or goes by another address", mesh.ErrStranger)
	}
	if _, err := c.Write(p.proof(n.secret, "caller", to)); err != nil {
		return fmt.Errorf("%w: %w", mesh.ErrUnreachable, err)
	}
	sentence, err := readText(c)
	if err != nil {
		return fmt.Errorf("%w: it closed the connection: %w", mesh.ErrUnreachable, err)
	}
	if sentence != "" {
		return refusal(sentence)
	}
	return nil
}

// refusal gives the errors of the mesh their meaning back.
func refusal(sentence string) error {
	for _, known := range []error{mesh.ErrStranger, mesh.ErrNotNode, mesh.ErrNotPerson, mesh.ErrNotUp} {
		if before, ok := strings.CutSuffix(sentence, known.Error()); ok {
			return fmt.Errorf("it refuses: %s%w", before, known)
		}
	}
	return fmt.Errorf("%w: it refuses: %s", mesh.ErrUnreachable, sentence)
}

// answer is the called node's half.
func (n *Node) answer(_ context.Context, c net.Conn) (mesh.Visit, error) {
	if err := n.sameUser(c); err != nil {
		return mesh.Visit{}, err
	}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(c, start); err != nil {
		return mesh.Visit{}, fmt.Errorf("reading the preface: %w", err)
	}
	if string(start) != magic {
		return mesh.Visit{}, fmt.Errorf("%w: it does not speak as a node of this version", mesh.ErrStranger)
	}
	p, err := readPreface(c)
	if err != nil {
		return mesh.Visit{}, fmt.Errorf("reading the preface: %w", err)
	}
	rand.Read(p.nonces[nonceSize:])
	if _, err := c.Write(append(p.nonces[nonceSize:], p.proof(n.secret, "called", n.addr)...)); err != nil {
		return mesh.Visit{}, fmt.Errorf("answering the preface: %w", err)
	}
	proof := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, proof); err != nil {
		return mesh.Visit{}, fmt.Errorf("reading the caller's proof: %w", err)
	}
	if !hmac.Equal(proof, p.proof(n.secret, "caller", n.addr)) {
		return mesh.Visit{}, fmt.Errorf("%w: it does not know the secret of this mesh", mesh.ErrStranger)
	}
	n.saw(p.addr, true)
	v := mesh.Visit{Service: p.service, Caller: mesh.Caller{Node: p.addr, Name: p.addr, Local: true}}
	if p.service == ping {
		_, err := c.Write(text(""))
		return v, errors.Join(errPinged, err)
	}
	v.Answer = func(refused error) error {
		sentence := ""
		if refused != nil {
			sentence = refused.Error()
		}
		_, err := c.Write(text(sentence))
		return err
	}
	return v, nil
}

// errPinged ends a connection that had no other purpose.
var errPinged = errors.New("the caller wanted to know whether this node is there")

func readPreface(r io.Reader) (*preface, error) {
	var p preface
	addr, err := readText(r)
	if err != nil {
		return nil, err
	}
	service, err := readText(r)
	if err != nil {
		return nil, err
	}
	if host, _, err := net.SplitHostPort(addr); err != nil || !IsLoopback(host) {
		return nil, fmt.Errorf("%w: it says that it is at %q", mesh.ErrStranger, addr)
	}
	p.addr, p.service = addr, mesh.Service(service)
	_, err = io.ReadFull(r, p.nonces[:nonceSize])
	return &p, err
}

// measure asks a peer whether it is there.
func (n *Node) measure(ctx context.Context, p *mesh.Peer) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	begin := time.Now()
	c, err := n.dial(ctx, p.Addr, ping)
	if err == nil {
		p.Latency = time.Since(begin)
		c.Close()
	}
	n.saw(p.Addr, err == nil)
	p.Online = err == nil
}
