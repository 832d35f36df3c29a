package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Parse reads the JSON of a config.json; errors begin with name, line and column, both counted from 1, columns in
// bytes. Unknown properties are ignored, as config.md "Extensibility" demands; anything after the object is an error.
func Parse(data []byte, name string) (*specs.Spec, error) {
	return parse[specs.Spec](data, name)
}

// ParseProcess reads the JSON of one process, as `exec --process` takes it. Errors are those of Parse.
func ParseProcess(data []byte, name string) (*specs.Process, error) {
	return parse[specs.Process](data, name)
}

// ParseResources reads the JSON of linux.resources, as `update --resources` takes it. Errors are those of Parse.
func ParseResources(data []byte, name string) (*specs.LinuxResources, error) {
	return parse[specs.LinuxResources](data, name)
}

func parse[T any](data []byte, name string) (*T, error) {
	var v *T
	err := json.Unmarshal(data, &v)

	var syntaxErr *json.SyntaxError
	var typeErr *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntaxErr):
		return nil, fmt.Errorf("%s: %w", position(data, name, int(syntaxErr.Offset)-1), err) // The last byte read is the bad one.
	case errors.As(err, &typeErr):
		path, start := locate(data, typeErr.Offset)
		complaint := fmt.Errorf("want %s, got %s", jsonType(typeErr.Type), typeErr.Value)
		if path != "" {
			complaint = &FieldError{Path: path, Err: complaint}
		}
		return nil, fmt.Errorf("%s: %w", position(data, name, start), complaint)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case v == nil:
		return nil, fmt.Errorf("%s: want object, got null", position(data, name, bytes.IndexByte(data, 'n')))
	}
	return v, nil
}

// position says where the byte at offset stands, in the form of compilers: name:line:column.
func position(data []byte, name string, offset int) string {
	before := data[:max(offset, 0)]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("%s:%d:%d", name, line, column)
}

// container is an object or array that is being read.
type container struct {
	object   bool
	key      string // the object's current member
	keyed    bool   // its key is read, its value is not
	elements int    // values read so far
}

// locate finds the value that contains the last of the first read bytes of data, which is valid JSON.
// It returns its JSON path and the offset of its first byte.
func locate(data []byte, read int64) (path string, start int) {
	var stack []container
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // Numbers may be too large for float64.
	for {
		before := dec.InputOffset()
		token, err := dec.Token()
		if err != nil {
			return "", 0
		}
		delim, _ := token.(json.Delim)
		if n := len(stack); n > 0 && stack[n-1].object && !stack[n-1].keyed && delim != '}' {
			stack[n-1].key, stack[n-1].keyed = token.(string), true
			continue
		}
		if delim == '}' || delim == ']' {
			stack = stack[:len(stack)-1]
		} else if dec.InputOffset() >= read {
			value := bytes.TrimLeft(data[before:], " \t\r\n,:")
			return pathOf(stack), len(data) - len(value)
		}
		if delim == '{' || delim == '[' {
			stack = append(stack, container{object: delim == '{'})
		} else if n := len(stack); n > 0 { // A value has ended.
			stack[n-1].keyed = false
			stack[n-1].elements++
		}
	}
}

// pathOf is the JSON path of the value being read in the innermost of the containers.
func pathOf(stack []container) (path string) {
	for _, c := range stack {
		switch {
		case !c.object:
			path = element(path, c.elements)
		case c.key == "" || strings.ContainsFunc(c.key, isSpecial):
			path = member(path, c.key)
		case path == "":
			path = c.key
		default:
			path += "." + c.key
		}
	}
	return path
}

// isSpecial reports whether a key with r in it must be quoted in a JSON path.
func isSpecial(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }

// jsonType names the JSON type that a Go type is read from.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "array"
	}
	return t.Kind().String() // string, bool, uint32, ...
}
