package backup

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestKeysAsPeopleKeepThem(t *testing.T) {
	secret, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	_, second := pair(t)
	_, otherPublic, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseIdentity("# created: 2026-01-01\r\n# public key: " + public + "\r\n\r\n  " + secret + "  \r\n")
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseRecipient("\ufeff# mine\n" + public + "\n\n# hers\n" + otherPublic + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unsealAll(sample(t, to, []byte("hello")), id); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := unsealAll(sample(t, second, nil), id); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key's = %v, want ErrWrongKey", err)
	}
	if got, err := id.Public(); err != nil || got != public {
		t.Errorf("Public() = %s, %v; want %s", got, err, public)
	}
}

// TestPostQuantumKeys: age's own other kind works as well, but not in a mixture.
func TestPostQuantumKeys(t *testing.T) {
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseIdentity(key.String())
	if err != nil {
		t.Fatal(err)
	}
	to, err := ParseRecipient(key.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unsealAll(sample(t, to, []byte("hello")), id); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	_, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := id.Public(); err != nil || got != key.Recipient().String() {
		t.Errorf("Public() = %s, %v; want %s", got, err, key.Recipient())
	}
	_, err = ParseRecipient(key.Recipient().String() + "\n" + public)
	wantText(t, err, "these keys do not go together")
}

func TestPassphrase(t *testing.T) {
	id, to := pair(t)
	closer, err := PassphraseRecipient("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	closer.keys[0].(*age.ScryptRecipient).SetWorkFactor(10) // a test need not be slow
	right, err := PassphraseIdentity("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := PassphraseIdentity("incorrect")
	if err != nil {
		t.Fatal(err)
	}
	locked := sample(t, closer, []byte("hello"))
	if got, err := unsealAll(locked, right); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	for want, f := range map[string]struct {
		file []byte
		id   Identity
	}{
		"the passphrase is another one":                       {locked, wrong},
		"it is closed with a passphrase":                      {locked, id},
		"it is closed with a key pair, not with a passphrase": {sample(t, to, nil), right},
		"it is damaged; take another backup: at byte":         {bytes.Replace(locked, []byte(" 10\n"), []byte(" 28\n"), 1), right}, // hours of work
	} {
		_, err := unsealAll(f.file, f.id)
		wantText(t, err, want)
	}
	_, err = PassphraseRecipient("elevenchars")
	wantText(t, err, "has 11 characters; it needs at least 12")
	_, err = PassphraseIdentity("")
	wantText(t, err, "is empty")
	_, err = right.Public()
	wantText(t, err, "a passphrase has no public half")
}

func TestJunkForAKey(t *testing.T) {
	secret, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	const ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@home"
	for junk, want := range map[string]string{
		"":                      "there is no key in it",
		"# public key: none\n":  "there is no key in it",
		secret:                  "this is a secret key; keep it to yourself",
		strings.ToLower(secret): "this is a secret key; keep it to yourself",
		ssh:                     "this is an SSH key",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nabc": "this is a private key of another kind",
		"hello":                          `"hello" is no key; a public key starts with age1`,
		strings.Repeat("blå", 100):       `"blåblåblåblåblåblåbl…" is no key`,
		public[:len(public)-1]:           "is mistyped or not whole",
		public[:30] + "\n" + public[30:]: "is mistyped or not whole",
		public + "x":                     "is mistyped or not whole",
		swap(public):                     "is mistyped or not whole",
		"age1yubikey1qwerty":             "is the key of an age plugin",
		public + "\njunk":                `"junk" is no key`,
	} {
		if strings.HasPrefix(want, "is mistyped") && strings.Contains(junk, "\n") {
			want = "is no key" // its second half
		}
		_, err := ParseRecipient(junk)
		wantText(t, err, want)
	}
	for junk, want := range map[string]string{
		"":                     "there is no key in it",
		public:                 "this is a public key, which only closes backups",
		secret + "\n" + public: "this is a public key, which only closes backups",
		ssh:                    "this is a key of another kind",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nabc": "this is a key of another kind",
		"-----BEGIN AGE ENCRYPTED FILE-----\nabc":  "the key is itself locked",
		"age-encryption.org/v1\n-> scrypt abc":     "the key is itself locked",
		"hunter2":                                  "this is no key",
		strings.ToLower(secret):                    "this is no key; a secret key starts with AGE-SECRET-KEY-1",
		secret[:len(secret)-2]:                     "is mistyped or not whole",
		swap(secret):                               "is mistyped or not whole",
	} {
		_, err := ParseIdentity(junk)
		wantText(t, err, want)
		for line := range strings.Lines(junk) {
			if line = strings.TrimSpace(line); err != nil && len(line) > 16 && strings.Contains(err.Error(), line[16:]) {
				t.Errorf("the error shows what was pasted: %v", err)
			}
		}
	}
}

// swap makes a typing error.
func swap(s string) string {
	b := []byte(s)
	i := len(b) - 9
	for b[i] == b[i+1] {
		i--
	}
	b[i], b[i+1] = b[i+1], b[i]
	return string(b)
}
