package git

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	maxUpdates = 1000
	zeroPrefix = "0000000000000000000000000000000000000000"
)

// update is one line of a push: move ref from old to new.
type update struct{ old, new, ref string }

// pushRequest is the head of receive-pack's request; the pack follows it.
type pushRequest struct {
	updates []update
	shallow []string
	caps    map[string]string
}

func (p pushRequest) has(name string) bool { _, ok := p.caps[name]; return ok }

func isZero(id string) bool { return strings.HasPrefix(id, zeroPrefix) }

// parsePush reads up to the flush that ends the commands.
func parsePush(r *bufio.Reader) (pushRequest, error) {
	p := pushRequest{caps: map[string]string{}}
	for {
		raw, err := readPkt(r)
		if err != nil {
			return p, fmt.Errorf("reading the push: %w", err)
		}
		if raw == nil {
			return p, nil
		}
		line, caps, hasCaps := strings.Cut(string(raw), "\x00")
		line = strings.TrimSuffix(line, "\n")
		if hasCaps && len(p.updates) == 0 {
			for c := range strings.FieldsSeq(caps) {
				k, v, _ := strings.Cut(c, "=")
				p.caps[k] = v
			}
		}
		if id, ok := strings.CutPrefix(line, "shallow "); ok && hexRE.MatchString(id) {
			p.shallow = append(p.shallow, id)
			continue
		}
		f := strings.SplitN(line, " ", 3)
		if len(f) != 3 || !hexRE.MatchString(f[0]) || !hexRE.MatchString(f[1]) || len(p.updates) == maxUpdates {
			return p, fmt.Errorf("reading the push: %w", errPkt)
		}
		p.updates = append(p.updates, update{f[0], f[1], f[2]})
	}
}

