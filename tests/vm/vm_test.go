package vm

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// packages are those whose tests run in a machine.
var packages = []string{
	"libsock/cgroup", "libsock/exe", "libsock/host", "libsock/plan", "libsock/seccomp", "libsock/state", "libsock/stub", "tests/hostile", "tests/integration",
	"tests/shim",
}

// machine is one boot.
type machine struct {
	name     string
	packages []string
	pattern  string // of the tests that it is for; "": all
	kernel   string // parameters
	systemd  bool   // is process 1, and manages the containers' cgroups
}

// unitPattern picks the tests that are about cgroups, and some that go through a container's whole life.
const unitPattern = "Systemd|EveryResource|PidsLimit|Update|Pause|OOM|Cgroup|Group|Unit|InOne|UserNamespaceLife|KilledLater"

// machines differ in their security module (unless told otherwise, Debian's kernel has AppArmor), and in who manages cgroups.
var machines = []machine{
	{name: "apparmor", packages: packages},
	{name: "selinux", packages: []string{"tests/integration"}, pattern: "SELinux", kernel: "security=selinux selinux=1 enforcing=1"},
	{name: "systemd", packages: []string{"tests/integration", "tests/shim"}, pattern: unitPattern, systemd: true},
	{
		name: "hybrid", packages: []string{"libsock/cgroup", "tests/integration"}, pattern: "Systemd|EveryResource|Group|Unit|OOM", systemd: true,
		kernel: "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0",
	},
}

const (
	// tags are those of the Makefile's builds.
	tags = "urfave_cli_no_docs,urfave_cli_no_suggest,netgo,osusergo"
	// timeout is several times what a run takes where qemu emulates the processors on two cores.
	timeout = 20 * time.Minute
	// top is the module's directory, kernelDir where kernel.sh puts the kernel.
	top        = "../.."
	kernelDir  = top + "/.cache/vm/kernel"
	systemdDir = top + "/.cache/vm/systemd"
)

//go:embed init
var initScript []byte

func TestVM(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the machine is an amd64")
	}
	for command, pkg := range map[string]string{
		"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "apparmor_parser": "apparmor", "secilc": "secilc",
	} {
		if _, err := exec.LookPath(command); err != nil {
			if os.Getenv("SOCK_TEST_STRICT") == "1" {
				t.Fatalf("%s is missing: install %s", command, pkg)
			}
			t.Skipf("%s is missing: install %s", command, pkg)
		}
	}
	kernel := fetchKernel(t)
	dir := t.TempDir()
	initramfs := filepath.Join(dir, "initramfs")
	f, err := os.Create(initramfs)
	must(t, err)
	must(t, pack(t, dir).writeTo(f))
	must(t, f.Close())
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) { m.test(t, kernel, initramfs) })
	}
}

// test boots the machine and reports what its tests said.
func (m machine) test(t *testing.T, kernel, initramfs string) {
	pattern := os.Getenv("SOCK_TEST_VM_RUN")
	if m.pattern != "" {
		if pattern != "" && !strings.Contains(pattern, m.pattern) && !m.systemd {
			t.Skipf("it is for %s alone", m.pattern)
		}
		if pattern == "" || !m.systemd {
			pattern = m.pattern
		}
	}
	if m.systemd {
		initramfs = withSystemd(t, initramfs)
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 1<<30))

	// What isn't the kernel's is in the environment of init.
	parameters := fmt.Sprintf("%s packages=%s pattern=%s", m.kernel, strings.Join(m.packages, ","), pattern)
	if m.systemd {
		parameters += " systemd=1 systemd.unit=tests.service systemd.log_target=console systemd.show_status=0"
	}
	output, console := boot(t, kernel, initramfs, disk, parameters)
	all, err := suites(output)
	for _, s := range all {
		tests, err := outcomes(s)
		must(t, err)
		tests.report(t)
		if s.status != "0" && tests.action != "fail" { // a TestMain has found something when all tests had passed
			t.Errorf("%s: exit status %s\n%s", s.name, s.status, &tests.output)
		}
	}
	if err != nil {
		t.Errorf("%v\nconsole:\n%s", err, tail(console))
	} else if len(all) != len(m.packages) {
		t.Errorf("%d packages were tested, not %d", len(all), len(m.packages))
	}
}

// fetchKernel returns the kernel's image; its modules are beside it.
func fetchKernel(t *testing.T) string {
	t.Helper()
	find := func() string {
		found, err := filepath.Glob(kernelDir + "/boot/vmlinuz-*")
		must(t, err)
		return strings.Join(found, "")
	}
	if find() == "" {
		run(t, ".", "./kernel.sh", kernelDir)
	}
	return find()
}

