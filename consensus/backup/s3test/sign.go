package s3test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	timeForm  = "20060102T150405Z"
	maxSkew   = 15 * time.Minute
	streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	unsigned  = "UNSIGNED-PAYLOAD" // taken here where there is none
)

// signed is what a request says of its signature (version 4).
type signed struct {
	scope     string // date/region/s3/aws4_request
	at        string
	headers   []string
	signature string
	key       []byte // to sign with, for this scope
}

// check refuses a request whose signature is not right, and returns its body.
func (s *Server) check(r *http.Request) ([]byte, error) {
	sig, err := s.parse(r)
	if err != nil {
		return nil, err
	}
	sum := r.Header.Get("X-Amz-Content-Sha256")
	request := strings.Join([]string{
		r.Method, escape(r.URL.Path, "/"), query(r.URL.Query()),
		headers(r, sig.headers), strings.Join(sig.headers, ";"), sum,
	}, "\n")
	if want := sig.sign(algorithm, hash([]byte(request))); sig.signature != want {
		return nil, &fault{"SignatureDoesNotMatch", 403, "of the request"}
	}
	if sum == streaming {
		return sig.chunks(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, &fault{"IncompleteBody", 400, err.Error()}
	}
	if sum != hash(body) && (sum != unsigned || len(body) > 0) {
		return nil, &fault{"XAmzContentSHA256Mismatch", 400, sum}
	}
	return body, nil
}

func (s *Server) parse(r *http.Request) (*signed, error) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm+" ")
	if !ok {
		return nil, &fault{"AccessDenied", 403, "not signed"}
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[name] = value
	}
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	if id != Key {
		return nil, &fault{"InvalidAccessKeyId", 403, id}
	}
	sig := &signed{
		scope: scope, at: r.Header.Get("X-Amz-Date"),
		headers: strings.Split(fields["SignedHeaders"], ";"), signature: fields["Signature"],
	}
	at, err := time.Parse(timeForm, sig.at)
	if err != nil || time.Since(at).Abs() > maxSkew {
		return nil, &fault{"RequestTimeTooSkewed", 403, sig.at}
	}
	if scope != at.Format("20060102")+"/"+s.region()+"/s3/aws4_request" {
		return nil, &fault{"AuthorizationHeaderMalformed", 400, scope}
	}
	for name := range r.Header { // what matters has to be under the signature
		name = strings.ToLower(name)
		if (strings.HasPrefix(name, "x-amz-") || name == "range") && !slices.Contains(sig.headers, name) {
			return nil, &fault{"AccessDenied", 403, name + " is not signed"}
		}
	}
	if !slices.Contains(sig.headers, "host") {
		return nil, &fault{"AccessDenied", 403, "host is not signed"}
	}
	sig.key = []byte("AWS4" + Secret)
	for part := range strings.SplitSeq(scope, "/") {
		sig.key = mac(sig.key, part)
	}
	return sig, nil
}

func (sig *signed) sign(kind string, lines ...string) string {
	text := strings.Join(append([]string{kind, sig.at, sig.scope}, lines...), "\n")
	return hex.EncodeToString(mac(sig.key, text))
}

// chunks reads a body each chunk of which is signed, and refers to the one
// before.
func (sig *signed) chunks(r *http.Request) ([]byte, error) {
	in := bufio.NewReader(r.Body)
	var body bytes.Buffer
	for before := sig.signature; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, &fault{"IncompleteBody", 400, err.Error()}
		}
		size, signature, _ := strings.Cut(strings.TrimSpace(line), ";chunk-signature=")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil {
			return nil, &fault{"InvalidChunk", 400, line}
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(in, data); err != nil {
			return nil, &fault{"IncompleteBody", 400, err.Error()}
		}
		data = data[:n]
		if sig.sign(algorithm+"-PAYLOAD", before, hash(nil), hash(data)) != signature {
			return nil, &fault{"SignatureDoesNotMatch", 403, "of a chunk"}
		}
		before = signature
		body.Write(data)
		if n == 0 {
			break
		}
	}
	if want := r.Header.Get("X-Amz-Decoded-Content-Length"); want != strconv.Itoa(body.Len()) {
		return nil, &fault{"IncompleteBody", 400, fmt.Sprintf("%d bytes of %s", body.Len(), want)}
	}
	return body.Bytes(), nil
}

func headers(r *http.Request, names []string) string {
	var out strings.Builder
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		fmt.Fprintf(&out, "%s:%s\n", name, strings.TrimSpace(value))
	}
	return out.String()
}

func query(q url.Values) string {
	var parts []string
	for name, values := range q {
		for _, v := range values {
			parts = append(parts, escape(name, "")+"="+escape(v, ""))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// escape encodes all but what RFC 3986 leaves unreserved, and keep.
func escape(s, keep string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~"+keep, c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
