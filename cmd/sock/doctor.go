package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock/host"
)

var doctorCommand = &cli.Command{
	Name:  "doctor",
	Usage: "check the host and print the configuration of engines",
	Description: `Tries what sock needs of the kernel, says which fast paths are active and why the
others are not, and prints what to add to the configuration of Docker,
containerd and Podman so that they use this binary.

Exits with 1 if containers can't run here.`,
	Flags: []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object", DisableDefaultText: true},
	},
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 0, 0); err != nil {
			return err
		}
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the path of this binary: %w", err)
		}
		d := diagnose(host.Probe(), binary)
		write := d.writeTable
		if ctx.Bool("json") {
			write = d.writeJSON
		}
		if err := write(ctx.App.Writer); err != nil {
			return err
		}
		if !d.OK {
			return exitWith(1)
		}
		return nil
	},
}

// diagnosis is what doctor prints.
type diagnosis struct {
	OK       bool         `json:"ok"` // containers can run
	Checks   []host.Check `json:"checks"`
	Snippets []snippet    `json:"snippets"`
}

// snippet is a part of an engine's configuration.
type snippet struct {
	Engine string `json:"engine"`
	File   string `json:"file"`
	Text   string `json:"text"`
}

func diagnose(checks []host.Check, binary string) diagnosis {
	d := diagnosis{OK: true, Checks: checks, Snippets: snippets(binary)}
	for _, c := range checks {
		d.OK = d.OK && c.Verdict != host.Fail
	}
	return d
}

// snippets tells engines of the runtime "sock". In containerd the shim stays runc's, which executes whatever BinaryName says.
func snippets(binary string) []snippet {
	path := strconv.Quote(binary) // both JSON's and TOML's basic strings
	docker := fmt.Sprintf(`{
  "runtimes": {
    "sock": {
      "path": %s
    }
  }
}
`, path)
	containerd := func(version int, plugin string) string {
		table := fmt.Sprintf(`plugins.%q.containerd.runtimes.sock`, plugin)
		return fmt.Sprintf(`version = %d

[%s]
  runtime_type = "io.containerd.runc.v2"

[%s.options]
  BinaryName = %s
`, version, table, table, path)
	}
	// A list replaces the default one, which is in front. Without the first Podman shows errors as lines of a log, without the
	// second it refuses --cgroups=disabled.
	podman := fmt.Sprintf(`[engine]
runtime_supports_json = ["crun", "runc", "kata", "runsc", "krun", "sock"]
runtime_supports_nocgroup = ["crun", "krun", "sock"]

[engine.runtimes]
sock = [%s]
`, path)
	return []snippet{
		{"Docker", "/etc/docker/daemon.json", docker},
		{"containerd 2", "/etc/containerd/config.toml", containerd(3, "io.containerd.cri.v1.runtime")},
		{"containerd 1", "/etc/containerd/config.toml", containerd(2, "io.containerd.grpc.v1.cri")},
		{"Podman", "/etc/containers/containers.conf", podman},
	}
}

func (d diagnosis) writeJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(d)
}

func (d diagnosis) writeTable(w io.Writer) error {
	var text strings.Builder
	width := 0
	for _, c := range d.Checks {
		width = max(width, len(c.Name))
	}
	group := ""
	for _, c := range d.Checks {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&text, "%s\n", group)
		}
		fmt.Fprintf(&text, "  %-5s %-*s  %s\n", c.Verdict, width, c.Name, c.Detail)
	}
	if d.OK {
		text.WriteString("\nContainers can run on this host.\n")
	} else {
		text.WriteString("\nContainers can't run on this host.\n")
	}
	for _, s := range d.Snippets {
		fmt.Fprintf(&text, "\n%s: in %s\n\n", s.Engine, s.File)
		for line := range strings.Lines(s.Text) {
			if line != "\n" {
				text.WriteString("    ")
			}
			text.WriteString(line)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
