package spec

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/spec/coldjson"
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
	err := coldjson.Unmarshal(data, &v)
	if e, ok := errors.AsType[*coldjson.Error](err); ok {
		err = e.Err
		if e.Path != "" {
			err = &FieldError{Path: e.Path, Err: e.Err}
		}
		return nil, fmt.Errorf("%s:%d:%d: %w", name, e.Line, e.Column, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if v == nil {
		line, column := coldjson.Position(data, bytes.IndexByte(data, 'n'))
		return nil, fmt.Errorf("%s:%d:%d: want object, got null", name, line, column)
	}
	return v, nil
}