func (s *service) receivePack(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Content-Encoding") != "" {
		s.refuse(w, http.StatusUnsupportedMediaType, "a compressed push", "a push must not be compressed as a whole")
		return
	}
	body := bufio.NewReader(http.MaxBytesReader(w, req.Body, s.a.MaxBody))
	p, err := parsePush(body)
	if err != nil {
		http.Error(w, "samnode: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
	w.Header().Set("Cache-Control", "no-cache")
	if len(p.updates) == 0 {
		return // git probes with an empty request before a large one
	}
	rep := &report{w: &flusher{w: w, rc: http.NewResponseController(w)}, p: p}
	verdicts := s.judge(p)
	if len(verdicts) > 0 {
		// git wants to send all of its pack before it reads.
		_, _ = io.Copy(io.Discard, body)
		rep.end("ok", verdicts)
		return
	}
	u := p.updates[0]
	if err := s.accept(req.Context(), p, body, rep); err != nil {
		why := s.why(err)
		s.refused("push of "+short(u.new)+" to "+u.ref, why)
		_, _ = io.Copy(io.Discard, body)
		rep.end("ok", map[string]string{u.ref: why})
		return
	}
	rep.end("ok", nil)
}

// judge says what is wrong with each ref of a push, before anything is read;
// one wrong ref stops all of them.
func (s *service) judge(p pushRequest) map[string]string {
	verdicts := map[string]string{}
	mine := "refs/heads/" + s.a.Branch
	for _, u := range p.updates {
		var why string
		switch stale := s.alive(); {
		case stale != nil:
			why = stale.Error()
		case s.a.Branch == "":
			why = "nothing may be pushed from here"
		case u.ref != mine:
			why = "only " + s.a.Branch + " may be pushed"
		case isZero(u.new):
			why = s.a.Branch + " may not be deleted"
		case p.has("push-cert"):
			why = "signed pushes are not supported"
		default:
			continue
		}
		verdicts[u.ref] = why
		s.refused("push to "+u.ref, why)
	}
	if len(verdicts) == 0 && len(p.updates) > 1 {
		verdicts[mine] = "it is named twice"
	}
	for _, u := range p.updates {
		if len(verdicts) > 0 && verdicts[u.ref] == "" {
			verdicts[u.ref] = "not pushed, because another ref of this push was refused"
		}
	}
	return verdicts
}

// accept takes the pack into the mirror, then the commit to the remote.
func (s *service) accept(ctx context.Context, p pushRequest, pack io.Reader, rep *report) error {
	u := p.updates[0]
	in := "refs/samnode/in/" + strings.ToLower(rand.Text())
	if err := s.receive(ctx, p, in, pack); err != nil {
		return err
	}
	// The ref only holds the objects until the branch, or unpushed, does.
	defer func() {
		if err := s.r.dropRef(context.WithoutCancel(ctx), in); err != nil {
			s.r.m.c.Logger.Warn("clearing up after a push", "err", err)
		}
	}()
	if err := s.r.acquire(ctx); err != nil {
		return fmt.Errorf("waiting for the mirror: %w", err)
	}
	defer s.r.release()
	up := upload{commit: u.new, branch: s.a.Branch, within: s.within, say: rep.say}
	if err := s.check(ctx, u, &up); err != nil {
		return err
	}
	if err := s.alive(); err != nil {
		return err
	}
	if err := s.r.publishLocked(ctx, s.a.Auth, up); err != nil {
		return err
	}
	if s.a.Pushed != nil {
		s.a.Pushed(u.new)
	}
	return nil
}

// receive lets git unpack and check the pack, with the new commit under a ref
// that nobody sees.
func (s *service) receive(ctx context.Context, p pushRequest, in string, pack io.Reader) error {
	u := p.updates[0]
	var head []byte
	for _, id := range p.shallow {
		head = pkt(head, "shallow "+id)
	}
	caps := " report-status"
	if f, ok := p.caps["object-format"]; ok {
		caps += " object-format=" + f
	}
	head = pkt(head, strings.Repeat("0", len(u.new))+" "+u.new+" "+in+"\x00"+caps)
	head = append(head, flushPkt...)
	res, err := s.r.run(ctx, "taking the push", command{
		args:  []string{"receive-pack", "--stateless-rpc", s.r.dir},
		stdin: io.MultiReader(bytes.NewReader(head), pack),
	})
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("the push is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return err
	}
	answers := bufio.NewReader(bytes.NewReader(res.out))
	for {
		line, err := readPkt(answers)
		if err != nil || line == nil {
			return s.r.classify("taking the push", res.stderr)
		}
		text := strings.TrimSpace(string(line))
		if text == "ok "+in {
			return nil
		}
		if bad, ok := strings.CutPrefix(text, "ng "+in); ok {
			return s.r.classify("taking the push", res.stderr+"\n"+bad)
		}
		if why, ok := strings.CutPrefix(text, "unpack "); ok && why != "ok" {
			return s.r.classify("taking the push", res.stderr+"\n"+why)
		}
	}
}

// check compares with what the remote has: a push adds commits to the branch
// as it is, or is refused.
func (s *service) check(ctx context.Context, u update, up *upload) error {
	kind, err := s.r.run(ctx, "reading the push", command{args: []string{"cat-file", "-t", u.new}})
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(kind.out)) != "commit" {
		return errors.New("a branch must be a commit")
	}
	tip, err := s.r.lookup(ctx, "refs/heads/"+s.a.Branch)
	if err != nil || tip == "" {
		return err
	}
	ahead, err := s.r.isAncestor(ctx, tip, u.new)
	if err != nil || ahead {
		return err
	}
	if s.a.Rewrite && u.old == tip {
		up.lease = &tip
		return nil
	}
	if u.old != tip {
		return &Error{Kind: ErrMoved, Text: "the branch has newer commits: fetch first"}
	}
	return &Error{Kind: ErrMoved, Text: "non-fast-forward: pushed commits of " + s.a.Branch + " may not be rewritten; merge instead"}
}

// why is an error in one line for the agent.
func (s *service) why(err error) string {
	if errors.Is(err, ErrMoved) && !strings.Contains(err.Error(), "fetch first") && !strings.Contains(err.Error(), "non-fast-forward") {
		return "the remote has newer commits: fetch first"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func short(id string) string { return id[:min(len(id), 10)] }

// report is the answer to a push, in the client's own protocol: git shows a
// reason behind "! [remote rejected]".
type report struct {
	w io.Writer
	p pushRequest
}

// say shows a line of the remote to the agent while the push goes on.
func (r *report) say(line string) {
	if said, ok := strings.CutPrefix(line, "remote:"); ok && r.p.has("side-band-64k") {
		_, _ = r.w.Write(band(nil, 2, []byte(strings.TrimSpace(said)+"\n")))
	}
}

// end writes the verdicts: a ref that has none went well.
func (r *report) end(unpack string, verdicts map[string]string) {
	if !r.p.has("report-status") && !r.p.has("report-status-v2") {
		return
	}
	lines := pkt(nil, "unpack "+unpack+"\n")
	for _, u := range r.p.updates {
		if why := verdicts[u.ref]; why != "" {
			if len(why) > 1000 {
				why = why[:1000] + "…"
			}
			lines = pkt(lines, "ng "+u.ref+" samnode: "+why+"\n")
			continue
		}
		lines = pkt(lines, "ok "+u.ref+"\n")
	}
	lines = append(lines, flushPkt...)
	if r.p.has("side-band-64k") {
		lines = append(band(nil, 1, lines), flushPkt...)
	}
	_, _ = r.w.Write(lines) // the workspace may be gone; the push is what it is
}
