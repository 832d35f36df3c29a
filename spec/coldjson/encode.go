package coldjson

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Append appends v to dst as json.Marshal writes it. It fails where a method of v does, v contains itself,
// or a number is infinite or none.
func Append(dst []byte, v any) ([]byte, error) {
	e := encoder{dst: slices.Grow(dst, 4096)} // Growing byte by byte would touch a page for each size.
	if err := e.value(reflect.ValueOf(v)); err != nil {
		return dst, err
	}
	return e.dst, nil
}

// maxWriteDepth is enough for all that can be read: pointers and interfaces count, too.
const maxWriteDepth = 4 * maxDepth

type encoder struct {
	dst   []byte
	depth int
}

func (e *encoder) value(v reflect.Value) error {
	// Pointers may lead back to where they came from.
	if e.depth++; e.depth > maxWriteDepth {
		return errors.New("write JSON: nested too deep")
	}
	err := e.anyKind(v)
	e.depth--
	return err
}

func (e *encoder) anyKind(v reflect.Value) error {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		return e.value(v.Elem())
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
	case v.CanFloat():
		return e.float(v)
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

// float writes a number as JavaScript does: with an exponent only if it is very small or large.
func (e *encoder) float(v reflect.Value) error {
	f, bits := v.Float(), v.Type().Bits()
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Errorf("write JSON: no number is %v", f)
	}
	small, large := 1e-6, 1e21
	if bits == 32 {
		small, large = float64(float32(small)), float64(float32(large))
	}
	if abs := math.Abs(f); abs == 0 || abs >= small && abs < large {
		e.dst = strconv.AppendFloat(e.dst, f, 'f', -1, bits)
		return nil
	}
	number := strconv.FormatFloat(f, 'e', -1, bits)
	e.dst = append(e.dst, strings.Replace(number, "e-0", "e-", 1)...) // e-07, but never e+07
	return nil
}

// marshalJSON writes what m makes of itself, without white space between its tokens.
func (e *encoder) marshalJSON(m marshaler) error {
	data, err := m.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write %T as JSON: %w", m, err)
	}
	whole := scanner{text: string(data)}
	if invalid := whole.document(); invalid != nil {
		return fmt.Errorf("write %T as JSON: %w", m, invalid.in(data))
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
		switch {
		case isHTML(data[i]):
			e.escape(data[i])
		case bytes.HasPrefix(data[i:], []byte("\u2028")), bytes.HasPrefix(data[i:], []byte("\u2029")):
			i += 2
			e.separator(data[i])
		default:
			e.dst = append(e.dst, data[i])
		}
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
	done := 0
	for i := 0; i < len(s); {
		c, size := s[i], 1
		special := c < ' ' || c == '"' || c == '\\' || isHTML(c)
		var r rune
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
			special = r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029'
		}
		i += size
		if !special {
			continue
		}
		e.dst = append(e.dst, s[done:i-size]...)
		done = i
		switch {
		case c < utf8.RuneSelf:
			e.escape(c)
		case r == utf8.RuneError:
			e.dst = append(e.dst, `\ufffd`...)
		default:
			e.separator(s[i-1])
		}
	}
	e.dst = append(append(e.dst, s[done:]...), '"')
}

// isHTML reports whether encoding/json escapes c to keep it from HTML.
func isHTML(c byte) bool { return c == '<' || c == '>' || c == '&' }

const hexDigits = "0123456789abcdef"

// escape writes an ASCII character with a backslash.
func (e *encoder) escape(c byte) {
	if i := strings.IndexByte(meanings, c); i >= 0 {
		e.dst = append(e.dst, '\\', letters[i])
	} else {
		e.dst = append(e.dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}

// separator writes U+2028 or U+2029, which once ended a line of JavaScript, given its last byte in UTF-8.
func (e *encoder) separator(last byte) {
	e.dst = append(e.dst, '\\', 'u', '2', '0', '2', hexDigits[last&0xf])
}
