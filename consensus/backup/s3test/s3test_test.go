package s3test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func client(t *testing.T, s *Server, key, secret string) *minio.Client {
	t.Helper()
	c, err := minio.New(s.Host, &minio.Options{Creds: credentials.NewStaticV4(key, secret, ""), MaxRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWithMinio goes through everything with the client that others wrote.
func TestWithMinio(t *testing.T) {
	s := New(t)
	s.Page = 3
	c := client(t, s, Key, Secret)
	data := bytes.Repeat([]byte("0123456789"), 1_200_000)
	for _, size := range []int64{int64(len(data)), -1} { // in one request, and in parts
		if _, err := c.PutObject(t.Context(), Bucket, "a b/ö+.age", bytes.NewReader(data), size, minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
			t.Fatal(err)
		}
		o, err := c.GetObject(t.Context(), Bucket, "a b/ö+.age", minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %d bytes, %v; want %d", len(got), err, len(data))
		}
	}
	var opts minio.GetObjectOptions
	if err := opts.SetRange(5, 0); err != nil {
		t.Fatal(err)
	}
	o, err := c.GetObject(t.Context(), Bucket, "a b/ö+.age", opts)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, data[5:]) {
		t.Errorf("read %d bytes from the 5th, %v", len(got), err)
	}
	for i := range 7 {
		s.Put(fmt.Sprintf("list/%d", i), nil)
	}
	n := 0
	for o := range c.ListObjects(t.Context(), Bucket, minio.ListObjectsOptions{Prefix: "list/"}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n++
	}
	if n != 7 {
		t.Errorf("listed %d objects, want 7", n)
	}
	if err := c.RemoveObject(t.Context(), Bucket, "list/0", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.StatObject(t.Context(), Bucket, "list/0", minio.StatObjectOptions{})
	if code := minio.ToErrorResponse(err).Code; code != minio.NoSuchKey {
		t.Errorf("an object that was removed gives %v", err)
	}
}

// TestUnsignedIsRefused: nothing gets in, or out, without the secret, and
// nothing that was changed on the way.
func TestUnsignedIsRefused(t *testing.T) {
	s := New(t)
	s.Put("x", []byte("secret"))
	for name, c := range map[string]*minio.Client{
		"InvalidAccessKeyId":    client(t, s, "AKIANOBODY", Secret),
		"SignatureDoesNotMatch": client(t, s, Key, Secret+"x"),
	} {
		_, err := c.PutObject(t.Context(), Bucket, "y", strings.NewReader("text"), 4, minio.PutObjectOptions{})
		if code := minio.ToErrorResponse(err).Code; code != name {
			t.Errorf("PutObject() = %v, want %s", err, name)
		}
	}
	resp, err := http.Get("http://" + s.Host + "/" + Bucket + "/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("unsigned GET = %s", resp.Status)
	}

	for name, change := range map[string]func(*http.Request){
		"path":  func(r *http.Request) { r.URL.Path += "z"; r.URL.RawPath = "" },
		"query": func(r *http.Request) { r.URL.RawQuery += "&partNumber=2" },
		"date":  func(r *http.Request) { r.Header.Set("X-Amz-Date", "20200101T000000Z") },
		"extra": func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") },
		"body":  func(r *http.Request) { r.Body = &changed{r.Body} },
	} {
		c, err := minio.New(s.Host, &minio.Options{
			Creds: credentials.NewStaticV4(Key, Secret, ""), MaxRetries: 1, Region: "us-east-1",
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				change(r)
				return http.DefaultTransport.RoundTrip(r)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.PutObject(t.Context(), Bucket, "y", strings.NewReader("text"), 4, minio.PutObjectOptions{}); err == nil {
			t.Errorf("a changed %s is accepted", name)
		}
	}
	if keys := s.Keys(); len(keys) != 1 {
		t.Errorf("the bucket has %v, want x alone", keys)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// changed turns text into tent.
type changed struct{ io.ReadCloser }

func (c *changed) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	copy(p[:n], bytes.Replace(p[:n], []byte("text"), []byte("tent"), 1))
	return n, err
}
