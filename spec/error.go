package spec

import (
	"fmt"
	"strconv"
)

// FieldError is a complaint about one field of config.json.
type FieldError struct {
	// Path is the JSON path of the field, such as "mounts[3].options[1]".
	Path string
	Err  error
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }

func (e *FieldError) Unwrap() error { return e.Err }

// Field returns an error about the field at the JSON path. The format may wrap an error with %w.
func Field(path, format string, args ...any) *FieldError {
	return &FieldError{Path: path, Err: fmt.Errorf(format, args...)}
}

// element is the JSON path of list's i-th element.
func element(list string, i int) string {
	return list + "[" + strconv.Itoa(i) + "]"
}

// member is the JSON path of an object's member whose name is data, such as a sysctl or an annotation.
func member(object, name string) string {
	return object + "[" + strconv.Quote(name) + "]"
}
