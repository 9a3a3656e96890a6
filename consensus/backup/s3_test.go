package backup

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/consensus/backup/s3test"
)

// tiny is a copy whose parts are few.
func tiny() []byte { return noise(1 << 20) }

func TestAnUploadThatFails(t *testing.T) {
	_, to := pair(t)
	for name, f := range map[string]struct {
		fail func(*http.Request) bool
		code string
		want string
	}{
		"at its beginning": {func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploads") }, "AccessDenied", "does not let this key do that in bucket copies"},
		"at a part":        {func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" }, "EntityTooLarge", "says: as the test wants"},
		"at its end":       {func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }, "InvalidPart", "says: as the test wants"},
	} {
		t.Run(name, func(t *testing.T) {
			s3 := s3test.New(t)
			s3.Fail = func(r *http.Request) (string, int) {
				if f.fail(r) {
					return f.code, http.StatusForbidden
				}
				return "", 0
			}
			_, err := Write(t.Context(), destination(t, s3.URL("p")), to, meta("home", 1, "2026-01-01 00:00:00"), bytesOf(noise(partSize+6<<20)))
			wantText(t, err, f.want)
			if left := append(s3.Keys(), s3.Unfinished()...); len(left) > 0 {
				t.Errorf("the bucket has %v", left)
			}
		})
	}
}

// TestAHiccupIsRepeated: a part is sent again, an answer asked for again.
func TestAHiccupIsRepeated(t *testing.T) {
	id, to := pair(t)
	s3 := s3test.New(t)
	seen := map[string]bool{}
	s3.Fail = func(r *http.Request) (string, int) {
		if first := !seen[r.Method]; first {
			seen[r.Method] = true
			return "SlowDown", http.StatusServiceUnavailable
		}
		return "", 0
	}
	d := destination(t, s3.URL("p"))
	write(t, d, to, meta("home", 1, "2026-01-01 00:00:00"), tiny())
	if _, data, err := read(t.Context(), d, id); err != nil || !bytes.Equal(data, tiny()) {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
	if len(seen) < 3 {
		t.Errorf("only %v failed once", seen)
	}
}

// TestADownloadThatBreaksOff goes on where it was, and never takes a broken
// connection for the end, nor another object for the same.
func TestADownloadThatBreaksOff(t *testing.T) {
	id, to := pair(t)
	s3 := s3test.New(t)
	d := destination(t, s3.URL("p"))
	info := write(t, d, to, meta("home", 1, "2026-01-01 00:00:00"), tiny())
	s3.Cut = 300_000
	if _, data, err := read(t.Context(), d, id); err != nil || !bytes.Equal(data, tiny()) {
		t.Errorf("read %d bytes, %v; want all %d", len(data), err, len(tiny()))
	}

	s3.Cut = 300_000
	_, r, err := Open(t.Context(), d, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
		t.Fatal(err)
	}
	s3.Put("p/"+info.Name, bytes.Repeat([]byte("x"), int(info.Size)))
	_, err = io.Copy(io.Discard, r)
	wantText(t, err, "reading it: ")

	s3.Put("p/"+info.Name, s3.Get("p/" + info.Name)[:1000])
	_, err = Verify(t.Context(), d, id)
	wantText(t, err, "is not a backup")

	ctx, cancel := context.WithCancel(t.Context())
	write(t, d, to, meta("home", 1, "2026-01-01 00:00:00"), tiny())
	_, r, err = Open(ctx, d, id)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, r)
	wantText(t, err, context.Canceled.Error())
}

func TestACutObject(t *testing.T) {
	id, to := pair(t)
	s3 := s3test.New(t)
	d := destination(t, s3.URL("p"))
	info := write(t, d, to, meta("home", 1, "2026-01-01 00:00:00"), tiny())
	s3.Put("p/"+info.Name, s3.Get("p/" + info.Name)[:500_000])
	_, err := Verify(t.Context(), d, id)
	wantText(t, err, "it is cut off; take another backup: it ends after 500000 bytes")
}

// TestBucketSentences: what is wrong with a bucket is said as what to do.
func TestBucketSentences(t *testing.T) {
	_, to := pair(t)
	s3 := s3test.New(t)
	elsewhere := s3test.New(t)
	elsewhere.Region = "eu-test-1"
	denied := s3test.New(t)
	denied.Fail = func(*http.Request) (string, int) { return "AccessDenied", http.StatusForbidden }
	late := s3test.New(t)
	late.Fail = func(*http.Request) (string, int) { return "RequestTimeTooSkewed", http.StatusForbidden }
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	for url, want := range map[string]string{
		strings.Replace(s3.URL(""), "secret", "Secret", 1):                          "does not take this key; check KEY and SECRET",
		strings.Replace(s3.URL(""), s3test.Key, "AKIAOTHER", 1):                     "does not take this key; check KEY and SECRET",
		strings.Replace(s3.URL(""), s3test.Bucket, "nothere", 1):                    "there is no bucket nothere at " + s3.Host + "; make it first",
		elsewhere.URL("") + "&region=eu-other-9":                                    "add ?region=NAME",
		strings.Replace(s3.URL(""), "insecure=1", "insecure=0&region=us-east-1", 1): "speaks plain HTTP; add ?insecure=1",
		denied.URL(""): "does not let this key do that in bucket copies",
		late.URL(""):   "are too far apart; set this node's",
		strings.Replace(s3.URL(""), s3.Host, nobody, 1): nobody + " cannot be reached",
	} {
		d := destination(t, url)
		_, err := Write(t.Context(), d, to, meta("home", 1, "2026-01-01 00:00:00"), bytesOf(tiny()))
		wantText(t, err, want)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the secret: %v", err)
		}
		if _, err := List(t.Context(), d); err == nil {
			t.Errorf("List(%s) works", d)
		}
	}
	// Its own region is found out.
	write(t, destination(t, elsewhere.URL("")), to, meta("home", 1, "2026-01-01 00:00:00"), tiny())
}