// pack builds sock and the tests, static, and puts them into an initramfs with busybox and modules.
func pack(t *testing.T, dir string) *archive {
	t.Helper()
	a := &archive{}
	for _, name := range strings.Fields("dev disk etc proc sys") {
		a.dir(name)
	}
	a.file("init", 0o755, initScript)
	a.file("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\n"))
	a.file("etc/group", 0o644, []byte("root:x:0:\ntty:x:5:\n"))

	found, err := exec.LookPath("busybox")
	must(t, err)
	must(t, a.copy("bin/busybox", found))
	for _, applet := range strings.Fields(run(t, ".", found, "--list")) {
		if applet != "busybox" {
			a.link("bin/"+applet, "busybox")
		}
	}
	modules := 0
	must(t, filepath.WalkDir(kernelDir+"/lib/modules", func(file string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, ".ko") && wanted(strings.TrimSuffix(path.Base(file), ".ko")) {
			modules++
			return a.copy("modules/"+path.Base(file), file)
		}
		return err
	}))
	if modules == 0 {
		t.Fatalf("no modules in %s", kernelDir)
	}

	packPolicies(t, a, dir)
	sock := filepath.Join(dir, "sock")
	run(t, top, "go", "build", "-tags", tags, "-ldflags", "-s -w", "-o", sock, "./cmd/sock")
	must(t, a.copy("bin/sock", sock))
	for name, source := range map[string][]string{
		"attacker": {tags, "./tests/hostile/attacker"}, "sock-unprotected": {tags + ",weak_exe", "./cmd/sock"},
		"sock-shimd": {tags, "./cmd/sock-shimd"}, "containerd-shim-sock-v1": {tags, "./cmd/containerd-shim-sock-v1"},
	} {
		program := filepath.Join(dir, name)
		run(t, top, append([]string{"go", "build", "-ldflags", "-s -w", "-o", program, "-tags"}, source...)...)
		must(t, a.copy("programs/"+name, program))
	}
	for _, name := range packages {
		binary := filepath.Join(dir, path.Base(name))
		run(t, top, "go", "test", "-c", "-tags", tags, "-ldflags", "-s -w", "-o", binary, "./"+name)
		a.dir("tests/" + name)
		must(t, a.copy("tests/"+name+"/run", binary))
		if data := filepath.Join(top, name, "testdata"); exists(data) {
			must(t, a.copy("tests/"+name+"/testdata", data))
		}
	}
	must(t, a.copy("tests/spec/testdata", filepath.Join(top, "spec/testdata"))) // read by other packages' tests, too
	return a
}

//go:embed tests.service
var testsService []byte

// withSystemd appends systemd, as Debian packs it, to an initramfs: the kernel takes several archives in one.
func withSystemd(t *testing.T, initramfs string) string {
	t.Helper()
	if !exists(systemdDir) {
		run(t, ".", "./systemd.sh", systemdDir)
	}
	a := &archive{}
	must(t, a.copy(".", systemdDir))
	a.file("etc/systemd/system/tests.service", 0o644, testsService)
	a.file("etc/machine-id", 0o444, []byte("0123456789abcdef0123456789abcdef\n"))
	both := filepath.Join(t.TempDir(), "initramfs")
	f, err := os.Create(both)
	must(t, err)
	_, err = f.WriteString(read(t, initramfs))
	must(t, err)
	must(t, a.writeTo(f))
	must(t, f.Close())
	return both
}

// packPolicies compiles the policies of the security modules' tests: what compiles them is not static.
func packPolicies(t *testing.T, a *archive, dir string) {
	t.Helper()
	const features = "/usr/share/apparmor-features/features" // of a kernel that is older than the machine's
	from, appArmor, selinux := filepath.Join(top, "tests/integration/testdata"), filepath.Join(dir, "apparmor"), filepath.Join(dir, "selinux")
	run(t, ".", "apparmor_parser", "--skip-kernel-load", "--skip-cache", "--features-file", features, "--ofile", appArmor, from+"/apparmor.profiles")
	must(t, a.copy("tests/apparmor", appArmor))
	run(t, ".", "secilc", "--output", selinux, "--filecontext", os.DevNull, from+"/selinux.cil")
	must(t, a.copy("tests/selinux", selinux))
}

// wanted tells whether init loads a module: it names them.
func wanted(module string) bool {
	for line := range strings.Lines(string(initScript)) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), "modules="); ok {
			return strings.Contains(" "+strings.Trim(list, "'")+" ", " "+module+" ")
		}
	}
	return false
}

// boot runs the machine until it powers itself off; it returns what init and the kernel printed.
func boot(t *testing.T, kernel, initramfs, disk, parameters string) (output, console string) {
	t.Helper()
	outputFile, consoleFile := filepath.Join(filepath.Dir(disk), "output"), filepath.Join(filepath.Dir(disk), "console")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "2", "-m", "1536", "-no-reboot",
		"-kernel", kernel, "-initrd", initramfs,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off "+parameters,
		"-drive", "file="+disk+",format=raw,if=virtio,cache=unsafe",
		"-serial", "file:"+consoleFile, "-serial", "file:"+outputFile)
	start := time.Now()
	said, err := qemu.CombinedOutput()
	t.Logf("the machine ran for %s", time.Since(start).Round(time.Second))
	if ctx.Err() != nil {
		t.Errorf("the machine was stopped: it ran for longer than %s", timeout)
	} else if err != nil {
		t.Fatalf("qemu: %v: %s", err, said)
	}
	return read(t, outputFile), read(t, consoleFile)
}

func tail(text string) string { return text[max(0, len(text)-8<<10):] }

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	return string(data)
}

// run runs a command in a directory and returns what it printed.
func run(t *testing.T, dir string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
