package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// docker is a dockerd of our own, in a network namespace of its own.
type docker struct {
	name, program string
	server        *exec.Cmd
	env           []string
}

// benchDocker compares runtimes under the Docker that is installed, and under a recent one if there is one, which has a recent
// runc beside it.
func benchDocker(ctx context.Context, o options, runtimes []*Runtime, b Bundle, dir string, report *Report) error {
	var found []docker
	if dockerd, err := lookPath("dockerd"); err == nil {
		d := docker{name: "docker", program: "/usr/bin/docker", server: exec.Command(dockerd)}
		if _, err := os.Stat(d.program); err != nil {
			d.program = "docker"
		}
		d.env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
		found = append(found, d)
	}
	if dockerd := filepath.Join(o.docker, "dockerd"); exists(dockerd) {
		d := docker{name: "docker-new", program: filepath.Join(o.docker, "docker"), server: exec.Command(dockerd)}
		if !exists(d.program) {
			d.program = "docker"
		}
		d.env = []string{"PATH=" + strings.Join([]string{o.docker, filepath.Join(filepath.Dir(o.docker), "runc"), o.containerd, o.shims, os.Getenv("PATH"), "/usr/sbin:/sbin"}, ":")}
		found = append(found, d)
	}
	for _, d := range found {
		if err := d.bench(ctx, o, runtimes, b, filepath.Join(dir, d.name), report); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (d *docker) bench(ctx context.Context, o options, runtimes []*Runtime, b Bundle, dir string, report *Report) error {
	if err := d.start(ctx, o, runtimes, dir); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	defer stopServer(d.server)
	version, err := d.output("version", "--format", "{{.Server.Version}}")
	if err != nil {
		return err
	}
	tar := exec.Command("sh", "-c", `tar -C "$1" -c . | "$2" import - box`, "sh", b.rootfs, d.program)
	tar.Env = append(os.Environ(), d.env...)
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("docker import: %w: %s", err, out)
	}
	fmt.Printf("\nDocker %s\n", version)
	var contestants []contestant
	for _, name := range d.runtimes(runtimes) {
		c := contestant{name, func(int, int) error {
			_, err := d.output("run", "--rm", "--runtime", name, "--cgroup-parent", cgroupParent(), "box", "/bin/true")
			return err
		}}
		// Old ones refuse the config of a recent Docker.
		if err := c.once(0, 0); err != nil {
			if ctx.Err() != nil || strings.HasPrefix(name, "sock") {
				return err
			}
			fmt.Fprintf(os.Stderr, "bench: %s does not take part: %v\n", name, err)
			continue
		}
		contestants = append(contestants, c)
	}
	for _, at := range o.at {
		c := contest{
			name: d.name, what: "docker run --rm of /bin/true", contestants: contestants, concurrency: at, share: 1, rounds: o.roundsAt(at, 18),
		}
		if err := report.add(c.run(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// runtimes are the names under which it knows them.
func (d *docker) runtimes(runtimes []*Runtime) (names []string) {
	for _, r := range runtimes {
		names = append(names, r.Name)
	}
	if d.name == "docker-new" { // which can use shims, too
		names = slices.Insert(names, 1, "sock-shim")
	}
	return names
}

// start starts dockerd with the runtimes, and waits until it answers.
func (d *docker) start(ctx context.Context, o options, runtimes []*Runtime, dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	known := map[string]any{}
	for _, r := range runtimes {
		if r.Name != "runc" { // Docker has that one itself
			known[r.Name] = map[string]string{"path": r.path}
		}
	}
	if d.name == "docker-new" {
		known["sock-shim"] = map[string]string{"runtimeType": filepath.Join(o.shims, "containerd-shim-sock-v1")}
	}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	config, err := json.Marshal(map[string]any{
		"runtimes": known, "exec-opts": []string{"native.cgroupdriver=cgroupfs"}, "data-root": filepath.Join(dir, "data"),
		"exec-root": "/run/" + d.name, "pidfile": "/run/" + d.name + ".pid", "hosts": []string{socket},
	})
	if err != nil {
		return err
	}
	file, log := filepath.Join(dir, "daemon.json"), filepath.Join(dir, "log")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		return err
	}
	d.env = append(d.env, "DOCKER_HOST="+socket, "DOCKER_CONFIG="+dir, "DOCKER_CONTEXT=default")
	d.server = exec.Command("sh", "-c", `ip link set lo up && exec "$@"`, "sh", d.server.Path, "--config-file", file)
	d.server.Env = append(os.Environ(), d.env...)
	d.server.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := startServer(d.server, log); err != nil {
		return err
	}
	for deadline := time.Now().Add(engineTimeout); ; time.Sleep(50 * time.Millisecond) {
		_, err := d.output("version")
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			stopServer(d.server)
			return fmt.Errorf("dockerd does not start: %w\n%s", errors.Join(err, ctx.Err()), lastWords(log))
		}
	}
}

// output runs a docker command.
func (d *docker) output(args ...string) (string, error) {
	cmd := exec.Command(d.program, args...)
	cmd.Env = append(os.Environ(), d.env...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		said, _, _ := strings.Cut(string(failed.Stderr), "\n")
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(string(out)), err
}
