package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// bucketConfig is what a bucket's URL says.
type bucketConfig struct {
	host, name, prefix   string
	region, style        string
	key, secret, session string
	insecure             bool
}

// bucket keeps backups as objects of an S3 bucket.
type bucket struct {
	client       *minio.Core
	host         string
	name, prefix string
}

const (
	// A part is held in memory while it is sent. With 16 MiB an object may have
	// 156 GiB; a larger copy gets larger parts.
	partSize = 16 << 20
	maxParts = 9_000 // of the 10,000 there may be: the estimate is one

	tries      = 5   // of one request
	rereads    = 5   // of a download that broke off, without a byte between
	uploadIdle = day // after which an upload was left by a process that was killed
)

func newBucket(c bucketConfig) (*bucket, error) {
	lookup := minio.BucketLookupAuto
	switch c.style {
	case "path":
		lookup = minio.BucketLookupPath
	case "host":
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.NewCore(c.host, &minio.Options{
		Creds:        credentials.NewStaticV4(c.key, c.secret, c.session),
		Secure:       !c.insecure,
		Region:       c.region,
		BucketLookup: lookup,
		MaxRetries:   tries,
	})
	if err != nil {
		return nil, fmt.Errorf("the bucket's host %s: %w", c.host, err)
	}
	return &bucket{client: client, host: c.host, name: c.name, prefix: c.prefix}, nil
}

func (b *bucket) object(name string) string { return path.Join(b.prefix, name) }

// put sends parts as they fill up. The object is there when all parts are and
// the last request says so; what fails before takes the parts back.
func (b *bucket) put(ctx context.Context, name string, estimate int64, fill func(io.Writer) error) (int64, error) {
	out, in := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := b.client.Client.PutObject(ctx, b.name, b.object(name), out, -1, minio.PutObjectOptions{
			ContentType: "application/octet-stream",
			PartSize:    uint64(max(partSize, (estimate/maxParts+1<<20)>>20<<20)),
		})
		out.CloseWithError(err) // no writer waits for ever
		sent <- err
	}()
	w := &counted{w: in}
	if err := fill(w); err != nil {
		in.CloseWithError(&fillError{err})
	} else {
		in.Close()
	}
	err := <-sent
	if failed, ok := errors.AsType[*fillError](err); ok {
		return 0, failed.error
	}
	return w.n, b.explain(err)
}

// fillError tells what stopped an upload from outside from what stopped it.
type fillError struct{ error }

func (b *bucket) list(ctx context.Context, only string) ([]Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing's goroutine
	prefix := b.object(namePrefix)
	if only != "" {
		prefix = b.object(only)
	}
	var all []Info
	for o := range b.client.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, b.explain(o.Err)
		}
		name := path.Base(o.Key)
		if o.Key != b.object(name) || only != "" && name != only {
			continue
		}
		i, ours := parseName(name)
		switch {
		case !ours && only == "":
			continue
		case !ours: // the name is a person's choice
			i = Info{Name: name, At: o.LastModified.UTC().Truncate(time.Second)}
		}
		i.Size = o.Size
		all = append(all, i)
	}
	return all, nil
}

func (b *bucket) open(ctx context.Context, name string) (io.ReadCloser, error) {
	stat, err := b.client.StatObject(ctx, b.name, b.object(name), minio.StatObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, fmt.Errorf("%w of that name", ErrNone)
	}
	if err != nil {
		return nil, b.explain(err)
	}
	return &download{ctx: ctx, b: b, object: b.object(name), etag: stat.ETag, size: stat.Size}, nil
}

func (b *bucket) remove(ctx context.Context, name string) error {
	return b.explain(b.client.RemoveObject(ctx, b.name, b.object(name), minio.RemoveObjectOptions{}))
}

// tidy takes back the parts of uploads that never ended. Nobody sees them, and
// they are paid for.
func (b *bucket) tidy(ctx context.Context, mesh string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left []string
	for up := range b.client.ListIncompleteUploads(ctx, b.name, b.object(namePrefix+mesh), true) {
		if up.Err != nil {
			return b.explain(up.Err)
		}
		i, ours := parseName(path.Base(up.Key))
		if ours && i.Mesh == mesh && up.Key == b.object(i.Name) && time.Since(up.Initiated) > uploadIdle {
			left = append(left, up.Key)
		}
	}
	var errs []error
	for _, key := range left {
		errs = append(errs, b.explain(b.client.RemoveIncompleteUpload(ctx, b.name, key)))
	}
	return errors.Join(errs...)
}

// explain puts before what the host said a sentence about what to do.
func (b *bucket) explain(err error) error {
	if err == nil {
		return nil
	}
	advice := ""
	switch minio.ToErrorResponse(err).Code {
	case minio.NoSuchBucket:
		advice = fmt.Sprintf("there is no bucket %s at %s; make it first", b.name, b.host)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken":
		advice = b.host + " does not take this key; check KEY and SECRET"
	case minio.AccessDenied:
		advice = fmt.Sprintf("%s does not let this key do that in bucket %s", b.host, b.name)
	case "RequestTimeTooSkewed":
		advice = "the clocks of this node and " + b.host + " are too far apart; set this node's"
	case "AuthorizationHeaderMalformed", "PermanentRedirect":
		advice = "the bucket is in another region; add ?region=NAME to its URL"
	}
	var network net.Error
	switch {
	case advice != "":
	case strings.Contains(err.Error(), "gave HTTP response to HTTPS client"):
		advice = b.host + " speaks plain HTTP; add ?insecure=1 to its URL if that is meant"
	case errors.As(err, &network):
		advice = b.host + " cannot be reached"
	default:
		return fmt.Errorf("%s says: %w", b.host, err)
	}
	return fmt.Errorf("%s: %w", advice, err)
}

// download reads an object from its start to its end, and goes on where a
// connection broke off.
type download struct {
	ctx          context.Context
	b            *bucket
	object, etag string
	size, n      int64
	body         io.ReadCloser
	failed       int // since the last byte
}

func (d *download) Read(p []byte) (int, error) {
	for {
		if d.n == d.size {
			return 0, io.EOF
		}
		n, err := d.read(p)
		d.n += int64(n)
		if n > 0 {
			d.failed = 0
			return n, nil // an error comes again
		}
		if err == nil {
			continue
		}
		d.failed++
		if d.failed > rereads || d.ctx.Err() != nil || minio.ToErrorResponse(err).StatusCode != 0 {
			return 0, d.b.explain(err)
		}
		if err := d.Close(); err != nil {
			return 0, d.b.explain(err)
		}
		select {
		case <-time.After(time.Duration(d.failed) * 100 * time.Millisecond):
		case <-d.ctx.Done():
		}
	}
}

// read reads once from the connection, which it makes if there is none.
func (d *download) read(p []byte) (int, error) {
	if d.body == nil {
		var opts minio.GetObjectOptions
		if err := opts.SetMatchETag(d.etag); err != nil {
			return 0, err
		}
		if d.n > 0 {
			if err := opts.SetRange(d.n, 0); err != nil {
				return 0, err
			}
		}
		body, _, _, err := d.b.client.GetObject(d.ctx, d.b.name, d.object, opts)
		if err != nil {
			return 0, err
		}
		d.body = body
	}
	n, err := d.body.Read(p[:min(int64(len(p)), d.size-d.n)])
	if errors.Is(err, io.EOF) && d.n+int64(n) < d.size {
		err = fmt.Errorf("the connection ended after %d of %d bytes: %w", d.n+int64(n), d.size, io.ErrUnexpectedEOF)
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	err := d.body.Close()
	d.body = nil
	return err
}
