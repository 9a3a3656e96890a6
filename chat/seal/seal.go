// Package seal closes secrets with the mesh key before they go into the log.
// Only core nodes have the key, on disk, readable by their own user.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// KeySize is the size of a mesh key: AES-256.
const KeySize = 32

// ErrWrongKey is returned when a value was sealed with another key, for
// another name, or was changed.
var ErrWrongKey = errors.New("the value was sealed with another mesh key")

// Key seals and opens values.
type Key struct {
	aead cipher.AEAD
	raw  []byte
}

// Load reads the key file, or makes it when there is none.
func Load(path string) (*Key, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the mesh key: %w", err)
	}
	return New(raw)
}

// New makes a Key of KeySize bytes.
func New(raw []byte) (*Key, error) {
	if len(raw) != KeySize {
		return nil, fmt.Errorf("mesh key has %d bytes, want %d: restore the file from a backup", len(raw), KeySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	return &Key{aead, bytes.Clone(raw)}, nil
}

// Bytes is the key itself, for another core node or a backup that is
// encrypted.
func (k *Key) Bytes() []byte { return bytes.Clone(k.raw) }

// Save writes the key to where Load finds it. A file that holds another key is
// left as it is: what was sealed with that one would be lost.
func (k *Key) Save(path string) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, k.raw):
		return nil
	case err == nil:
		return fmt.Errorf("%s holds another mesh key: move it away first if this node is to join another mesh", path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the mesh key: %w", err)
	}
	if err := write(path, k.raw); err != nil {
		return fmt.Errorf("writing the mesh key: %w", err)
	}
	return nil
}

// Seal closes a value for one name: it opens under the same name only, so a
// sealed value cannot be moved to where others may read it.
func (k *Key) Seal(name string, value []byte) []byte {
	return k.aead.Seal(nil, nil, value, []byte(name))
}

// Open returns the value sealed for that name.
func (k *Key) Open(name string, sealed []byte) ([]byte, error) {
	value, err := k.aead.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("opening secret %s: %w", name, ErrWrongKey)
	}
	return value, nil
}

func create(path string) ([]byte, error) {
	raw := make([]byte, KeySize)
	rand.Read(raw)
	return raw, write(path, raw)
}

// write writes a key so that a crash leaves either none or a whole one.
func write(path string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(raw); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
