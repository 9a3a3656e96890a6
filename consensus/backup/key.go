package backup

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Recipient is what closes a backup: one or several public keys, or a
// passphrase.
type Recipient struct{ keys []age.Recipient }

// Identity is what opens a backup: one or several secret keys, or a passphrase.
type Identity struct {
	keys       []age.Identity
	passphrase bool
}

const (
	minPassphrase = 12 // characters; it is all that keeps a stolen backup shut
	maxWork       = 20 // log2 of scrypt's work that opening does: 4 s
)

// GenerateKey makes a key pair: identity opens what recipient closes. The
// person keeps identity; nodes get recipient.
func GenerateKey() (identity, recipient string, err error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("making a key: %w", err)
	}
	return key.String(), key.Recipient().String(), nil
}

// ParseRecipient reads public keys, one a line, as age writes them; lines that
// begin with # say nothing. With several, each of their holders can open the
// backup alone.
func ParseRecipient(text string) (Recipient, error) {
	lines := keyLines(text)
	const form = "a public key starts with age1; samnode backup keygen makes one"
	upper := strings.ToUpper(text)
	switch {
	case len(lines) == 0:
		return Recipient{}, errors.New("there is no key in it; " + form)
	case strings.Contains(upper, "AGE-SECRET-KEY-"):
		return Recipient{}, errors.New("this is a secret key; keep it to yourself, for opening backups, and give the public one, which starts with age1")
	case strings.Contains(upper, "PRIVATE KEY"):
		return Recipient{}, errors.New("this is a private key of another kind; keep it to yourself, and make a pair for backups: " + form)
	case strings.HasPrefix(lines[0], "ssh-"):
		return Recipient{}, errors.New("this is an SSH key, which does not close backups; " + form)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "age1") {
			return Recipient{}, fmt.Errorf("%q is no key; %s", shorten(line), form)
		}
		if i := strings.LastIndexByte(line, '1'); i > len("age1") && !strings.HasPrefix(line, "age1pq1") {
			return Recipient{}, fmt.Errorf("%q is the key of an age plugin, which samnode does not run; give an ordinary one", shorten(line))
		}
	}
	keys, err := age.ParseRecipients(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return Recipient{}, errors.New("the public key is mistyped or not whole; copy it again, from age1 to its end")
	}
	// Only closing something tells whether the keys go together.
	if _, err := age.Encrypt(io.Discard, keys...); err != nil {
		return Recipient{}, fmt.Errorf("these keys do not go together: %w", err)
	}
	return Recipient{keys}, nil
}

// ParseIdentity reads secret keys as age's key files have them: one a line,
// lines that begin with # say nothing. Its errors repeat nothing of the text.
func ParseIdentity(text string) (Identity, error) {
	lines := keyLines(text)
	const form = "a secret key starts with AGE-SECRET-KEY-1"
	switch {
	case len(lines) == 0:
		return Identity{}, errors.New("there is no key in it; " + form)
	case strings.HasPrefix(lines[0], "age-encryption.org/"), strings.Contains(text, "BEGIN AGE ENCRYPTED FILE"):
		return Identity{}, errors.New("the key is itself locked; open it first, with age --decrypt, and give what comes out")
	case strings.Contains(text, "PRIVATE KEY"), strings.HasPrefix(lines[0], "ssh-"):
		return Identity{}, errors.New("this is a key of another kind, which opens no backup; " + form)
	}
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "age1"):
			return Identity{}, errors.New("this is a public key, which only closes backups; to open one give its secret half, which starts with AGE-SECRET-KEY-1")
		case !strings.HasPrefix(line, "AGE-SECRET-KEY-"):
			return Identity{}, errors.New("this is no key; " + form)
		}
	}
	keys, err := age.ParseIdentities(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return Identity{}, errors.New("the secret key is mistyped or not whole; copy it again, from AGE-SECRET-KEY-1 to its end")
	}
	return Identity{keys: keys}, nil
}

// keyLines returns the lines of a key file that say something.
func keyLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 20 {
		return string(r[:20]) + "…"
	}
	return s
}

// PassphraseRecipient closes backups with a passphrase, which whoever makes
// them must know then, so it suits a backup made by hand.
func PassphraseRecipient(passphrase string) (Recipient, error) {
	if n := len([]rune(passphrase)); n < minPassphrase {
		return Recipient{}, fmt.Errorf("the passphrase has %d characters; it needs at least %d", n, minPassphrase)
	}
	key, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Recipient{}, err
	}
	return Recipient{[]age.Recipient{key}}, nil
}

// PassphraseIdentity opens backups that PassphraseRecipient closes.
func PassphraseIdentity(passphrase string) (Identity, error) {
	if passphrase == "" {
		return Identity{}, errors.New("the passphrase is empty")
	}
	key, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return Identity{}, err
	}
	key.SetMaxWorkFactor(maxWork)
	return Identity{[]age.Identity{key}, true}, nil
}
