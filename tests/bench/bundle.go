package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Bundle is what the containers are made from: one root file system and two configs.
type Bundle struct {
	Short   string // directory of the one whose process is /bin/true
	Waiting string // directory of the one whose process waits, for exec
	rootfs  string
}

// makeBundle makes both in dir. The config is what `sock spec` writes, but for the terminal, the process, and a version
// of the specification that old runtimes take, too.
func makeBundle(sock *Runtime, dir string) (Bundle, error) {
	b := Bundle{filepath.Join(dir, "short"), filepath.Join(dir, "waiting"), filepath.Join(dir, "rootfs")}
	if err := makeRootfs(b.rootfs); err != nil {
		return b, fmt.Errorf("make the root file system: %w", err)
	}
	if err := makeConfig(sock, b.Short, b.rootfs, "/bin/true"); err != nil {
		return b, err
	}
	return b, makeConfig(sock, b.Waiting, b.rootfs, "/bin/sleep", "1000000")
}

func makeRootfs(dir string) error {
	for _, name := range []string{"bin", "dev", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	busybox, err := lookPath("busybox")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"true", "sleep"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	return nil
}

func makeConfig(sock *Runtime, dir, rootfs string, args ...string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := sock.call("spec", "--bundle", dir); err != nil {
		return err
	}
	name := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	config := map[string]any{}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	process, isObject := config["process"].(map[string]any)
	root, isObjectToo := config["root"].(map[string]any)
	if !isObject || !isObjectToo {
		return errors.New("sock spec wrote a config without process or root")
	}
	config["ociVersion"] = "1.0.2"
	process["terminal"], process["args"] = false, args
	root["path"] = rootfs
	if data, err = json.MarshalIndent(config, "", "\t"); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}
