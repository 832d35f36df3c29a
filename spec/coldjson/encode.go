package coldjson

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Append appends v to dst as json.Marshal writes it. It fails where a method of v does, or v contains itself.
func Append(dst []byte, v any) ([]byte, error) {
	e := encoder{dst: dst}
	if err := e.value(reflect.ValueOf(v)); err != nil {
		return dst, err
	}
	return e.dst, nil
}

type encoder struct {
	dst   []byte
	depth int
}

func (e *encoder) value(v reflect.Value) error {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if e.depth++; e.depth > maxDepth {
			return errors.New("write JSON: nested too deep")
		}
		defer func() { e.depth-- }()
		v = v.Elem()
	}
	if !v.IsValid() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	if v.Type().PkgPath() != "" { // A type with a name, which may have methods.
		if v.CanAddr() {
			v = v.Addr()
		}
		if v.NumMethod() > 0 {
			switch m := v.Interface().(type) {
			case marshaler:
				return e.marshalJSON(m)
			case encoding.TextMarshaler:
				return e.marshalText(m)
			}
		}
		v = reflect.Indirect(v)
	}
	switch k := v.Kind(); {
	case k == reflect.Bool:
		e.dst = strconv.AppendBool(e.dst, v.Bool())
	case v.CanInt():
		e.dst = strconv.AppendInt(e.dst, v.Int(), 10)
	case v.CanUint():
		e.dst = strconv.AppendUint(e.dst, v.Uint(), 10)
	case k == reflect.String:
		e.string(v.String())
	case k == reflect.Struct:
		e.dst = append(e.dst, '{')
		if err := e.members(v); err != nil {
			return err
		}
		e.close('}')
	case k == reflect.Map && v.Type().Key().Kind() == reflect.String:
		return e.mapping(v)
	case k == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		return e.array(v)
	default:
		panic("coldjson: can't write " + v.Type().String())
	}
	return nil
}

// members writes the fields of a struct, each with a comma behind it.
func (e *encoder) members(v reflect.Value) error {
	t := v.Type()
	for i := range t.NumField() {
		f, member := fieldOf(t, i), v.Field(i)
		if f.skip || f.omitEmpty && isEmpty(member) {
			continue
		}
		if f.inline {
			if err := e.members(member); err != nil {
				return err
			}
			continue
		}
		if err := e.member(f.name, member); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) member(name string, v reflect.Value) error {
	e.string(name)
	e.dst = append(e.dst, ':')
	err := e.value(v)
	e.dst = append(e.dst, ',')
	return err
}

// close ends an object or array, in place of the last comma.
func (e *encoder) close(bracket byte) {
	if last := len(e.dst) - 1; e.dst[last] == ',' {
		e.dst = e.dst[:last]
	}
	e.dst = append(e.dst, bracket)
}

// isEmpty reports whether omitempty leaves v out.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		return false
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	}
	return v.IsZero()
}

// mapping writes a map in the order of its keys.
func (e *encoder) mapping(v reflect.Value) error {
	if v.IsNil() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	e.dst = append(e.dst, '{')
	for _, key := range keys {
		if err := e.member(key.String(), v.MapIndex(key)); err != nil {
			return err
		}
	}
	e.close('}')
	return nil
}

func (e *encoder) array(v reflect.Value) error {
	if v.IsNil() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	e.dst = append(e.dst, '[')
	for i := range v.Len() {
		if err := e.value(v.Index(i)); err != nil {
			return err
		}
		e.dst = append(e.dst, ',')
	}
	e.close(']')
	return nil
}

// marshalJSON writes what m makes of itself, without white space between its tokens.
func (e *encoder) marshalJSON(m marshaler) error {
	data, err := m.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write %T as JSON: %w", m, err)
	}
	s := scanner{text: string(data)}
	invalid := s.skip()
	if invalid == nil {
		invalid = s.end()
	}
	if invalid != nil {
		invalid.locate(s.text)
		return fmt.Errorf("write %T as JSON: %w", m, invalid)
	}
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			e.dst = append(e.dst, c, data[i+1])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case !quoted && c <= ' ':
			continue
		}
		i += e.rune(s.text[i:]) - 1
	}
	return nil
}

func (e *encoder) marshalText(m encoding.TextMarshaler) error {
	text, err := m.MarshalText()
	if err != nil {
		return fmt.Errorf("write %T as text: %w", m, err)
	}
	e.string(string(text))
	return nil
}

// string writes a string. What is not UTF-8 becomes U+FFFD.
func (e *encoder) string(s string) {
	e.dst = append(e.dst, '"')
	for i := 0; i < len(s); {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			e.escape(c)
			i++
		} else if r, size := utf8.DecodeRuneInString(s[i:]); c >= utf8.RuneSelf && r == utf8.RuneError && size == 1 {
			e.dst = append(e.dst, `\ufffd`...)
			i++
		} else {
			i += e.rune(s[i:])
		}
	}
	e.dst = append(e.dst, '"')
}

// rune writes the first byte of s, or more if they are one of the characters that encoding/json keeps from HTML and
// JavaScript. It returns how many.
func (e *encoder) rune(s string) int {
	switch c := s[0]; {
	case c == '<', c == '>', c == '&':
		e.escape(c)
	case strings.HasPrefix(s, "\u2028"):
		e.dst = append(e.dst, `\u2028`...)
		return len("\u2028")
	case strings.HasPrefix(s, "\u2029"):
		e.dst = append(e.dst, `\u2029`...)
		return len("\u2029")
	default:
		e.dst = append(e.dst, c)
	}
	return 1
}

// escape writes an ASCII character with a backslash.
func (e *encoder) escape(c byte) {
	const hex = "0123456789abcdef"
	if i := strings.IndexByte(meanings, c); i >= 0 && c != '/' {
		e.dst = append(e.dst, '\\', letters[i])
	} else {
		e.dst = append(e.dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
	}
}
