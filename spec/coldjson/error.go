package coldjson

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Error is a complaint about a place in JSON text.
type Error struct {
	Line, Column int    // of the bad byte or of the first byte of the bad value, counted from 1, Column in bytes
	Path         string // of the bad value, such as mounts[3].options[1]; empty where the text isn't JSON and for all of it
	Err          error

	offset int  // what Line and Column stand for
	syntax bool // the text isn't JSON
}

// Error begins with line and column, so that a file's name and a colon can be put before it.
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%d:%d: %v", e.Line, e.Column, e.Err)
	}
	return fmt.Sprintf("%d:%d: %s: %v", e.Line, e.Column, e.Path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// locate finds line and column in the text.
func (e *Error) locate(text string) {
	before := text[:max(e.offset, 0)]
	e.Line = 1 + strings.Count(before, "\n")
	e.Column = len(before) - strings.LastIndexByte(before, '\n')
}

// inMember puts key before the path: what is wrong is in the member of an object.
func (e *Error) inMember(key string) *Error {
	if e.syntax {
		return e
	}
	if key == "" || strings.ContainsFunc(key, isSpecial) {
		e.Path = "[" + strconv.Quote(key) + "]" + e.dotted()
	} else {
		e.Path = key + e.dotted()
	}
	return e
}

// inElement puts the index before the path: what is wrong is in the element of an array.
func (e *Error) inElement(i int) *Error {
	if !e.syntax {
		e.Path = "[" + strconv.Itoa(i) + "]" + e.dotted()
	}
	return e
}

// dotted is the path as it continues another.
func (e *Error) dotted() string {
	if e.Path == "" || e.Path[0] == '[' {
		return e.Path
	}
	return "." + e.Path
}

// isSpecial reports whether a key with r in it must be quoted in a JSON path.
func isSpecial(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }
