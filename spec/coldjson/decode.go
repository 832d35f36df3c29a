// Package coldjson reads and writes JSON as encoding/json does, in processes that do so once.
//
// On the first value of a type encoding/json prepares for everything that the type reaches: for config.json that is
// Windows, Solaris and z/OS, a millisecond of work for a process that lives for a few. This package prepares nothing. It
// looks at the tag of a field when it meets the field, and reads the text in one pass.
//
// It knows what config.json and sock's own files are made of: structs and embedded structs, pointers, slices, maps with
// string keys, strings, numbers, booleans, interface{}, types that are (un)marshalers of JSON or text, and the option
// omitempty. Other types and options are refused, []byte in particular.
package coldjson

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// The interfaces of encoding/json.
type (
	unmarshaler interface{ UnmarshalJSON([]byte) error }
	marshaler   interface{ MarshalJSON() ([]byte, error) }
)

// Unmarshal reads JSON into what v points to, with the meaning of json.Unmarshal: keys are matched exactly if possible
// and else without regard to case, unknown keys are ignored, the last of equal keys wins or is merged, null leaves what
// can't be nil as it is. The text must be a single value nested at most 10000 deep.
//
// The strings in v share the memory of one copy of data. Errors are of type *Error and say where in data they are. After
// an error the content of v is unspecified.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("read JSON into %T: want a pointer", v)
	}
	d := decoder{scanner: scanner{text: string(data)}}
	err := d.value(p.Elem())
	if err == nil {
		err = d.end()
	} else if !err.syntax {
		// Whether the text is JSON at all is the first thing to know.
		whole := scanner{text: d.text}
		if syntaxErr := whole.document(); syntaxErr != nil {
			err = syntaxErr
		}
	}
	if err != nil {
		return err.in(data)
	}
	return nil
}

type decoder struct{ scanner }

// value reads any value into v, which is addressable.
func (d *decoder) value(v reflect.Value) *Error {
	c := d.next()
	for v.Kind() == reflect.Pointer {
		if c == 'n' {
			return d.null(v)
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if v.Type().PkgPath() != "" { // A type with a name, which may have methods.
		if p := v.Addr(); p.NumMethod() > 0 {
			switch u := p.Interface().(type) {
			case unmarshaler:
				return d.unmarshalJSON(u)
			case encoding.TextUnmarshaler:
				if c != 'n' {
					return d.unmarshalText(u)
				}
			}
		}
	}
	switch c {
	case '{':
		switch {
		case v.Kind() == reflect.Struct:
			return d.object(v)
		case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
			return d.mapping(v)
		}
	case '[':
		if v.Kind() == reflect.Slice {
			return d.array(v)
		}
	case '"':
		if v.Kind() == reflect.String {
			s, err := d.string()
			if err == nil {
				v.SetString(s)
			}
			return err
		}
	case 'n':
		return d.null(v)
	default:
		return d.scalar(v)
	}
	return d.other(v)
}

// other reads any value into an interface{}; nothing else of the kind of v holds the value at pos.
func (d *decoder) other(v reflect.Value) *Error {
	if v.Kind() != reflect.Interface || v.NumMethod() > 0 {
		return d.mismatch(v)
	}
	x, err := d.any()
	if err == nil {
		v.Set(reflect.ValueOf(x))
	}
	return err
}

// object reads the members of an object into a struct.
func (d *decoder) object(v reflect.Value) *Error {
	next := 0
	return d.members(func(key string) *Error {
		f, after := find(v, key, next, func(a, b string) bool { return a == b })
		if !f.IsValid() {
			if f, after = find(v, key, 0, strings.EqualFold); !f.IsValid() {
				return d.skip()
			}
		}
		next = after
		return d.value(f)
	})
}

// mapping reads the members of an object into a map.
func (d *decoder) mapping(v reflect.Value) *Error {
	t := v.Type()
	if v.IsNil() {
		v.Set(reflect.MakeMap(t))
	}
	element := reflect.New(t.Elem()).Elem()
	return d.members(func(key string) *Error {
		element.SetZero()
		if err := d.value(element); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), element)
		return nil
	})
}

// array reads the elements of an array into a slice. As in encoding/json, those that v had are read into, not replaced.
func (d *decoder) array(v reflect.Value) *Error {
	if v.Type() == reflect.TypeFor[[]string]() && v.IsNil() {
		return d.listOfStrings(v)
	}
	n := 0
	err := d.elements(func(i int) *Error {
		if i >= v.Cap() {
			v.Grow(max(1, 8-i)) // Fewer sizes of memory are fewer pages that a new process touches.
		}
		if n = i + 1; n > v.Len() {
			v.SetLen(n)
		}
		return d.value(v.Index(i))
	})
	if n == 0 {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	} else {
		v.SetLen(n)
	}
	return err
}

