package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus/backup"
	"github.com/samnode/samnode/ui/api"
)

// The settings that hold where backups go, and how the last ones went. The
// first is sealed: an S3 URL may hold a key.
const (
	settingBackup       = "backup"
	settingBackupLast   = "backup-last"
	settingBackupFailed = "backup-failed"
)

// backups is what this node knows of backups. One runs at a time.
type backups struct {
	running sync.Mutex
}

// preamble is the first line of what a backup holds; the log's own export
// follows.
type preamble struct {
	Key []byte `json:"key"` // the mesh key: without it the secrets in the log are noise
}

// get is the settings and what came of them.
func (b *backups) get(n *node) api.Backup {
	var out api.Backup
	set, err := n.backupSettings()
	if err != nil {
		n.c.Logger.Warn("reading the settings of backups", "err", err)
	}
	out.BackupSettings = set
	readSetting(n, settingBackupLast, &out.Last)
	readSetting(n, settingBackupFailed, &out.Failed)
	if out.Failed != nil && out.Last != nil && out.Last.At.After(out.Failed.At) {
		out.Failed = nil
	}
	if s, err := backup.ParseSchedule(set.Schedule); err == nil && set.Destination != "" && !s.Off() {
		out.Next = s.Next(lastTry(out))
	}
	return out
}

// lastTry is when a backup was last made or tried.
func lastTry(b api.Backup) (at time.Time) {
	if b.Last != nil {
		at = b.Last.At
	}
	if b.Failed != nil && b.Failed.At.After(at) {
		at = b.Failed.At
	}
	return at
}

func readSetting[T any](n *node, name string, into **T) {
	text := n.room.Setting(name)
	if text == "" {
		return
	}
	v := new(T)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		n.c.Logger.Warn("reading a setting", "name", name, "err", err)
		return
	}
	*into = v
}

func (n *node) backupSettings() (api.BackupSettings, error) {
	var set api.BackupSettings
	text := n.room.Setting(settingBackup)
	if text == "" {
		return set, nil
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return set, fmt.Errorf("decoding: %w", err)
	}
	data, err := n.key.Open(settingBackup, sealed)
	if err != nil {
		return set, err
	}
	return set, json.Unmarshal(data, &set)
}

// setSetting writes a value that only this program reads.
func (n *node) setSetting(ctx context.Context, by chat.Author, name, value string) error {
	_, err := n.room.Do(ctx, by, "", chat.Op{SettingPut: &chat.SettingPut{Name: name, Value: value}})
	return err
}

func (n *node) noteBackup(ctx context.Context, name string, v any) {
	data, err := json.Marshal(v)
	if err == nil {
		err = n.setSetting(ctx, n.c.author(), name, string(data))
	}
	if err != nil && ctx.Err() == nil {
		n.c.Logger.Warn("noting how the backup went", "err", err)
	}
}

// Backup implements api.Backups.
func (v meshView) Backup(context.Context) (api.Backup, error) {
	b := v.n.backup.get(v.n)
	if d, err := backup.ParseDestination(b.Destination, nil); err == nil {
		b.Destination = d.String() // without its secret
	}
	return b, nil
}

// SetBackup implements api.Backups.
func (v meshView) SetBackup(ctx context.Context, by chat.Author, set api.BackupSettings) error {
	n := v.n
	if old, err := n.backupSettings(); err == nil && old.Destination != "" {
		if d, err := backup.ParseDestination(old.Destination, nil); err == nil && d.String() == set.Destination {
			set.Destination = old.Destination // as it was shown, without its secret
		}
	}
	if set.Destination != "" {
		if err := checkBackup(set, n.env(ctx)); err != nil {
			return fmt.Errorf("%w: %w", err, chat.ErrInvalid)
		}
	}
	data, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("encoding the settings of backups: %w", err)
	}
	return n.setSetting(ctx, by, settingBackup, base64.StdEncoding.EncodeToString(n.key.Seal(settingBackup, data)))
}

func checkBackup(set api.BackupSettings, env func(string) string) error {
	if _, err := backup.ParseDestination(set.Destination, env); err != nil {
		return err
	}
	if _, err := backup.ParseSchedule(set.Schedule); err != nil {
		return err
	}
	if _, err := backup.ParseRecipient(set.Recipient); err != nil {
		return fmt.Errorf("backups are encrypted for a key that you hold (samnode backup keygen): %w", err)
	}
	return nil
}

