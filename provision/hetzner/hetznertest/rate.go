package hetznertest

import (
	"net/http"
	"strconv"
	"time"
)

// rate is Hetzner's bucket: it holds an hour's calls and gains limit/3600 a
// second. Cloud.mu covers it.
type rate struct {
	limit int
	left  float64
	at    time.Time
}

func (r *rate) take(now time.Time) bool {
	r.left = min(float64(r.limit), r.left+max(0, now.Sub(r.at).Seconds())*float64(r.limit)/3600)
	r.at = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}

func (r *rate) headers(now time.Time, h http.Header) {
	whole := now.Add(time.Duration((float64(r.limit) - r.left) / float64(r.limit) * float64(time.Hour)))
	h.Set("RateLimit-Limit", strconv.Itoa(r.limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(int(r.left)))
	h.Set("RateLimit-Reset", strconv.FormatInt(whole.Unix()+1, 10))
}