// listOfStrings is array for a nil []string, by far the most common slice.
func (d *decoder) listOfStrings(v reflect.Value) *Error {
	// Unless there are brackets or commas in the strings, this is how many there are.
	size := 1 + strings.Count(d.text[d.pos:d.pos+1+strings.IndexByte(d.text[d.pos:], ']')], ",")
	list := make([]string, 0, min(size, 1024))
	err := d.elements(func(int) *Error {
		if d.next() != '"' {
			list = append(list, "")
			return d.value(reflect.New(v.Type().Elem()).Elem()) // null, or a mistake
		}
		s, err := d.string()
		list = append(list, s)
		return err
	})
	v.Set(reflect.ValueOf(list))
	return err
}

// null reads null into v.
func (d *decoder) null(v reflect.Value) *Error {
	if err := d.word("null"); err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		v.SetZero()
	}
	return nil
}

// scalar reads a number or a boolean into v.
func (d *decoder) scalar(v reflect.Value) *Error {
	start := d.pos
	s, err := d.literal()
	if err != nil {
		return err
	}
	boolean := s[0] == 't' || s[0] == 'f'
	switch {
	case boolean && v.Kind() == reflect.Bool:
		v.SetBool(s[0] == 't')
		return nil
	case !boolean && v.CanInt():
		if n, err := strconv.ParseInt(s, 10, v.Type().Bits()); err == nil {
			v.SetInt(n)
			return nil
		}
	case !boolean && v.CanUint():
		if n, err := strconv.ParseUint(s, 10, v.Type().Bits()); err == nil {
			v.SetUint(n)
			return nil
		}
	case !boolean && v.CanFloat():
		if f, err := strconv.ParseFloat(s, v.Type().Bits()); err == nil {
			v.SetFloat(f)
			return nil
		}
	}
	d.pos = start
	return d.other(v)
}

// any reads any value into the type that suits it: map[string]any, []any, string, float64, bool or nil.
func (d *decoder) any() (any, *Error) {
	switch d.next() {
	case '{':
		m := map[string]any{}
		err := d.members(func(key string) (err *Error) {
			m[key], err = d.any()
			return err
		})
		return m, err
	case '[':
		list := []any{}
		err := d.elements(func(int) *Error {
			x, err := d.any()
			list = append(list, x)
			return err
		})
		return list, err
	case '"':
		return d.string()
	}
	start := d.pos
	s, err := d.literal()
	if err != nil {
		return nil, err
	}
	switch s[0] {
	case 'n':
		return nil, nil
	case 't', 'f':
		return s == "true", nil
	}
	f, parseErr := strconv.ParseFloat(s, 64)
	if parseErr != nil {
		return nil, &Error{offset: start, Err: fmt.Errorf("want float64, got number %s", s)}
	}
	return f, nil
}

// unmarshalJSON lets u read a value.
func (d *decoder) unmarshalJSON(u unmarshaler) *Error {
	start := d.pos
	if err := d.skip(); err != nil {
		return err
	}
	if err := u.UnmarshalJSON([]byte(d.text[start:d.pos])); err != nil {
		return &Error{offset: start, Err: err}
	}
	return nil
}

// unmarshalText lets u read a string.
func (d *decoder) unmarshalText(u encoding.TextUnmarshaler) *Error {
	start := d.pos
	if d.peek() != '"' {
		return d.mismatch(reflect.ValueOf(""))
	}
	s, err := d.string()
	if err != nil {
		return err
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		return &Error{offset: start, Err: err}
	}
	return nil
}

// mismatch complains that the value at pos can't be read into v.
func (d *decoder) mismatch(v reflect.Value) *Error {
	start := d.pos
	if err := d.skip(); err != nil {
		return err
	}
	got := "number"
	switch d.text[start] {
	case '{':
		got = "object"
	case '[':
		got = "array"
	case '"':
		got = "string"
	case 't', 'f':
		got = "bool"
	default:
		if v.CanInt() || v.CanUint() || v.CanFloat() {
			got += " " + d.text[start:d.pos]
		}
	}
	return &Error{offset: start, Err: fmt.Errorf("want %s, got %s", jsonType(v.Kind()), got)}
}

// jsonType names the JSON type that a kind of Go value is read from.
func jsonType(k reflect.Kind) string {
	switch k {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "array"
	}
	return k.String() // string, bool, uint32, ...
}
