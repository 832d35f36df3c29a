package coldjson

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting, hence the stack. It is the limit of encoding/json.
const maxDepth = 10000

// scanner reads JSON (RFC 8259) from text. Every method leaves pos behind what it has read.
type scanner struct {
	text  string
	pos   int
	depth int
}

// next skips white space and returns the byte at pos without reading it; 0 at the end.
func (s *scanner) next() byte {
	for ; s.pos < len(s.text); s.pos++ {
		switch c := s.text[s.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// document reads a value that nothing may follow.
func (s *scanner) document() *Error {
	if err := s.skip(); err != nil {
		return err
	}
	return s.end()
}

// end makes sure that nothing follows.
func (s *scanner) end() *Error {
	if s.next(); s.pos < len(s.text) {
		return s.unexpected("after top-level value")
	}
	return nil
}

// members reads an object and has read read each of its values.
func (s *scanner) members(read func(key string) *Error) *Error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.next() == '}' {
		s.leave()
		return nil
	}
	for {
		if s.next() != '"' {
			return s.unexpected("looking for beginning of object key string")
		}
		key, err := s.string()
		if err != nil {
			return err
		}
		if s.next() != ':' {
			return s.unexpected("after object key")
		}
		s.pos++
		if err := read(key); err != nil {
			return err.inMember(key)
		}
		switch s.next() {
		case ',':
			s.pos++
		case '}':
			s.leave()
			return nil
		default:
			return s.unexpected("after object key:value pair")
		}
	}
}

// elements reads an array and has read read each of its values.
func (s *scanner) elements(read func(i int) *Error) *Error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.next() == ']' {
		s.leave()
		return nil
	}
	for i := 0; ; i++ {
		if err := read(i); err != nil {
			return err.inElement(i)
		}
		switch s.next() {
		case ',':
			s.pos++
		case ']':
			s.leave()
			return nil
		default:
			return s.unexpected("after array element")
		}
	}
}

// enter reads the first byte of an object or array.
func (s *scanner) enter() *Error {
	if s.depth == maxDepth {
		return s.unexpected("exceeded max depth")
	}
	s.depth++
	s.pos++
	return nil
}

// leave reads the last byte of an object or array.
func (s *scanner) leave() {
	s.depth--
	s.pos++
}

// skip reads any value.
func (s *scanner) skip() *Error {
	switch s.next() {
	case '{':
		return s.members(func(string) *Error { return s.skip() })
	case '[':
		return s.elements(func(int) *Error { return s.skip() })
	case '"':
		_, err := s.string()
		return err
	default:
		_, err := s.literal()
		return err
	}
}

// literal reads a number, true, false or null.
func (s *scanner) literal() (string, *Error) {
	start := s.pos
	switch c := s.next(); {
	case c == 't':
		return "true", s.word("true")
	case c == 'f':
		return "false", s.word("false")
	case c == 'n':
		return "null", s.word("null")
	case c == '-', isDigit(c):
		err := s.number()
		return s.text[start:s.pos], err
	}
	return "", s.unexpected("looking for beginning of value")
}

func (s *scanner) word(word string) *Error {
	for i := range len(word) {
		if s.peek() != word[i] {
			return s.unexpected(fmt.Sprintf("in literal %s (expecting %q)", word, word[i]))
		}
		s.pos++
	}
	return nil
}

func (s *scanner) number() *Error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++ // No digit may follow.
	} else if s.digits() == 0 {
		return s.unexpected("in numeric literal")
	}
	if s.peek() == '.' {
		s.pos++
		if s.digits() == 0 {
			return s.unexpected("after decimal point in numeric literal")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return s.unexpected("in exponent of numeric literal")
		}
	}
	return nil
}

// digits reads as many digits as there are.
func (s *scanner) digits() (n int) {
	for ; isDigit(s.peek()); s.pos++ {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// peek returns the byte at pos; 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// string reads a string. The result shares the memory of text unless it has to be unescaped.
func (s *scanner) string() (string, *Error) {
	start := s.pos + 1
	for i := start; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.pos = i + 1
			return s.text[start:i], nil
		case c == '\\', c < ' ', c >= utf8.RuneSelf:
			s.pos = i
			return s.unescape(s.text[start:i])
		}
	}
	s.pos = len(s.text)
	return "", s.unexpected("")
}

// unescape reads the rest of a string that begins with head. What is not UTF-8 or not UTF-16 becomes U+FFFD.
func (s *scanner) unescape(head string) (string, *Error) {
	b := append(make([]byte, 0, 2*len(head)+16), head...)
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			return string(b), nil
		case c == '\\':
			s.pos++
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
		case c < ' ':
			return "", s.unexpected("in string literal")
		default:
			r, size := utf8.DecodeRuneInString(s.text[s.pos:])
			s.pos += size
			b = utf8.AppendRune(b, r)
		}
	}
	return "", s.unexpected("")
}

// The letters that follow a backslash and the characters that they mean.
const letters, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"

// escape reads what follows a backslash.
func (s *scanner) escape() (rune, *Error) {
	c := s.peek()
	if c == 'u' {
		s.pos++
		r, err := s.hex()
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		// Only with its second half is it a character; else it stands alone and what follows is read as usual.
		ahead := *s
		if strings.HasPrefix(s.text[s.pos:], `\u`) {
			ahead.pos += len(`\u`)
			if low, err := ahead.hex(); err == nil {
				if r := utf16.DecodeRune(r, low); r != utf8.RuneError {
					s.pos = ahead.pos
					return r, nil
				}
			}
		}
		return utf8.RuneError, nil
	}
	i := strings.IndexByte(letters, c)
	if i < 0 {
		return 0, s.unexpected("in string escape code")
	}
	s.pos++
	return rune(meanings[i]), nil
}

// hex reads four hexadecimal digits.
func (s *scanner) hex() (r rune, _ *Error) {
	for range 4 {
		c := s.peek()
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, s.unexpected(`in \u hexadecimal character escape`)
		}
		r = r<<4 | rune(c)
		s.pos++
	}
	return r, nil
}

// unexpected complains about the byte at pos.
func (s *scanner) unexpected(where string) *Error {
	if s.pos >= len(s.text) {
		return &Error{offset: len(s.text) - 1, syntax: true, Err: errors.New("unexpected end of JSON input")}
	}
	quoted := strconv.Quote(string(rune(s.text[s.pos])))
	switch c := quoted[1 : len(quoted)-1]; c {
	case `\"`:
		quoted = `'"'`
	case `'`:
		quoted = `'\''`
	default:
		quoted = "'" + c + "'"
	}
	return &Error{offset: s.pos, syntax: true, Err: fmt.Errorf("invalid character %s %s", quoted, where)}
}
