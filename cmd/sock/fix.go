package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/sock-runtime/sock/cmd/sock/engines"
	"github.com/sock-runtime/sock/libsock/host"
)

// engineDoc is what doctor says about an engine that it can make know sock.
type engineDoc struct {
	name    string // of --fix
	title   string
	program string
	config  string
	restart string // how it comes to read its configuration
	try     string // what shows that it has
	look    func(config, version, binary string) (engines.Edit, error)
}

var engineDocs = [...]engineDoc{
	{
		name: "docker", title: "Docker", program: "dockerd", config: engines.DockerConfig,
		restart: "systemctl reload docker, or send SIGHUP to dockerd", try: "docker run --rm --runtime sock IMAGE COMMAND",
		look: func(config, _, binary string) (engines.Edit, error) { return engines.Docker(config, binary) },
	},
	{
		name: "containerd", title: "containerd", program: "containerd", config: engines.ContainerdConfig,
		restart: "systemctl restart containerd (containers go on)", try: "containerd config dump | grep runtimes.sock",
		look: func(config, version, _ string) (engines.Edit, error) { return engines.Containerd(config, version) },
	},
}

// version asks the engine's program; "" if there is none.
func (d *engineDoc) version() (string, error) {
	program, err := engines.Program(d.program)
	if err != nil {
		return "", err
	}
	return engines.VersionOf(program)
}

// checkEngines says whether the engines of this host know sock. None of it keeps containers from running.
func checkEngines(binary string) []host.Check {
	var list []host.Check
	add := func(name string, verdict host.Verdict, format string, args ...any) {
		list = append(list, host.Check{Group: "engines", Name: name, Verdict: verdict, Detail: fmt.Sprintf(format, args...)})
	}
	installed := false
	for i := range engineDocs {
		d := &engineDocs[i]
		version, err := d.version()
		if errors.Is(err, engines.ErrNotInstalled) {
			continue
		}
		installed = true
		var edit engines.Edit
		if err == nil {
			edit, err = d.look(d.config, version, binary)
		}
		switch {
		case err != nil:
			add(d.title, host.Warn, "%s", err)
		case len(edit.Changes) > 0:
			add(d.title, host.Warn, "%s doesn't know sock: sock doctor --fix %s", version, d.name)
		default:
			add(d.title, host.OK, "%s knows sock, by %s", version, edit.Known)
		}
	}
	if !installed {
		return nil
	}
	if shim, err := engines.FindShim(engines.ContainerdConfig); err != nil {
		add("shim", host.Warn, "%s: no --runtime %s", err, engines.ShimType)
	} else {
		add("shim", host.OK, "%s: ctr, nerdctl and Docker from 23 on take it by --runtime %s, as it is", shim, engines.ShimType)
	}
	return list
}

// fix has an engine know sock, or shows what it would change.
func fix(w io.Writer, engine, config, binary string, dry bool) error {
	var d *engineDoc
	var names []string
	for i := range engineDocs {
		names = append(names, engineDocs[i].name)
		if engineDocs[i].name == engine {
			d = &engineDocs[i]
		}
	}
	if d == nil {
		return fmt.Errorf("--fix %s: there are %s", engine, strings.Join(names, " and "))
	}
	if config == "" {
		config = d.config
	}
	config, err := filepath.Abs(config)
	if err != nil {
		return err
	}
	version, err := d.version()
	if err != nil && !errors.Is(err, engines.ErrNotInstalled) {
		return err
	}
	edit, err := d.look(config, version, binary)
	if err != nil {
		return err
	}
	var out strings.Builder
	defer func() { _, _ = io.WriteString(w, out.String()) }()
	for _, note := range edit.Notes {
		fmt.Fprintln(&out, "Note:", note)
	}
	if _, err := engines.FindShim(config); err != nil {
		fmt.Fprintf(&out, "Note: %s: make install puts it there\n", err)
	}
	if len(edit.Changes) == 0 {
		fmt.Fprintf(&out, "%s: %s knows sock; there is nothing to do.\n", edit.Known, d.title)
		return nil
	}
	if dry {
		out.WriteString(edit.Diff())
		return nil
	}
	backups, err := edit.Apply(time.Now())
	for _, c := range edit.Changes {
		if kept := backups[c.File]; kept != "" {
			fmt.Fprintf(&out, "%s: changed; the old one is %s\n", c.File, kept)
		} else if err == nil {
			fmt.Fprintf(&out, "%s: written\n", c.File)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(&out, "\nHave %s read it: %s\nThen try: %s\n", d.title, d.restart, d.try)
	return nil
}
