// Package s3test is a small S3 server for tests: one bucket in memory, the
// requests a backup makes, and nothing that is not signed. It refuses what
// Amazon's would, and fails where a test tells it to.
package s3test

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Key, Secret and Bucket are what a Server knows.
const (
	Key    = "AKIATESTTESTTEST"
	Secret = "te/st+secret"
	Bucket = "copies"
)

// Server is one bucket. Its func fields are set before it is used.
type Server struct {
	// Host is its address, host:port, for plain HTTP.
	Host string
	// Fail answers a request with an S3 error code and a status, if the code
	// is not empty; may be nil.
	Fail func(*http.Request) (code string, status int)
	// Cut closes the connection after that many bytes of an object, once; 0
	// never does.
	Cut int
	// Page is how many keys a listing gives at once; 0 means 1000.
	Page int
	// Region is the bucket's; "" means us-east-1.
	Region string
	// MinPart is the least size of a part that is not the last; 0 means 5 MiB.
	MinPart int

	mu      sync.Mutex
	objects map[string]object
	uploads map[string]*upload
	next    int
	largest int64 // part or object that was sent
}

type object struct {
	data []byte
	at   time.Time
}

type upload struct {
	key   string
	at    time.Time
	parts map[int][]byte
}

// New starts a Server for the test.
func New(t testing.TB) *Server {
	s := &Server{objects: map[string]object{}, uploads: map[string]*upload{}}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.Host = strings.TrimPrefix(web.URL, "http://")
	return s
}

// URL returns the URL of a backup's destination with that prefix.
func (s *Server) URL(prefix string) string {
	return fmt.Sprintf("s3://%s@%s/%s/%s?insecure=1", url.UserPassword(Key, Secret), s.Host, Bucket, prefix)
}

// Keys returns the keys of all objects, sorted.
func (s *Server) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Get returns an object's bytes, nil when there is none.
func (s *Server) Get(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key].data
}

// Put makes an object.
func (s *Server) Put(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = object{bytes.Clone(data), time.Now().UTC()}
}

// Begin leaves an upload that was begun at that time and never ended.
func (s *Server) Begin(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.uploads[fmt.Sprint("upload", s.next)] = &upload{key, at.UTC(), map[int][]byte{1: []byte("part")}}
}

// Unfinished returns the keys of uploads that were begun and neither completed
// nor aborted.
func (s *Server) Unfinished() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for _, u := range s.uploads {
		keys = append(keys, u.key)
	}
	slices.Sort(keys)
	return keys
}

// Largest returns the size of the largest body that was sent in one request.
func (s *Server) Largest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.largest
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := s.check(r)
	if err == nil && s.Fail != nil {
		if code, status := s.Fail(r); code != "" {
			err = &fault{code, status, "as the test wants"}
		}
	}
	if err == nil {
		err = s.serve(w, r, body)
	}
	if err == nil {
		return
	}
	f, ok := errors.AsType[*fault](err)
	if !ok {
		f = &fault{"InternalError", 500, err.Error()}
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message><Region>%s</Region></Error>", f.code, f.message, s.region())
	}
}

func (s *Server) region() string { return cmp.Or(s.Region, "us-east-1") }

// fault is an S3 error.
type fault struct {
	code    string
	status  int
	message string
}

func (f *fault) Error() string { return f.code + ": " + f.message }

func (s *Server) serve(w http.ResponseWriter, r *http.Request, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.largest = max(s.largest, int64(len(body)))
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket != Bucket {
		return &fault{"NoSuchBucket", 404, bucket}
	}
	q := r.URL.Query()
	switch {
	case key == "" && r.Method == http.MethodGet && q.Has("location"):
		fmt.Fprintf(w, "<LocationConstraint>%s</LocationConstraint>", s.region())
	case key == "" && r.Method == http.MethodGet && q.Has("uploads"):
		s.listUploads(w, q)
	case key == "" && r.Method == http.MethodGet && q.Get("list-type") == "2":
		return s.list(w, q)
	case key != "" && r.Method == http.MethodPost && q.Has("uploads"):
		s.next++
		id := fmt.Sprint("upload", s.next)
		s.uploads[id] = &upload{key, time.Now().UTC(), map[int][]byte{}}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case key != "" && q.Has("uploadId"):
		return s.part(w, r, key, body)
	case key != "" && r.Method == http.MethodPut:
		s.objects[key] = object{body, time.Now().UTC()}
		w.Header().Set("ETag", etag(body))
	case key != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return s.get(w, r, key)
	case key != "" && r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		return &fault{"NotImplemented", 501, r.Method + " " + r.URL.String()}
	}
	return nil
}