// env gives a bucket's credentials: the mesh's secrets, then this process's
// environment.
func (n *node) env(ctx context.Context) func(string) string {
	return func(name string) string {
		if value, err := n.secret(ctx, "", name); err == nil {
			return value
		}
		return os.Getenv(name)
	}
}

// BackUp implements api.Backups.
func (v meshView) BackUp(ctx context.Context, _ chat.Author) (api.BackupMade, error) {
	return v.n.backUp(ctx)
}

// backUp makes one backup now: the whole state at one index, encrypted.
func (n *node) backUp(ctx context.Context) (api.BackupMade, error) {
	if !n.backup.running.TryLock() {
		return api.BackupMade{}, fmt.Errorf("a backup is being made on %s already: %w", n.c.Node, chat.ErrRefused)
	}
	defer n.backup.running.Unlock()
	set, err := n.backupSettings()
	if err != nil {
		return api.BackupMade{}, err
	}
	if set.Destination == "" {
		return api.BackupMade{}, fmt.Errorf("no place for backups is set (samnode backup set): %w", chat.ErrRefused)
	}
	made, err := n.writeBackup(ctx, set)
	if err != nil {
		n.c.Logger.Error("making a backup", "err", err)
		n.noteBackup(ctx, settingBackupFailed, api.BackupFailed{At: time.Now().UTC(), Text: err.Error()})
		return made, fmt.Errorf("%w: %w", err, chat.ErrRefused)
	}
	n.c.Logger.Info("made a backup", "where", made.Where, "bytes", made.Size, "index", made.Index)
	n.noteBackup(ctx, settingBackupLast, made)
	return made, nil
}

func (n *node) writeBackup(ctx context.Context, set api.BackupSettings) (api.BackupMade, error) {
	dest, err := backup.ParseDestination(set.Destination, n.env(ctx))
	if err != nil {
		return api.BackupMade{}, err
	}
	to, err := backup.ParseRecipient(set.Recipient)
	if err != nil {
		return api.BackupMade{}, err
	}
	copied, err := n.log.Export(ctx, n.c.State)
	if err != nil {
		return api.BackupMade{}, fmt.Errorf("copying the state: %w", err)
	}
	defer copied.Close() // its file is a copy
	pool, _ := n.pool.Pool()
	meta := backup.Meta{Mesh: pool.Mesh.ID, Node: n.c.Node, Index: copied.Index, Version: version, At: time.Now().UTC(), Size: copied.Size}
	info, err := backup.Write(ctx, dest, to, meta, func(w io.Writer) error { return n.fillBackup(w, copied.Path) })
	if err != nil {
		return api.BackupMade{}, err
	}
	if _, err := backup.Prune(ctx, dest, pool.Mesh.ID, set.Keep); err != nil {
		n.c.Logger.Warn("removing old backups", "err", err)
	}
	return api.BackupMade{At: meta.At, Where: dest.Pick(info.Name).String(), Size: info.Size, Index: meta.Index}, nil
}

func (n *node) fillBackup(w io.Writer, path string) error {
	if err := json.NewEncoder(w).Encode(preamble{Key: n.key.Bytes()}); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// readPreamble reads the first line of a backup; the rest is the log's.
func readPreamble(r io.Reader) (preamble, *bufio.Reader, error) {
	var p preamble
	in := bufio.NewReader(r)
	line, err := in.ReadString('\n')
	if err != nil {
		return p, nil, fmt.Errorf("reading the backup: %w", err)
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(line)), &p); err != nil {
		return p, nil, fmt.Errorf("reading the backup: %w", err)
	}
	return p, in, nil
}

// keepBackups makes backups when they are due, on the leader.
func (n *node) keepBackups(ctx context.Context) error {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		b := n.backup.get(n)
		if !b.Next.IsZero() && !time.Now().Before(b.Next) {
			if _, err := n.backUp(ctx); err != nil && !errors.Is(err, chat.ErrRefused) && ctx.Err() == nil {
				n.c.Logger.Error("making the backup that is due", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
