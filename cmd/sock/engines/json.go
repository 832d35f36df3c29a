package engines

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// object is where the parts of a JSON object are in a text.
type object struct {
	open, end int // offsets of its braces
	members   []member
}

type member struct {
	key        string
	before     string // the blanks between the comma or brace and the key
	indent     string // those of them that begin its line
	start, end int    // offsets of its value
}

const blanks = " \t\r\n" // of JSON

// parseObject finds the members of the object that begins at an offset of a text. Nothing but blanks may be around an object
// at 0. Errors are those of JSON, with line and column.
func parseObject(text string, offset int) (object, error) {
	in := json.NewDecoder(strings.NewReader(text[offset:]))
	at := func() int { return offset + int(in.InputOffset()) }
	fail := func(err error) (object, error) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		before := text[:min(at(), len(text))]
		line := strings.Count(before, "\n") + 1
		return object{}, fmt.Errorf("line %d, column %d: %w", line, len(before)-strings.LastIndexByte(before, '\n'), err)
	}
	token, err := in.Token()
	if err != nil {
		return fail(err)
	}
	if token != json.Delim('{') {
		return object{}, fmt.Errorf("is not a JSON object")
	}
	o := object{open: at() - 1}
	seen := map[string]bool{}
	for last := at(); in.More(); last = at() {
		token, err := in.Token()
		if err != nil {
			return fail(err)
		}
		m := member{key: token.(string)}
		rest := text[last:]
		if next := strings.TrimLeft(rest, blanks); strings.HasPrefix(next, ",") {
			rest = next[1:]
		}
		m.before = rest[:len(rest)-len(strings.TrimLeft(rest, blanks))]
		m.indent = m.before[strings.LastIndexByte(m.before, '\n')+1:]
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return fail(err)
		}
		m.end = at()
		m.start = m.end - len(value)
		if seen[m.key] {
			return object{}, fmt.Errorf("has two %q", m.key)
		}
		seen[m.key] = true
		o.members = append(o.members, m)
	}
	if _, err := in.Token(); err != nil {
		return fail(err)
	}
	o.end = at() - 1
	if offset == 0 {
		if rest := strings.TrimSpace(text[at():]); rest != "" {
			return fail(fmt.Errorf("text after the end of the object"))
		}
	}
	return o, nil
}

// insert returns the text with one more member at the end of the object, whose own line has an indentation. It takes the
// form of the other members: each on a line of its own, or all on one.
func (o object) insert(text string, p property, indent string) string {
	if len(o.members) == 0 {
		inner := indent + unitOf(text)
		lines := newline(text)
		return text[:o.open+1] + lines + inner + name(p) + render(p, inner, unitOf(text)) + lines + indent + text[o.end:]
	}
	last := o.members[len(o.members)-1]
	if !strings.Contains(last.before, "\n") {
		return text[:last.end] + "," + cmp.Or(last.before, " ") + name(p) + render(p, "", "") + text[last.end:]
	}
	return text[:last.end] + "," + last.before + name(p) + strings.ReplaceAll(render(p, last.indent, unitOf(text)), "\n", newline(text)) + text[last.end:]
}

// unitOf is by how much a text indents: the first indentation that there is.
func unitOf(text string) string {
	for line := range strings.Lines(text) {
		if rest := strings.TrimLeft(line, " \t"); rest != line && strings.TrimSpace(rest) != "" {
			return line[:len(line)-len(rest)]
		}
	}
	return "  "
}

// newline is how the lines of a text end.
func newline(text string) string {
	if strings.Contains(text, "\r\n") {
		return "\r\n"
	}
	return "\n"
}

// property is a member to be written: its value is a string, or properties.
type property struct {
	key   string
	value any
}

func name(p property) string { return quote(p.key) + ": " }

// render is a property's value; without a unit of indentation, on one line.
func render(p property, indent, unit string) string {
	list, ok := p.value.([]property)
	if !ok {
		return quote(p.value.(string))
	}
	var text strings.Builder
	text.WriteString("{")
	for i, m := range list {
		if i > 0 {
			text.WriteString(",")
		}
		if unit != "" {
			text.WriteString("\n" + indent + unit)
		} else if i > 0 {
			text.WriteString(" ")
		}
		text.WriteString(name(m) + render(m, indent+unit, unit))
	}
	if unit != "" {
		text.WriteString("\n" + indent)
	}
	return text.String() + "}"
}

// quote is a JSON string, and a basic string of TOML's, too.
func quote(s string) string {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	_ = out.Encode(s) // a string can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// compact is JSON on one line.
func compact(text string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(text)) != nil {
		return text
	}
	return b.String()
}

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }
