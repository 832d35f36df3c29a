package engines

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// ContainerdConfig is where containerd looks for its configuration.
const ContainerdConfig = "/etc/containerd/config.toml"

// DropIn is the name of our own file, below the configuration's directory.
const DropIn = "conf.d/sock.toml"

// Containerd says what containerd's configuration in a file lacks to have a handler sock in CRI. Its other clients need
// none. Where it goes depends on the version of the file, or of containerd where there is no file:
//
//   - 1 and 2: into the file itself. containerd 1 has an imported file replace the whole configuration of a plugin.
//   - 3 and later, of containerd 2: into a drop-in, which the file imports. containerd 2 merges them.
//
// containerd 2 reads all of them.
func Containerd(config, version string) (Edit, error) {
	text, err := read(config)
	if err != nil {
		return Edit{}, err
	}
	fresh := text == nil
	if fresh {
		format := 2
		switch major(version) {
		case 0:
			return Edit{}, fmt.Errorf("%s doesn't exist, and neither does a containerd whose version would say how to write it", config)
		case 1:
		default:
			format = 3
		}
		text = fmt.Appendf(nil, "version = %d\n", format)
	}
	main, err := parseTOML(config, text)
	if err != nil {
		return Edit{}, err
	}
	imported, err := main.importedFiles()
	if err != nil {
		return Edit{}, err
	}
	edit := Edit{Known: config}
	if main.disabled() {
		edit.Notes = append(edit.Notes, config+" disables the CRI plugin: Kubernetes has no use for the handler; ctr, nerdctl and Docker need none")
	}
	replaces := main.version < 3 && major(version) < 2
	for _, f := range slices.Backward(append([]*tomlFile{main}, imported...)) {
		if handler, ok := f.handler(); ok {
			if kind := handler["runtime_type"]; kind != ShimType {
				return Edit{}, fmt.Errorf("%s: the runtime %q is something else than %s, its runtime_type is %q: remove it, or change it by hand", f.name, Name, ShimType, kind)
			}
			edit.Known = f.name
			return edit, nil
		}
		if replaces && f != main && f.cri() != nil {
			return Edit{}, fmt.Errorf("%s imports %s, whose configuration of CRI replaces that of all other files in containerd 1: add sock there, by --config %s",
				config, f.name, f.name)
		}
	}
	before := text
	if fresh {
		before = nil
	}
	if main.version < 3 {
		after, err := main.append(handlerTable(main.version))
		if err != nil {
			return Edit{}, err
		}
		edit.Changes = []Change{{File: config, Before: before, After: after}}
		return edit, nil
	}
	dropIn := filepath.Join(filepath.Dir(config), DropIn)
	if slices.ContainsFunc(imported, func(f *tomlFile) bool { return f.name == dropIn }) {
		return Edit{}, fmt.Errorf("%s is there already, without a runtime %q: remove it, or add the runtime to it", dropIn, Name)
	}
	was, err := read(dropIn)
	if err != nil {
		return Edit{}, err
	}
	if was == nil {
		edit.Changes = append(edit.Changes, Change{File: dropIn, After: []byte(dropInText())})
	} else {
		f, err := parseTOML(dropIn, was)
		if err != nil {
			return Edit{}, err
		}
		if handler, ok := f.handler(); !ok || handler["runtime_type"] != ShimType {
			return Edit{}, fmt.Errorf("%s is there already, without a runtime %q of the type %s: remove it, or change it by hand", dropIn, Name, ShimType)
		}
	}
	if !main.imports(dropIn) {
		after, err := main.addImport(dropIn)
		if err != nil {
			return Edit{}, err
		}
		edit.Changes = append(edit.Changes, Change{File: config, Before: before, After: after})
	}
	return edit, nil
}

// criPlugins are the names of the plugin that has the handlers, by the version of the file.
var criPlugins = [...]string{1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}

func criPlugin(version int) string { return criPlugins[min(max(version, 1), len(criPlugins)-1)] }

// handlerTable is the handler in a file of a version. A pod's annotations that are ours come to the runtime, which refuses
// those that it must not follow: otherwise they would be dropped silently.
func handlerTable(version int) string {
	plugin := criPlugin(version)
	if version > 1 {
		plugin = quote(plugin)
	}
	return fmt.Sprintf("[plugins.%s.containerd.runtimes.%s]\n  runtime_type = %q\n  pod_annotations = [\"dev.sock.*\"]\n", plugin, Name, ShimType)
}

// dropInText is our own file, for containerd 2.0 and newer.
func dropInText() string {
	return "# Written by \"sock doctor --fix containerd\": the runtime handler sock of CRI, for a RuntimeClass of Kubernetes.\n" + Handler(2)
}

// Handler is what makes containerd of a major version know sock, as a file of its own.
func Handler(major int) string {
	version := major + 1
	return fmt.Sprintf("version = %d\n\n%s", version, handlerTable(version))
}

// tomlFile is a file of containerd's configuration.
type tomlFile struct {
	name    string
	text    []byte
	version int
	tree    map[string]any
}

func parseTOML(name string, text []byte) (*tomlFile, error) {
	f := &tomlFile{name: name, text: text, version: 1}
	if err := toml.Unmarshal(text, &f.tree); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			line, column := where.Position()
			return nil, fmt.Errorf("%s: line %d, column %d: %w", name, line, column, err)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch v := f.tree["version"].(type) {
	case nil:
	case int64:
		f.version = int(v)
	default:
		return nil, fmt.Errorf("%s: version is not a number", name)
	}
	if _, ok := f.tree["imports"].([]any); !ok && f.tree["imports"] != nil {
		return nil, fmt.Errorf("%s: imports is not a list", name)
	}
	return f, nil
}

