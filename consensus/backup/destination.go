package backup

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Destination is where backups go and come from: a folder, a bucket, or one
// file or object in one. The zero value is none.
type Destination struct {
	place place
	text  string // for people, without secrets
	name  string // of the one backup that is meant; "": of each its own
}

// ParseDestination reads the text of a destination:
//
//	/path/to/folder                            backups with names of their own
//	/path/to/file.age                          one file, replaced each time
//	s3://KEY:SECRET@host[:port]/bucket/prefix  a bucket, or an object ending in .age
//
// A bucket's URL may have ?region=NAME, ?insecure=1 for plain HTTP and
// ?style=path or ?style=host. Without KEY:SECRET the environment gives
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; a nil env has
// none. Nothing is asked of the place yet.
func ParseDestination(text string, env func(string) string) (Destination, error) {
	text = strings.TrimSpace(text)
	switch scheme, _, isURL := strings.Cut(text, "://"); {
	case text == "":
		return Destination{}, errors.New("a backup needs a place: a folder, a file ending in .age, or s3://host/bucket")
	case isURL && scheme == "s3":
		return parseBucket(text, env)
	case isURL:
		return Destination{}, fmt.Errorf("backups cannot go to %s://: give a folder, a file ending in .age, or s3://host/bucket", scheme)
	case strings.HasPrefix(text, "~"):
		return Destination{}, errors.New("write the whole path: ~ means something to a shell only")
	}
	clean := filepath.Clean(text)
	if strings.HasSuffix(clean, nameSuffix) {
		return Destination{folder{filepath.Dir(clean)}, filepath.Dir(clean), filepath.Base(clean)}, nil
	}
	if info, err := os.Stat(clean); err == nil && !info.IsDir() {
		return Destination{}, fmt.Errorf("%s is a file: give a folder, or a file ending in .age", clean)
	}
	return Destination{folder{clean}, clean, ""}, nil
}

// String names the place for people; it holds no secret.
func (d Destination) String() string {
	switch {
	case d.place == nil:
		return "nowhere"
	case d.name == "":
		return d.text
	case strings.HasPrefix(d.text, "s3://"):
		return d.text + "/" + d.name
	}
	return filepath.Join(d.text, d.name)
}

// IsZero tells whether d is no destination at all.
func (d Destination) IsZero() bool { return d.place == nil }

// Pick returns the destination that is the one backup of that name in d's
// folder or bucket, as List gives it.
func (d Destination) Pick(name string) Destination {
	d.name = name
	return d
}

// parseBucket reads an s3:// URL. Its errors repeat nothing of what may be a
// secret, so url.Parse's own are not for people.
func parseBucket(text string, env func(string) string) (Destination, error) {
	const form = "s3://KEY:SECRET@host[:port]/bucket/prefix"
	u, err := url.Parse(text)
	if err != nil {
		return Destination{}, fmt.Errorf("the URL of the bucket is not one: it looks like %s, with each / + or other sign in the secret written as %%2F and so on; or put key and secret into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", form)
	}
	name, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	switch {
	case u.Host == "":
		return Destination{}, fmt.Errorf("the URL of the bucket names no host: it looks like %s", form)
	case name == "":
		return Destination{}, fmt.Errorf("the URL names no bucket: it looks like %s", form)
	}
	c := bucketConfig{host: u.Host, name: name, prefix: strings.Trim(prefix, "/")}
	if err := c.readQuery(u.Query()); err != nil {
		return Destination{}, err
	}
	if err := c.readKeys(u.User, env); err != nil {
		return Destination{}, err
	}
	object := ""
	if strings.HasSuffix(c.prefix, nameSuffix) {
		c.prefix, object = path.Split(c.prefix)
		c.prefix = strings.Trim(c.prefix, "/")
	}
	b, err := newBucket(c)
	if err != nil {
		return Destination{}, err
	}
	return Destination{b, strings.TrimSuffix("s3://"+path.Join(c.host, c.name, c.prefix), "/"), object}, nil
}

// readQuery refuses what it does not know: a mistyped insecure would be a
// puzzle later.
func (c *bucketConfig) readQuery(q url.Values) error {
	for key := range q {
		value := q.Get(key)
		switch {
		case key == "region" && value != "":
			c.region = value
		case key == "insecure" && value == "1":
			c.insecure = true
		case key == "insecure" && value == "0":
		case key == "style" && (value == "path" || value == "host"):
			c.style = value
		default:
			return fmt.Errorf("the bucket's URL has ?%s=%s; it may have region=NAME, insecure=1 for plain HTTP, style=path or style=host", key, value)
		}
	}
	return nil
}

func (c *bucketConfig) readKeys(user *url.Userinfo, env func(string) string) error {
	if user != nil {
		c.key = user.Username()
		c.secret, _ = user.Password()
		if c.key == "" || c.secret == "" {
			return errors.New("the bucket's URL has half of KEY:SECRET; give both, or neither and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
		}
		return nil
	}
	if env != nil {
		c.key, c.secret, c.session = env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")
	}
	if c.key == "" || c.secret == "" {
		return errors.New("the bucket needs a key: put KEY:SECRET@ before its host, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the node")
	}
	return nil
}
