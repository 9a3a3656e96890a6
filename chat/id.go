package chat

import (
	"crypto/rand"
	"time"
)

// crockford is the alphabet of ULIDs.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID draws a ULID: 48 bits of time, 80 random bits, 26 characters. It is
// for whoever proposes; the state never calls it.
func NewID() string {
	var b [16]byte
	ms := uint64(time.Now().UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	rand.Read(b[6:]) // never fails, see its documentation
	return ulid(b)
}

// ulid writes 128 bits as 26 characters of 5, the first of 3.
func ulid(b [16]byte) string {
	var out [26]byte
	var acc uint64
	bits, at := 2, 0 // two leading zero bits make 130
	for _, v := range b {
		acc, bits = acc<<8|uint64(v), bits+8
		for bits >= 5 {
			bits -= 5
			out[at] = crockford[acc>>bits&31]
			at++
		}
	}
	return string(out[:])
}