// table goes down a tree, nil where it doesn't lead.
func table(tree map[string]any, path ...string) map[string]any {
	for _, key := range path {
		tree, _ = tree[key].(map[string]any)
	}
	return tree
}

// cri is the configuration of the plugin with the handlers, nil if there is none.
func (f *tomlFile) cri() map[string]any { return table(f.tree, "plugins", criPlugin(f.version)) }

func (f *tomlFile) handler() (map[string]any, bool) {
	handlers := table(f.cri(), "containerd", "runtimes")
	_, ok := handlers[Name]
	return table(handlers, Name), ok
}

// disabled says whether CRI is.
func (f *tomlFile) disabled() bool {
	list, _ := f.tree["disabled_plugins"].([]any)
	return slices.ContainsFunc(list, func(name any) bool { return name == "cri" || name == criPlugins[2] || name == criPlugins[3] })
}

// patterns are the imports, as absolute paths.
func (f *tomlFile) patterns() []string {
	list, _ := f.tree["imports"].([]any)
	var patterns []string
	for _, entry := range list {
		pattern, _ := entry.(string)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(f.name), pattern)
		}
		patterns = append(patterns, pattern)
	}
	return patterns
}

// imports says whether a file would be imported if it existed.
func (f *tomlFile) imports(file string) bool {
	return slices.ContainsFunc(f.patterns(), func(pattern string) bool {
		ok, err := filepath.Match(pattern, file)
		return err == nil && ok
	})
}

// importedFiles reads the files that are imported, by one another too, in containerd's order: what is later counts.
func (f *tomlFile) importedFiles() ([]*tomlFile, error) {
	var files []*tomlFile
	seen := map[string]bool{f.name: true}
	for pending := []*tomlFile{f}; len(pending) > 0; pending = pending[1:] {
		for _, pattern := range pending[0].patterns() {
			names, err := filepath.Glob(pattern)
			if err != nil {
				return nil, fmt.Errorf("%s: imports: %w", pending[0].name, err)
			}
			for _, name := range names {
				if seen[name] {
					continue
				}
				seen[name] = true
				text, err := read(name)
				if err != nil {
					return nil, err
				}
				imported, err := parseTOML(name, text)
				if err != nil {
					return nil, err
				}
				files, pending = append(files, imported), append(pending, imported)
			}
		}
	}
	return files, nil
}

// append returns the text with a table at its end.
func (f *tomlFile) append(lines string) ([]byte, error) {
	text := string(f.text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += newline(text)
	}
	text += strings.ReplaceAll("\n# Added by \"sock doctor --fix containerd\".\n"+lines, "\n", newline(text))
	return f.checked(text, func(tree map[string]any) {
		plugin := criPlugin(f.version)
		for _, key := range []string{"plugins", plugin, "containerd", "runtimes"} {
			if table(tree, key) == nil {
				tree[key] = map[string]any{}
			}
			tree = table(tree, key)
		}
		tree[Name] = map[string]any{"runtime_type": ShimType, "pod_annotations": []any{"dev.sock.*"}}
	})
}

// addImport returns the text with one more import.
func (f *tomlFile) addImport(file string) ([]byte, error) {
	text := string(f.text)
	list, exists := f.tree["imports"].([]any)
	version, imports, err := f.places()
	if err != nil {
		return nil, err
	}
	switch {
	case !exists:
		text = text[:version] + newline(text) + "imports = [" + quote(file) + "]" + text[version:]
	case len(list) == 0:
		text = text[:imports] + quote(file) + text[imports:]
	default:
		text = text[:imports] + ", " + quote(file) + text[imports:]
	}
	return f.checked(text, func(tree map[string]any) { tree["imports"] = append(slices.Clone(list), file) })
}

// places finds the end of version's line, and where one more import goes: after the last one, or the bracket.
func (f *tomlFile) places() (version, imports int, err error) {
	var p unstable.Parser
	p.Reset(f.text)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			break
		}
		key := e.Key()
		if !key.Next() || !key.IsLast() {
			continue
		}
		end := int(e.Raw.Offset + e.Raw.Length)
		switch string(key.Node().Data) {
		case "version":
			if version = bytes.IndexByte(f.text[end:], '\n'); version < 0 {
				version = len(f.text)
			} else {
				version += end
			}
			version = len(bytes.TrimSuffix(f.text[:version], []byte("\r")))
		case "imports":
			if e.Value().Kind != unstable.Array {
				continue
			}
			raw := p.Raw(e.Raw)
			equals := bytes.IndexByte(raw, '=')
			imports = int(e.Raw.Offset) + equals + bytes.IndexByte(raw[equals:], '[') + 1
			for entry := e.Value().Children(); entry.Next(); {
				if n := entry.Node(); n.Kind == unstable.String {
					imports = int(n.Raw.Offset + n.Raw.Length)
				}
			}
		}
	}
	return version, imports, p.Error()
}

// checked makes sure that a changed text says what the old one did, and what was added.
func (f *tomlFile) checked(text string, add func(tree map[string]any)) ([]byte, error) {
	changed, err := parseTOML(f.name, []byte(text))
	if err == nil {
		var want *tomlFile
		if want, err = parseTOML(f.name, f.text); err == nil {
			if want.tree == nil {
				want.tree = map[string]any{}
			}
			add(want.tree)
			if !equal(want.tree, changed.tree) {
				err = errors.New("it would say something else")
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be changed as text, add the lines by hand (%w):\n%s", f.name, err, handlerTable(f.version))
	}
	return []byte(text), nil
}
