package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/samnode/samnode/chat/seal"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/consensus/backup"
	"github.com/samnode/samnode/ui/api"
)

func (c *cli) backupCommand() *cobra.Command {
	g := group("backup", "Encrypted copies of the mesh, elsewhere",
		c.backupNow(), c.backupSet(), c.backupShow(), c.backupList(), c.backupKeygen())
	g.Long = "Encrypted copies of the whole mesh (chat, tasks, secrets, people) in a folder or an S3-style bucket, made on a\n" +
		"schedule by whichever core node leads. They open with a key that you hold and no node has:\n\n" +
		"  samnode backup keygen > mesh-backup.key      # keep it away from the nodes\n" +
		"  samnode backup set --to s3://host/bucket --schedule 'daily 03:00' --key-file mesh-backup.key\n" +
		"  samnode backup now\n" +
		"  samnode restore --from s3://host/bucket --key-file mesh-backup.key --state DIR"
	return g
}

func (c *cli) backupNow() *cobra.Command {
	return &cobra.Command{Use: "now", Short: "Make a backup now", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var made api.BackupMade
		if err := c.client().wait(30*time.Minute).call(cmd.Context(), http.MethodPost, "backup", struct{}{}, &made); err != nil {
			return err
		}
		return c.print(made, func(w io.Writer) { fmt.Fprintf(w, "%s\t%d bytes\tindex %d\n", made.Where, made.Size, made.Index) })
	}}
}

func (c *cli) backupSet() *cobra.Command {
	var set api.BackupSettings
	var keyFile string
	cmd := &cobra.Command{Use: "set --to PLACE", Short: "Say where backups go, when, and who can open them", Args: args(cobra.NoArgs)}
	f := cmd.Flags()
	f.StringVar(&set.Destination, "to", "", "folder, file ending in .age, or s3://[KEY:SECRET@]host/bucket/prefix")
	f.StringVar(&set.Schedule, "schedule", "daily 03:00", `"daily 03:00", "weekly sun 03:00", "every 6h" or "off"; UTC`)
	f.StringVar(&set.Recipient, "recipient", "", "public key, age1..., of who can open them")
	f.StringVar(&keyFile, "key-file", "", "file of samnode backup keygen; only its public half is sent")
	f.IntVar(&set.Keep, "keep", 30, "how many stay; 0: all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if keyFile != "" {
			key, err := readKey(keyFile)
			if err != nil {
				return err
			}
			if set.Recipient, err = key.Public(); err != nil {
				return err
			}
		}
		if set.Destination == "" || set.Recipient == "" {
			return &exitError{exitUsage, "--to and one of --key-file and --recipient are needed; samnode backup keygen makes a key"}
		}
		if err := c.client().call(cmd.Context(), http.MethodPut, "backup", set, nil); err != nil {
			return err
		}
		return c.done("set", set.Schedule)
	}
	return cmd
}

func (c *cli) backupShow() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Show the settings and how the last one went", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var b api.Backup
		if err := c.client().call(cmd.Context(), http.MethodGet, "backup", nil, &b); err != nil {
			return err
		}
		return c.print(b, func(w io.Writer) {
			fmt.Fprintf(w, "to\t%s\nschedule\t%s\nkey\t%s\n", b.Destination, b.Schedule, b.Recipient)
			if b.Last != nil {
				fmt.Fprintf(w, "last\t%s\t%s\n", b.Last.At.Format(time.RFC3339), b.Last.Where)
			}
			if b.Failed != nil {
				fmt.Fprintf(w, "failed\t%s\t%s\n", b.Failed.At.Format(time.RFC3339), b.Failed.Text)
			}
		})
	}}
}

func (c *cli) backupList() *cobra.Command {
	var from string
	cmd := &cobra.Command{Use: "list --from PLACE", Short: "List the backups of a place", Args: args(cobra.NoArgs)}
	cmd.Flags().StringVar(&from, "from", "", "folder or s3://[KEY:SECRET@]host/bucket/prefix")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := backup.ParseDestination(from, os.Getenv)
		if err != nil {
			return &exitError{exitUsage, err.Error()}
		}
		list, err := backup.List(cmd.Context(), d)
		if err != nil {
			return err
		}
		return c.print(list, func(w io.Writer) {
			for _, b := range list {
				fmt.Fprintf(w, "%s\t%s\tindex %d\t%d bytes\n", b.Name, b.At.Format(time.RFC3339), b.Index, b.Size)
			}
		})
	}
	return cmd
}

