package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/cmd/sock/engines"
	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/spec"
	"github.com/sock-runtime/sock/spec/settings"
)

var doctorCommand = &cli.Command{
	Name:  "doctor",
	Usage: "check the host, and make engines know sock",
	Description: `Tries what sock needs of the kernel, says which fast paths are active and why the
others are not, whether Docker and containerd know sock, and what to add to the
configuration of engines. Exits with 1 if containers can't run here.

With --fix it adds that, for docker or containerd. What is there stays as it is,
and the old file is kept beside the new one. The engine is not restarted.

    # sock doctor --fix docker --dry-run
    # sock doctor --fix docker`,
	Flags: []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object", DisableDefaultText: true},
		&cli.StringFlag{Name: "fix", Usage: "have an `ENGINE`, docker or containerd, know sock"},
		&cli.BoolFlag{Name: "dry-run", Usage: "with --fix, show what would be changed", DisableDefaultText: true},
		&cli.StringFlag{Name: "config", Usage: "with --fix, the engine's configuration `FILE`: /etc/docker/daemon.json or /etc/containerd/config.toml if it isn't given"},
	},
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 0, 0); err != nil {
			return err
		}
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the path of this binary: %w", err)
		}
		if ctx.IsSet("fix") {
			if ctx.Bool("json") {
				return errors.New("--fix has no --json")
			}
			return fix(ctx.App.Writer, ctx.String("fix"), ctx.String("config"), binary, ctx.Bool("dry-run"))
		}
		if ctx.IsSet("config") || ctx.Bool("dry-run") {
			return errors.New("--config and --dry-run need --fix")
		}
		d := diagnose(slices.Concat(host.Probe(), checkSettings(), checkEngines(binary)), binary)
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

// snippets tells engines of the runtime "sock".
func snippets(binary string) []snippet {
	list := []snippet{{"Docker", engines.DockerConfig, engines.DockerText(binary)}}
	for major := 2; major > 0; major-- {
		name := fmt.Sprint("containerd ", major)
		list = append(list, snippet{name, engines.ContainerdConfig, engines.Handler(major)})
	}
	// A list replaces the default one, which is in front. Without the first Podman shows errors as lines of a log, without the
	// second it refuses --cgroups=disabled.
	podman := fmt.Sprintf(`[engine]
runtime_supports_json = ["crun", "runc", "kata", "runsc", "krun", "sock"]
runtime_supports_nocgroup = ["crun", "krun", "sock"]

[engine.runtimes]
sock = [%s]
`, strconv.Quote(binary))
	return append(list, snippet{"Podman", "/etc/containers/containers.conf", podman})
}

// checkSettings says what holds for all containers. If it can't be read, none is made.
func checkSettings() []host.Check {
	c := host.Check{Group: "settings", Name: spec.SettingsFile}
	s, err := settings.Read()
	if err != nil {
		c.Verdict, c.Detail = host.Fail, strings.TrimPrefix(err.Error(), spec.SettingsFile+": ")
		return []host.Check{c}
	}
	allowed := s.AnnotationProfiles
	if allowed == nil {
		allowed = []string{plan.Standard}
	}
	c.Verdict = host.OK
	c.Detail = fmt.Sprintf("profile %s, annotations may choose %q, shims by %s", cmp.Or(s.Profile, plan.Standard), allowed, cmp.Or(s.Grouping, "namespace"))
	if s.SystemdCgroup {
		c.Detail += ", cgroups by systemd"
	}
	return []host.Check{c}
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