// part is everything about an upload that was begun.
func (s *Server) part(w http.ResponseWriter, r *http.Request, key string, body []byte) error {
	q := r.URL.Query()
	u := s.uploads[q.Get("uploadId")]
	if u == nil || u.key != key {
		return &fault{"NoSuchUpload", 404, q.Get("uploadId")}
	}
	switch r.Method {
	case http.MethodPut:
		n, err := strconv.Atoi(q.Get("partNumber"))
		if err != nil || n < 1 || n > 10_000 {
			return &fault{"InvalidArgument", 400, "partNumber"}
		}
		u.parts[n] = body
		w.Header().Set("ETag", etag(body))
	case http.MethodDelete:
		delete(s.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPost:
		whole, err := s.join(u, body)
		if err != nil {
			return err
		}
		s.objects[key] = object{whole, time.Now().UTC()}
		delete(s.uploads, q.Get("uploadId"))
		fmt.Fprintf(w, "<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>%s</ETag></CompleteMultipartUploadResult>", Bucket, key, etag(whole))
	default:
		return &fault{"MethodNotAllowed", 405, r.Method}
	}
	return nil
}

func (s *Server) join(u *upload, request []byte) ([]byte, error) {
	var list struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(request, &list); err != nil {
		return nil, &fault{"MalformedXML", 400, err.Error()}
	}
	var whole []byte
	for i, p := range list.Part {
		data, ok := u.parts[p.PartNumber]
		if !ok || strings.Trim(p.ETag, `"`) != strings.Trim(etag(data), `"`) {
			return nil, &fault{"InvalidPart", 400, strconv.Itoa(p.PartNumber)}
		}
		if i < len(list.Part)-1 && len(data) < cmp.Or(s.MinPart, 5<<20) {
			return nil, &fault{"EntityTooSmall", 400, strconv.Itoa(p.PartNumber)}
		}
		whole = append(whole, data...)
	}
	return whole, nil
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, key string) error {
	o, ok := s.objects[key]
	if !ok {
		return &fault{"NoSuchKey", 404, key}
	}
	if m := r.Header.Get("If-Match"); m != "" && strings.Trim(m, `"`) != strings.Trim(etag(o.data), `"`) {
		return &fault{"PreconditionFailed", 412, key}
	}
	w.Header().Set("ETag", etag(o.data))
	data := o.data
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		n, err := strconv.Atoi(strings.TrimSuffix(from, "-"))
		if err != nil || n >= len(data) {
			return &fault{"InvalidRange", 416, from}
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n, len(data)-1, len(data)))
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-n))
		w.Header().Set("Last-Modified", o.at.Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		data = data[n:]
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Header().Set("Last-Modified", o.at.Format(http.TimeFormat))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	if s.Cut > 0 && s.Cut < len(data) {
		data, s.Cut = data[:s.Cut], 0
		_, _ = io.Copy(w, bytes.NewReader(data))
		panic(http.ErrAbortHandler) // ServeHTTP's unlock is deferred
	}
	_, _ = io.Copy(w, bytes.NewReader(data)) // whoever asked is gone
	return nil
}

func (s *Server) list(w http.ResponseWriter, q url.Values) error {
	page, after := cmp.Or(s.Page, 1000), q.Get("continuation-token")
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(s.objects)) {
		rest, ok := strings.CutPrefix(k, q.Get("prefix"))
		if !ok || k <= after && after != "" || q.Get("delimiter") != "" && strings.Contains(rest, q.Get("delimiter")) {
			continue
		}
		keys = append(keys, k)
	}
	more := len(keys) > page
	if more {
		keys = keys[:page]
	}
	fmt.Fprintf(w, "<ListBucketResult><Name>%s</Name><KeyCount>%d</KeyCount><IsTruncated>%t</IsTruncated>", Bucket, len(keys), more)
	if more {
		fmt.Fprintf(w, "<NextContinuationToken>%s</NextContinuationToken>", keys[page-1])
	}
	for _, k := range keys {
		o := s.objects[k]
		fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified><ETag>%s</ETag></Contents>",
			url.QueryEscape(k), len(o.data), o.at.Format(time.RFC3339), etag(o.data))
	}
	fmt.Fprint(w, "<EncodingType>url</EncodingType></ListBucketResult>")
	return nil
}

func (s *Server) listUploads(w http.ResponseWriter, q url.Values) {
	fmt.Fprintf(w, "<ListMultipartUploadsResult><Bucket>%s</Bucket>", Bucket)
	for _, id := range slices.Sorted(maps.Keys(s.uploads)) {
		if u := s.uploads[id]; strings.HasPrefix(u.key, q.Get("prefix")) {
			fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>", u.key, id, u.at.Format(time.RFC3339))
		}
	}
	fmt.Fprint(w, "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
}

func etag(data []byte) string {
	sum := md5.Sum(data)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}