func (c *cli) backupKeygen() *cobra.Command {
	return &cobra.Command{Use: "keygen", Short: "Make the key that opens backups; keep it away from the nodes", Args: args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
		identity, recipient, err := backup.GenerateKey()
		if err != nil {
			return err
		}
		if c.json {
			return c.print(map[string]string{"identity": identity, "recipient": recipient}, nil)
		}
		_, err = fmt.Fprintf(c.out, "# opens the backups of a samnode mesh; public key: %s\n%s\n", recipient, identity)
		return err
	}}
}

func (c *cli) restore() *cobra.Command {
	var cfg Config
	var id identity
	var from, keyFile string
	var dev, only, verbose bool
	cmd := &cobra.Command{
		Use:   "restore --from PLACE --key-file FILE",
		Short: "Begin a new mesh from a backup",
		Long: "Begin a new mesh from a backup, with this machine as its first core node: chat, tasks, projects, secrets and\n" +
			"people are those of the backup, nodes and leases are not. The old mesh must be gone: two meshes that push to\n" +
			"the same branches would be in each other's way.",
		Args: args(cobra.NoArgs),
	}
	f := cmd.Flags()
	runFlags(f, &cfg)
	networkFlags(f.StringVar, &cfg, &id)
	f.StringVar(&from, "from", "", "folder (the newest one in it), file, or s3://[KEY:SECRET@]host/bucket/prefix")
	f.StringVar(&keyFile, "key-file", "", "file of samnode backup keygen")
	f.BoolVar(&dev, "dev", false, "into a mesh of one on the loopback interface; samnode dev starts it")
	f.BoolVar(&only, "setup-only", false, "restore and exit; samnode run starts the node")
	f.BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.prepare(cmd, &cfg, verbose); err != nil {
			return err
		}
		key, err := readKey(keyFile)
		if err != nil {
			return err
		}
		if err := restore(cmd.Context(), cfg, id, from, key, dev); err != nil {
			return err
		}
		return c.goOn(cmd.Context(), cfg, only || dev)
	}
	return cmd
}

func readKey(file string) (backup.Identity, error) {
	if file == "" {
		return backup.Identity{}, &exitError{exitUsage, "--key-file is needed: the key of samnode backup keygen"}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return backup.Identity{}, fmt.Errorf("reading the key: %w", err)
	}
	key, err := backup.ParseIdentity(string(data))
	if err != nil {
		return key, &exitError{exitUsage, fmt.Sprintf("%s: %v (samnode backup keygen makes one)", file, err)}
	}
	return key, nil
}

// restore makes the directory the founder's of a new mesh that holds what the
// backup does. The identity is written last: a restore that was cut off leaves
// a directory that no node starts from.
func restore(ctx context.Context, cfg Config, id identity, from string, key backup.Identity, dev bool) error {
	d, err := backup.ParseDestination(from, os.Getenv)
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	release, err := take(cfg.State)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the lock is read-only
	if err := id.complete(); err != nil {
		return err
	}
	id.Mesh, id.Core, id.Founder = ulid.Make().String(), true, true
	id.Network, id.Secret = onLoopback, token(32)
	if !dev {
		id.Network, id.Secret, id.RequestTag = onTailnet, nil, cfg.AuthKey == ""
	}
	meta, r, err := backup.Open(ctx, d, key)
	if err != nil {
		return err
	}
	defer r.Close()
	err = unpack(ctx, cfg, id, r)
	if err == nil && !dev { // last, for a backup that cannot be used leaves no node on the tailnet
		h := host{c: cfg, id: id}
		err = h.tryNetwork(ctx)
	}
	if err != nil {
		return errors.Join(err, wipe(cfg.State))
	}
	cfg.Logger.Info("restored", "mesh", meta.Mesh, "index", meta.Index, "made", meta.At, "into", id.Mesh)
	id.Over = meta.Mesh
	return id.write(cfg.State)
}

