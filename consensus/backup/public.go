package backup

import (
	"errors"
	"strings"

	"filippo.io/age"
)

// Public is the recipient of whoever holds the identity, for the nodes that
// close backups: one line for each key. A passphrase has none.
func (id Identity) Public() (string, error) {
	var lines []string
	for _, key := range id.keys {
		switch key := key.(type) {
		case *age.X25519Identity:
			lines = append(lines, key.Recipient().String())
		case *age.HybridIdentity:
			lines = append(lines, key.Recipient().String())
		}
	}
	if len(lines) == 0 {
		return "", errors.New("a passphrase has no public half: backups on a schedule need a key, samnode backup keygen")
	}
	return strings.Join(lines, "\n"), nil
}
