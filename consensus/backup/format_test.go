package backup

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crypto/sha256"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// sample returns the file of a backup of data.
func sample(t testing.TB, to Recipient, data []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := seal(&file, to, meta("home", 7, "2026-01-01 00:00:00"), bytesOf(data)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// unsealAll reads the file of a backup to its end.
func unsealAll(file []byte, id Identity) ([]byte, error) {
	_, r, err := unseal(io.NopCloser(bytes.NewReader(file)), id)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// TestCutAnywhere: wherever a file ends too early, that is what is said.
func TestCutAnywhere(t *testing.T) {
	id, to := pair(t)
	file := sample(t, to, noise(200<<10))
	cuts := []int{len(file) - 1, len(file) - 17, len(file) - ageChunk - 16, len(file) - ageChunk - 15, len(file) - ageChunk - 17}
	for i := range 400 {
		cuts = append(cuts, i)
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		cuts = append(cuts, dice.IntN(len(file)))
	}
	for _, n := range cuts {
		if _, err := unsealAll(file[:n], id); !errors.Is(err, ErrCut) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrWrongKey) {
			t.Errorf("cut after %d of %d bytes = %v, want ErrCut", n, len(file), err)
		}
	}
	for _, size := range []int{0, 1, ageChunk / 2, ageChunk - 400, ageChunk, 3 * ageChunk} { // however full the last chunk is
		file := sample(t, to, noise(size))
		if _, err := unsealAll(file[:len(file)-1], id); !errors.Is(err, ErrCut) {
			t.Errorf("cut before the last byte, copy of %d bytes = %v, want ErrCut", size, err)
		}
	}
}

// TestChangedAnywhere: a bit that changed is found, and is not a cut.
func TestChangedAnywhere(t *testing.T) {
	id, to := pair(t)
	file := sample(t, to, noise(200<<10))
	payload := bytes.Index(file, []byte("\n--- ")) + 1
	mac := bytes.IndexByte(file[payload:], '\n') + payload
	dice := rand.New(rand.NewPCG(1, 2))
	var at []int
	for i := range payload + 600 {
		at = append(at, i)
	}
	for range 300 {
		at = append(at, dice.IntN(len(file)))
	}
	for _, i := range at {
		changed := bytes.Clone(file)
		changed[i] ^= 1 << dice.IntN(8)
		_, err := unsealAll(changed, id)
		switch {
		case i < len(ageMagic):
			if !errors.Is(err, ErrNotBackup) {
				t.Errorf("byte %d of the first line = %v, want ErrNotBackup", i, err)
			}
		case i <= mac: // what the key is locked with
			if !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d of the head = %v, want ErrWrongKey or ErrDamaged", i, err)
			}
		case !errors.Is(err, ErrDamaged):
			t.Errorf("byte %d of %d = %v, want ErrDamaged", i, len(file), err)
		}
		if errors.Is(err, ErrCut) {
			t.Errorf("byte %d: %v says it was cut", i, err)
		}
	}
	for name, longer := range map[string][]byte{"a byte more": append(bytes.Clone(file), 0), "twice": append(bytes.Clone(file), file...)} {
		if _, err := unsealAll(longer, id); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s = %v, want ErrDamaged", name, err)
		}
	}
	blocks := bytes.Clone(file) // two chunks change places
	first, second := mac+1+16, mac+1+16+ageChunk+16
	copy(blocks[first:], file[second:second+ageChunk+16])
	copy(blocks[second:], file[first:first+ageChunk+16])
	if _, err := unsealAll(blocks, id); !errors.Is(err, ErrDamaged) {
		t.Errorf("chunks in another order = %v, want ErrDamaged", err)
	}
}

// TestForged: the key fits, and what it opens is not a backup, or not of ours.
func TestForged(t *testing.T) {
	id, to := pair(t)
	const head = `{"samnode_backup":1,"mesh":"home"}` + "\n"
	piece := pieces(t, "hello")
	sum := func(text string) string { s := sha256.Sum256([]byte(text)); return hex.EncodeToString(s[:]) }
	right := `{"bytes":5,"sha256":"` + sum(head+"hello") + `"}` + "\n"
	for name, f := range map[string]struct {
		text string
		want error
		says string
	}{
		"as it should be":    {head + piece + "\x00" + right, nil, ""},
		"no padding":         {head + piece + "\x00" + right + "\x00\x00", nil, ""},
		"something else":     {"my letters\n", ErrNotBackup, "is not a backup of samnode"},
		"one long line":      {strings.Repeat("x", 100_000), ErrNotBackup, ""},
		"other JSON":         {`{"backup":1}` + "\n" + piece, ErrNotBackup, ""},
		"nothing":            {"", ErrDamaged, "its parts do not fit together"},
		"a newer format":     {`{"samnode_backup":2,"version":"v9.1","more":[]}` + "\nzzz", ErrNewer, `its format is 2, samnode's version was "v9.1"; this one reads up to format 1`},
		"no end":             {head + piece, ErrDamaged, "its parts do not fit together"},
		"no trailer":         {head + piece + "\x00", ErrDamaged, ""},
		"a broken trailer":   {head + piece + "\x00{\n", ErrDamaged, "its last line is not one"},
		"another length":     {head + piece + "\x00" + strings.Replace(right, "5", "6", 1), ErrDamaged, "whose checksum is not that of the 6 written"},
		"another checksum":   {head + piece + "\x00" + `{"bytes":5,"sha256":"` + sum("x") + `"}` + "\n", ErrDamaged, "checksum"},
		"another head":       {strings.Replace(head, "home", "work", 1) + piece + "\x00" + right, ErrDamaged, "checksum"},
		"more after its end": {head + piece + "\x00" + right + "\x00\x00and more", ErrDamaged, "something follows its end"},
		"no compression":     {head + "\x05hello\x00" + right, ErrDamaged, "its parts do not fit together"},
		"half a piece":       {head + piece[:len(piece)-3], ErrDamaged, ""},
		"an endless piece":   {head + strings.Repeat("\xff", 30), ErrDamaged, ""},
	} {
		var file bytes.Buffer
		w, err := age.Encrypt(&file, to.keys...)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f.text)
		w.Close()
		_, err = unsealAll(file.Bytes(), id)
		if !errors.Is(err, f.want) || (err == nil) != (f.want == nil) {
			t.Errorf("%s = %v, want %v", name, err, f.want)
		}
		if f.says != "" {
			wantText(t, err, f.says)
		}
	}
}