// unpack fills the state from what a backup holds.
func unpack(ctx context.Context, cfg Config, id identity, r io.Reader) error {
	p, rest, err := readPreamble(r)
	if err != nil {
		return err
	}
	cfg.Node = id.Node
	n := &node{host: host{c: cfg, id: id}}
	conf, err := n.logConfig(ctx)
	if err == nil {
		err = consensus.Import(ctx, conf, rest)
	}
	if err == nil {
		// The backup is trusted once its end was read and is what was written.
		_, err = io.Copy(io.Discard, rest)
	}
	if err == nil {
		var key *seal.Key
		if key, err = seal.New(p.Key); err == nil {
			err = key.Save(filepath.Join(cfg.State, "mesh.key"))
		}
	}
	return errors.Join(err, n.close())
}

// wipe removes what a restore that failed left.
func wipe(state string) error {
	var errs []error
	for _, name := range []string{"raft", "chat", "mesh.key"} {
		errs = append(errs, os.RemoveAll(filepath.Join(state, name)))
	}
	return errors.Join(errs...)
}

func (c *cli) recover() *cobra.Command {
	var state string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a surviving core node a mesh of one after the majority was lost",
		Long: "Make the core node of a state directory the only voter of its mesh. Do this when most core nodes are lost for\n" +
			"ever, on the survivor with the highest index (samnode status shows it), while it is stopped. What the lost ones had\n" +
			"acknowledged and this one has not is lost. Never start the others' state again: where they reach this node or another\n" +
			"core node that they know they stop, and elsewhere they would be a second mesh.",
		Args: args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&state, "state", "", "directory of the node's state")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg := Config{State: state}
		if err := c.prepare(cmd, &cfg, false); err != nil {
			return err
		}
		if !yes {
			return &exitError{exitRefused, cmd.Long + "\n\nRun it again with --yes."}
		}
		lost, gone, err := recoverNode(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		return c.print(lost, func(w io.Writer) {
			fmt.Fprintf(w, "This node is the only voter now. Its log ends at index %d (term %d); what was acknowledged after that is lost.\n", lost.Last, lost.Term)
			if len(gone) > 0 {
				fmt.Fprintf(w, "Given up: %s. They are taken out of the mesh when this node starts; their state is of no use any more.\n", strings.Join(gone, ", "))
			}
			fmt.Fprintf(w, "Start it with samnode run, and invite new core nodes (samnode node invite --core).\n")
		})
	}
	return cmd
}

func recoverNode(ctx context.Context, cfg Config) (lost consensus.Lost, gone []string, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return lost, nil, err
	}
	id, err := readIdentity(cfg.State)
	if err != nil {
		return lost, nil, err
	}
	release, err := lockState(cfg.State)
	if err != nil {
		return lost, nil, &exitError{exitRefused, err.Error()}
	}
	defer release() //nolint:errcheck // the lock is read-only
	if !id.Core {
		return lost, nil, &exitError{exitRefused, id.Node + " is a worker: it holds no copy of the mesh. Use the state of a core node"}
	}
	cfg.Node = id.Node
	n := &node{host: host{c: cfg, id: id}}
	conf, err := n.logConfig(ctx)
	if err != nil {
		return lost, nil, errors.Join(err, n.close())
	}
	lost, err = consensus.Recover(ctx, conf)
	if err == nil {
		id.Lost = n.otherCores()
		id.Epoch, id.Overtaken = max(id.Epoch, id.Overtaken)+1, 0
		err = id.write(cfg.State)
	}
	return lost, id.Lost, errors.Join(err, n.close())
}

// otherCores names the core nodes of the pool but this one.
func (n *node) otherCores() (names []string) {
	pool, _ := n.pool.Pool()
	for _, m := range pool.Nodes {
		if m.Core && m.Name != n.c.Node {
			names = append(names, m.Name)
		}
	}
	return names
}
