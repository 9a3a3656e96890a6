package sshd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	maxVersion    = 255 // bytes of a line, RFC 4253 section 4.2
	byApplication = 11  // a reason to disconnect, RFC 4253 section 11.1
)

// sayGoodbye plays the beginning of the protocol and ends it with words, which
// OpenSSH shows as "Received disconnect from ...: 11: WORDS".
func sayGoodbye(c net.Conn, words string) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "SSH-2.0-samnode\r\n"); err != nil {
		return err
	}
	in := bufio.NewReaderSize(c, maxVersion)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "SSH-") {
		return errors.New("that is no ssh client")
	}
	if _, err := c.Write(plainPacket(ssh.Marshal(disconnect{Reason: byApplication, Words: words}))); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(in, 64<<10)) // a reset would swallow the words
	return err
}

// disconnect is the message of that name, RFC 4253 section 11.1.
type disconnect struct {
	Reason   uint32 `sshtype:"1"`
	Words    string
	Language string
}

// plainPacket frames a message as it is before there are keys: its length, that
// of the padding, the message, and padding to a multiple of eight bytes (RFC
// 4253 section 6).
func plainPacket(message []byte) []byte {
	padding := 8 - (5+len(message))%8
	if padding < 4 {
		padding += 8
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(message)+padding)) //nolint:gosec // a sentence is short
	b = append(b, byte(padding))
	b = append(b, message...)
	return append(b, make([]byte, padding)...)
}
