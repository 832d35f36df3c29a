package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// DockerConfig is where dockerd looks for its configuration.
const DockerConfig = "/etc/docker/daemon.json"

// Docker says what dockerd's configuration in a file lacks to have a runtime sock: this binary, which every Docker takes by
// its path. Shims were taken by 23.0 (any that are in PATH, by their type) and 24.0 (under a name, as "runtimeType").
// Older ones ignore that key and run runc under the name, so it isn't written: the type is a name that works, or fails.
func Docker(config, binary string) (Edit, error) {
	before, err := read(config)
	if err != nil {
		return Edit{}, err
	}
	for _, p := range running("dockerd") {
		file, given := p.flag("--config-file")
		if !given {
			file = DockerConfig
		}
		if _, added := p.flag("--add-runtime"); added && sameFile(file, config) {
			return Edit{}, fmt.Errorf("dockerd (pid %d) was started with --add-runtime, and would refuse runtimes in %s beside it: add --add-runtime %s=%s to its command line",
				p.pid, config, Name, binary)
		}
	}
	edit := Edit{Known: config}
	after, err := addRuntime(before, binary)
	if err != nil {
		return Edit{}, fmt.Errorf("%s: %w", config, err)
	}
	if string(after) != string(before) {
		edit.Changes = []Change{{File: config, Before: before, After: after}}
	}
	return edit, nil
}

// DockerText is a daemon.json that says nothing else.
func DockerText(binary string) string {
	return render(property{"", []property{{"runtimes", []property{{Name, []property{{"path", binary}}}}}}}, "", "  ") + "\n"
}

// byteOrderMark may be in front of the text: Docker takes it from 24.0 on.
const byteOrderMark = "\ufeff"

// addRuntime returns the text of a daemon.json with the runtime, and the same text if it has it.
func addRuntime(before []byte, binary string) ([]byte, error) {
	text, marked := strings.CutPrefix(string(before), byteOrderMark)
	if strings.TrimSpace(text) == "" {
		return []byte(DockerText(binary)), nil
	}
	top, err := parseObject(text, 0)
	if err != nil {
		return nil, err
	}
	for _, m := range top.members {
		if m.key == "runtimes" {
			return addToRuntimes(before, text, marked, m, binary)
		}
	}
	return checked(before, marked, top.insert(text, property{"runtimes", []property{{Name, []property{{"path", binary}}}}}, ""), binary)
}

func addToRuntimes(before []byte, text string, marked bool, runtimes member, binary string) ([]byte, error) {
	if text[runtimes.start] != '{' {
		return nil, fmt.Errorf(`"runtimes" is not an object`)
	}
	object, err := parseObject(text, runtimes.start)
	if err != nil {
		return nil, err
	}
	for _, m := range object.members {
		if m.key != Name {
			continue
		}
		var r struct{ Path, RuntimeType string }
		if err := json.Unmarshal([]byte(text[m.start:m.end]), &r); err != nil {
			return nil, fmt.Errorf("runtimes.%s: %w", Name, err)
		}
		if r.Path != "" && sameFile(r.Path, binary) || r.RuntimeType == ShimType {
			return before, nil
		}
		return nil, fmt.Errorf("the runtime %q is something else than %s, %s: remove it, or change it by hand", Name, binary, compact(text[m.start:m.end]))
	}
	return checked(before, marked, object.insert(text, property{Name, []property{{"path", binary}}}, runtimes.indent), binary)
}

// checked makes sure that a changed text says what the old one did, and what was added.
func checked(before []byte, marked bool, text, binary string) ([]byte, error) {
	var was, is map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(string(before), byteOrderMark)), &was); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), &is); err != nil {
		return nil, fmt.Errorf("can't be changed as text: %w", err)
	}
	if was["runtimes"] == nil {
		was["runtimes"] = map[string]any{}
	}
	was["runtimes"].(map[string]any)[Name] = map[string]any{"path": binary}
	if !equal(was, is) {
		return nil, fmt.Errorf("can't be changed as text: define the runtime %q by hand", Name)
	}
	if marked {
		text = byteOrderMark + text
	}
	return []byte(text), nil
}

// sameFile says whether two paths are the same, or lead to the same file.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}