func pieces(t *testing.T, text string) string {
	var out bytes.Buffer
	z, err := zstd.NewWriter(pieceWriter{&out})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(z, text)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestSentences: what a person sees names the backup and what to do.
func TestSentences(t *testing.T) {
	id, to := pair(t)
	other, _ := pair(t)
	path := filepath.Join(t.TempDir(), "mesh.age")
	d := destination(t, path)
	whole := sample(t, to, noise(100<<10))
	changed := bytes.Clone(whole)
	changed[len(changed)-7] ^= 4
	for name, f := range map[string]struct {
		file []byte
		id   Identity
		want string
	}{
		"wrong key": {whole, other, "the backup " + path + " cannot be used: it was made for another key"},
		"cut":       {whole[:100_000], id, "the backup " + path + " cannot be used: it is cut off; take another backup: it ends after 100000 bytes"},
		"damaged":   {changed, id, "the backup " + path + " cannot be used: it is damaged; take another backup: at byte"},
		"empty":     {nil, id, "the backup " + path + " cannot be used: it is cut off; take another backup: it is empty"},
		"a picture": {[]byte("\x89PNG\r\n"), id, "the backup " + path + " cannot be used: it is not a backup of samnode"},
	} {
		if err := os.WriteFile(path, f.file, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Verify(t.Context(), d, f.id)
		if err == nil || !strings.HasPrefix(err.Error(), f.want) {
			t.Errorf("%s: %v\nwant: %s", name, err, f.want)
		}
	}
}

// TestAReadErrorIsNotDamage: what the disk or the network did is said as it is.
func TestAReadErrorIsNotDamage(t *testing.T) {
	id, to := pair(t)
	file := sample(t, to, noise(300<<10))
	errDisk := errors.New("input/output error")
	for _, n := range []int{0, 10, 150, 5000, 200_000} {
		broken := io.MultiReader(bytes.NewReader(file[:n]), errReader{errDisk})
		_, r, err := unseal(io.NopCloser(broken), id)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, errDisk) || errors.Is(err, ErrCut) || errors.Is(err, ErrDamaged) {
			t.Errorf("a read error after %d bytes = %v, want it alone", n, err)
		}
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func FuzzUnseal(f *testing.F) {
	id, to := pair(f)
	data := noise(100 << 10)
	file := sample(f, to, data)
	f.Add(uint32(0), byte(1), uint32(0))
	f.Add(uint32(100), byte(255), uint32(70_000))
	f.Add(uint32(len(file)-1), byte(128), uint32(1))
	f.Fuzz(func(t *testing.T, at uint32, flip byte, cut uint32) {
		changed := bytes.Clone(file)
		changed[int(at)%len(changed)] ^= flip
		changed = changed[:len(changed)-int(cut)%(len(changed)+1)]
		got, err := unsealAll(changed, id)
		if same := bytes.Equal(changed, file); same != (err == nil) {
			t.Fatalf("unchanged: %v, error %v", same, err)
		}
		if err == nil && !bytes.Equal(got, data) {
			t.Fatal("other bytes than were written, and no error")
		}
		known := 0
		for _, e := range []error{ErrCut, ErrDamaged, ErrWrongKey, ErrNotBackup} {
			if errors.Is(err, e) {
				known++
			}
		}
		if err != nil && known != 1 {
			t.Fatalf("the error says %d things: %v", known, err)
		}
	})
}

// FuzzUnsealInside: whatever is in an age file of ours, an error or the end.
func FuzzUnsealInside(f *testing.F) {
	id, to := pair(f)
	f.Add([]byte(`{"samnode_backup":1}` + "\n\x05hello\x00{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var file bytes.Buffer
		w, err := age.Encrypt(&file, to.keys...)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(text)
		w.Close()
		if _, err := unsealAll(file.Bytes(), id); err == nil && !bytes.Contains(text, []byte(`"sha256"`)) {
			t.Error("no checksum, no error")
		}
	})
}