// TestPartsAreBounded: what is held in memory and sent at once.
func TestPartsAreBounded(t *testing.T) {
	_, to := pair(t)
	s3 := s3test.New(t)
	write(t, destination(t, s3.URL("")), to, meta("home", 1, "2026-01-01 00:00:00"), noise(partSize+1<<20))
	if got := s3.Largest(); got != partSize {
		t.Errorf("the largest part has %d bytes, want %d", got, partSize)
	}
	m := meta("home", 1, "2026-01-01 00:00:00")
	m.Size = 18 << 20 * maxParts // would not go into 10,000 of the usual parts
	write(t, destination(t, s3.URL("")), to, m, noise(20<<20))
	if got := s3.Largest(); got != 19<<20 {
		t.Errorf("the largest part of a large copy has %d bytes, want %d", got, 19<<20)
	}
}

// TestTheSourceStopsWithTheUpload: it is not fed for nothing.
func TestTheSourceStopsWithTheUpload(t *testing.T) {
	_, to := pair(t)
	s3 := s3test.New(t)
	s3.Fail = func(r *http.Request) (string, int) {
		if r.Method == http.MethodPut {
			return "AccessDenied", http.StatusForbidden
		}
		return "", 0
	}
	began, wrote := time.Now(), 0
	random, block := rand.NewChaCha8([32]byte{}), make([]byte, 1<<20)
	_, err := Write(t.Context(), destination(t, s3.URL("")), to, meta("home", 1, "2026-01-01 00:00:00"), func(w io.Writer) error {
		for {
			random.Read(block) // never twice the same, which would compress
			n, err := w.Write(block)
			wrote += n
			if err != nil {
				return err
			}
		}
	})
	wantText(t, err, "does not let this key do that")
	if wrote > 3*partSize {
		t.Errorf("the source wrote %d bytes in %s after the first part failed", wrote, time.Since(began))
	}
}
