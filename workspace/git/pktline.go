package git

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxPkt is the largest pkt-line, its four length bytes included.
const maxPkt = 65520

// errPkt says that the other side does not speak git.
var errPkt = errors.New("not a git request")

// readPkt reads one pkt-line. A flush is nil with no error.
func readPkt(r *bufio.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil || n > maxPkt || n > 0 && n < 4 {
		return nil, errPkt
	}
	if n == 0 {
		return nil, nil
	}
	line := make([]byte, n-4)
	if _, err := io.ReadFull(r, line); err != nil {
		return nil, fmt.Errorf("%w: cut in a line", errPkt)
	}
	return line, nil
}

// pkt appends one pkt-line of text.
func pkt(b []byte, text string) []byte {
	b = fmt.Appendf(b, "%04x", len(text)+4)
	return append(b, text...)
}

// flushPkt ends a group of pkt-lines.
const flushPkt = "0000"

// band appends data as pkt-lines of a side band: 1 is the answer, 2 is what
// git shows as "remote: …".
func band(b []byte, number byte, data []byte) []byte {
	for len(data) > 0 {
		n := min(len(data), maxPkt-5)
		b = fmt.Appendf(b, "%04x%c", n+5, number)
		b = append(b, data[:n]...)
		data = data[n:]
	}
	return b
}
