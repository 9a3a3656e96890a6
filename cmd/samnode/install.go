package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unitName is the systemd service that `samnode install` writes.
const unitName = "samnode.service"

// unit is the text of the service. A node stops within seconds; its agents are
// in containers of the Docker engine and go on without it, so only the node's
// own process is ended. Exit code 1 is tried again, 2 and 3 want a person.
func unit(binary, state string, flags []string) string {
	words := append([]string{binary, "run", "--state", state}, flags...)
	for i, w := range words {
		words[i] = quoteUnit(w)
	}
	return `[Unit]
Description=samnode, a node of a mesh that runs coding agents
Documentation=https://github.com/samnode/samnode
After=network-online.target docker.service
Wants=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
ExecStart=` + strings.Join(words, " ") + `
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 3
KillMode=process
TimeoutStopSec=30
LimitNOFILE=65536
Environment=HOME=/root

[Install]
WantedBy=multi-user.target
`
}

// quoteUnit writes a word as systemd reads it: its own quotes, and no
// specifiers.
func quoteUnit(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	s = strings.ReplaceAll(s, "$", "$$")
	if !strings.ContainsAny(s, " \t\"'\\") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (c *cli) install() *cobra.Command {
	var state, dir string
	var show bool
	cmd := &cobra.Command{
		Use:   "install [-- RUN-FLAG...]",
		Short: "Write and start a systemd service that runs this node",
		Long: "Write a systemd service that runs the node of a state directory at every boot, and start it.\n" +
			"Begin or join a mesh first (samnode init, samnode join). As root. What follows -- are flags of samnode run.",
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "directory of the node's state (default: samnode in the user's data folder)")
	f.StringVar(&dir, "unit-dir", "/etc/systemd/system", "folder of the unit")
	f.BoolVar(&show, "print", false, "print the unit and change nothing")
	cmd.RunE = func(cmd *cobra.Command, flags []string) error {
		if err := checkRunFlags(flags); err != nil {
			return err
		}
		state, err := stateDir(state)
		if err != nil {
			return err
		}
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		if binary, err = filepath.EvalSymlinks(binary); err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		text := unit(binary, state, flags)
		if show {
			fmt.Fprint(c.out, text)
			return nil
		}
		if _, err := readIdentity(state); err != nil {
			return err
		}
		path := filepath.Join(dir, unitName)
		if err := writeUnit(path, text); err != nil {
			return err
		}
		started, err := startUnit(cmd.Context(), dir)
		if err != nil {
			return err
		}
		return c.print(map[string]any{"unit": path, "started": started}, func(w io.Writer) {
			fmt.Fprintf(w, "wrote %s\n", path)
			if started {
				fmt.Fprintf(w, "the node runs now and at every boot: systemctl status samnode, journalctl -u samnode\n")
			} else {
				fmt.Fprintf(w, "systemd does not run here; on a machine with it: systemctl enable --now samnode\n")
			}
		})
	}
	return cmd
}

// checkRunFlags refuses what the service would fail with at every boot.
func checkRunFlags(words []string) error {
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	runFlags(f, new(Config))
	err := f.Parse(words)
	switch {
	case err != nil:
		return &exitError{exitUsage, fmt.Sprintf("samnode run would not take these flags: %v", err)}
	case f.NArg() > 0:
		return &exitError{exitUsage, fmt.Sprintf("samnode run takes no argument %q", f.Arg(0))}
	case f.Changed("state"):
		return &exitError{exitUsage, "give --state before the --"}
	}
	return nil
}

func writeUnit(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // units are for everyone to read
		return fmt.Errorf("writing the unit (as root?): %w", err)
	}
	return nil
}

// startUnit enables the service where systemd runs and dir is its own.
func startUnit(ctx context.Context, dir string) (started bool, err error) {
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, os.ErrNotExist) || dir != "/etc/systemd/system" {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "--now", unitName}} {
		if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
			return false, fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return true, nil
}

// stateDir is the directory as given, or a person's own.
func stateDir(dir string) (string, error) {
	if dir == "" {
		return dataDir()
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolving the state directory: %w", err)
	}
	return abs, nil
}
