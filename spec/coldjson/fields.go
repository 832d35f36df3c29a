package coldjson

import (
	"reflect"
	"strings"
)

// field is the field of a struct as its tag describes it.
type field struct {
	name      string
	omitEmpty bool
	skip      bool // not in JSON
	inline    bool // its own fields are members of the object: an embedded struct
}

// fieldOf reads the tag of the i-th field of a struct. It panics on what encoding/json knows but this package doesn't:
// that is a mistake in a type, not in the text.
func fieldOf(t reflect.Type, i int) field {
	f := t.Field(i)
	tag, first := strings.CutPrefix(string(f.Tag), `json:"`)
	if first { // It mostly is the first or the only tag, and Get is slow: a tenth of reading config.json.
		tag, _, _ = strings.Cut(tag, `"`)
	} else {
		tag = f.Tag.Get("json")
	}
	if tag == "-" || !f.IsExported() && !f.Anonymous {
		return field{skip: true}
	}
	name, options, _ := strings.Cut(tag, ",")
	if options != "" && options != "omitempty" {
		panic("coldjson: option " + options + " of " + t.String() + "." + f.Name)
	}
	if name == "" {
		name = f.Name
		if f.Anonymous {
			if f.Type.Kind() != reflect.Struct {
				panic("coldjson: embedded " + f.Type.String() + " in " + t.String())
			}
			return field{inline: true}
		}
	}
	return field{name: name, omitEmpty: options == "omitempty"}
}

// find returns the field of the struct v that has the same name as key, and the index in v of the one that follows. It
// looks from index start on, then at those before: writers keep to the order of the fields, so it mostly looks at one.
// Between names that differ only by case it may choose another than encoding/json does.
func find(v reflect.Value, key string, start int, same func(string, string) bool) (found reflect.Value, next int) {
	t := v.Type()
	n := t.NumField()
	inline := false
	for k := range n {
		i := start + k
		if i >= n {
			i -= n
		}
		f := fieldOf(t, i)
		if f.inline {
			inline = true
		} else if !f.skip && same(f.name, key) {
			return v.Field(i), i + 1
		}
	}
	if inline { // Fields of an embedded struct are hidden by those around it, so they come last.
		for i := range n {
			if fieldOf(t, i).inline {
				if found, _ := find(v.Field(i), key, 0, same); found.IsValid() {
					return found, start
				}
			}
		}
	}
	return reflect.Value{}, start
}
