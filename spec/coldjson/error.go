package coldjson

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Error is a complaint about a place in JSON text.
type Error struct {
	Line, Column int    // of the bad byte or of the first byte of the bad value, counted from 1, Column in bytes
	Path         string // of the bad value, such as mounts[3].options[1]; empty where the text isn't JSON and for all of it
	Err          error

	offset int      // what Line and Column stand for
	steps  []string // of Path, the innermost first
	syntax bool     // the text isn't JSON
}

// Error begins with line and column, so that a file's name and a colon can be put before it.
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%d:%d: %v", e.Line, e.Column, e.Err)
	}
	return fmt.Sprintf("%d:%d: %s: %v", e.Line, e.Column, e.Path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Position returns the line and the column of the byte at offset, counted from 1, the column in bytes.
func Position(data []byte, offset int) (line, column int) {
	before := data[:max(offset, 0)]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// inMember says that what is wrong is in the member of an object.
func (e *Error) inMember(key string) *Error {
	switch {
	case e.syntax:
	case key == "" || strings.ContainsFunc(key, isSpecial):
		e.steps = append(e.steps, "["+strconv.Quote(key)+"]")
	default:
		e.steps = append(e.steps, "."+key)
	}
	return e
}

// inElement says that what is wrong is in the element of an array.
func (e *Error) inElement(i int) *Error {
	if !e.syntax {
		e.steps = append(e.steps, "["+strconv.Itoa(i)+"]")
	}
	return e
}

// in fills in what is known once the whole of data was left.
func (e *Error) in(data []byte) *Error {
	e.Line, e.Column = Position(data, e.offset)
	slices.Reverse(e.steps)
	e.Path = strings.TrimPrefix(strings.Join(e.steps, ""), ".")
	return e
}

// isSpecial reports whether a key with r in it must be quoted in a JSON path.
func isSpecial(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }
