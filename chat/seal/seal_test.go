package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSealOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.key")
	k, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed := k.Seal("p/TOKEN", []byte("s3cret"))
	if bytes.Contains(sealed, []byte("s3cret")) {
		t.Fatal("sealed value holds the plain one")
	}
	if got, err := again.Open("p/TOKEN", sealed); err != nil || string(got) != "s3cret" {
		t.Errorf("Open = %q, %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file is %v, %v; want 0600", st.Mode(), err)
	}
	if _, err := again.Open("q/TOKEN", sealed); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Open under another name = %v", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := again.Open("p/TOKEN", sealed); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Open of a changed value = %v", err)
	}
	if _, err := again.Open("p/TOKEN", nil); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Open of nothing = %v", err)
	}
}

func TestShortKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("a short key loads")
	}
}

func TestKeyOfAnotherNode(t *testing.T) {
	dir := t.TempDir()
	k, err := Load(filepath.Join(dir, "first.key"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(k.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "second.key")
	for range 2 {
		if err := second.Save(path); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open("n", k.Seal("n", []byte("v"))); err != nil || string(got) != "v" {
		t.Errorf("Open with the saved key = %q, %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file is %v, %v; want 0600", st.Mode(), err)
	}
	other, err := Load(filepath.Join(dir, "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Save(path); err == nil {
		t.Error("a key was written over another")
	}
	if got, err := Load(path); err != nil || !bytes.Equal(got.Bytes(), k.Bytes()) {
		t.Errorf("the key changed: %v", err)
	}
}
