package dbus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseText parses a value in GVariant's text format (https://docs.gtk.org/glib/gvariant-text-format.html): true, 'text',
// uint64 5, [1, 2], @as [], ('a', 1), {'key': <2>}. A number without a type is int32, or double if it has a point.
func ParseText(text string) (Variant, error) {
	const longest = 64 << 10
	if len(text) > longest {
		return Variant{}, fmt.Errorf("is longer than %d bytes", longest)
	}
	p := &textParser{rest: text}
	n, err := p.node(0)
	if err == nil && p.peek() != 0 {
		err = fmt.Errorf("%q is too much", p.rest)
	}
	if err != nil {
		return Variant{}, err
	}
	sig, err := n.signature()
	if err != nil {
		return Variant{}, err
	}
	v, err := n.as(sig)
	return Variant{sig, v}, err
}

// textNode is a value whose type may still depend on those beside it.
type textNode struct {
	kind byte   // b, s, v as in signatures; n number, y bytes, a array, d dictionary, ( tuple, { entry
	sig  string // the type in front of it, if there is one
	text string // of kinds b, n, s, y
	kids []*textNode
}

type textParser struct{ rest string }

// peek returns the next byte that is not space, 0 at the end.
func (p *textParser) peek() byte {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

func (p *textParser) accept(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// word splits off what reaches to the next space or punctuation.
func (p *textParser) word() string {
	n := strings.IndexAny(p.rest, " \t\r\n,:()[]{}<>'\"")
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// typeNamed is the signature for the name of a type in front of a value, "" if it is none.
func typeNamed(word string) string {
	switch word {
	case "boolean":
		return "b"
	case "byte":
		return "y"
	case "int16":
		return "n"
	case "uint16":
		return "q"
	case "int32":
		return "i"
	case "uint32":
		return "u"
	case "int64":
		return "x"
	case "uint64":
		return "t"
	case "double":
		return "d"
	case "string":
		return "s"
	case "objectpath":
		return "o"
	case "signature":
		return "g"
	}
	return ""
}

func (p *textParser) node(depth int) (*textNode, error) {
	const deepest = 8 // what nobody needs; arrays in variants in arrays take time to find the types of
	if depth > deepest {
		return nil, errors.New("nests too deep")
	}
	begin := p.peek()
	switch begin {
	case 0:
		return nil, errors.New("ends too early")
	case '\'', '"':
		s, err := p.quoted()
		return &textNode{kind: 's', text: s}, err
	case '[', '(', '{', '<':
		p.rest = p.rest[1:]
		return p.container(begin, depth)
	case '@':
		p.rest = p.rest[1:]
		length, err := typeLength(p.rest, 0)
		if err != nil {
			return nil, fmt.Errorf("signature at %q: %w", p.rest, err)
		}
		sig := p.rest[:length]
		p.rest = p.rest[length:]
		return p.typed(sig, depth)
	}
	if strings.HasPrefix(p.rest, "b'") || strings.HasPrefix(p.rest, "b\"") {
		p.rest = p.rest[1:]
		s, err := p.quoted()
		return &textNode{kind: 'y', sig: "ay", text: s + "\x00"}, err // a C string
	}
	word := p.word()
	sig := typeNamed(word)
	switch {
	case sig != "":
		return p.typed(sig, depth)
	case word == "true", word == "false":
		return &textNode{kind: 'b', text: word}, nil
	case word != "" && strings.IndexByte("+-.0123456789", word[0]) >= 0, word == "inf", word == "nan":
		return &textNode{kind: 'n', text: word}, nil
	}
	return nil, fmt.Errorf("%q is no value", word+p.rest)
}

// typed parses a value that has its type in front of it.
func (p *textParser) typed(sig string, depth int) (*textNode, error) {
	n, err := p.node(depth + 1)
	if err == nil {
		n.sig = sig
	}
	return n, err
}

// container parses what follows an opening bracket.
func (p *textParser) container(begin byte, depth int) (n *textNode, err error) {
	switch begin {
	case '[':
		n = &textNode{kind: 'a'}
		n.kids, err = p.list(']', depth)
	case '(':
		n = &textNode{kind: '('}
		n.kids, err = p.list(')', depth)
	case '{':
		n = &textNode{kind: 'd'}
		n.kids, err = p.entries(depth)
	case '<':
		n = &textNode{kind: 'v', kids: make([]*textNode, 1)}
		n.kids[0], err = p.node(depth + 1)
		if err == nil && !p.accept('>') {
			err = fmt.Errorf("no > at %q", p.rest)
		}
	}
	return n, err
}

func (p *textParser) list(end byte, depth int) (kids []*textNode, err error) {
	for !p.accept(end) {
		if len(kids) > 0 && !p.accept(',') {
			return nil, fmt.Errorf("no comma or %c at %q", end, p.rest)
		}
		if len(kids) == 1 && end == ')' && p.accept(end) { // ('a',) is a tuple of one
			break
		}
		kid, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		kids = append(kids, kid)
	}
	return kids, nil
}

func (p *textParser) entries(depth int) (kids []*textNode, err error) {
	for !p.accept('}') {
		if len(kids) > 0 && !p.accept(',') {
			return nil, fmt.Errorf("no comma or } at %q", p.rest)
		}
		key, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.accept(':') {
			return nil, fmt.Errorf("no colon at %q", p.rest)
		}
		value, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		kids = append(kids, &textNode{kind: '{', kids: []*textNode{key, value}})
	}
	return kids, nil
}

// quoted parses a string in either kind of quotes.
func (p *textParser) quoted() (string, error) {
	errEnd := errors.New("string ends too early")
	quote := p.rest[0]
	var out strings.Builder
	for i := 1; i < len(p.rest); i++ {
		c := p.rest[i]
		if c == quote {
			p.rest = p.rest[i+1:]
			return out.String(), nil
		}
		if c != '\\' {
			out.WriteByte(c)
			continue
		}
		if i++; i == len(p.rest) {
			return "", errEnd
		}
		digits := 0
		switch c = p.rest[i]; c {
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default:
			if at := strings.IndexByte("abfnrtv", c); at >= 0 {
				c = "\a\b\f\n\r\t\v"[at]
			}
			out.WriteByte(c)
			continue
		}
		if i+digits >= len(p.rest) {
			return "", errEnd
		}
		n, err := strconv.ParseUint(p.rest[i+1:i+1+digits], 16, 32)
		if err != nil || !utf8.ValidRune(rune(n)) {
			return "", fmt.Errorf("bad escape %q", p.rest[i-1:i+1+digits])
		}
		out.WriteRune(rune(n))
		i += digits
	}
	return "", errEnd
}

// signature is the type that the node has by what is in front of it, or else by default.
func (n *textNode) signature() (string, error) {
	switch {
	case n.sig != "":
		return n.sig, nil
	case n.kind == 'n' && isReal(n.text):
		return "d", nil
	case n.kind == 'n':
		return "i", nil
	case n.kind == 'b', n.kind == 's', n.kind == 'v':
		return string(n.kind), nil
	case n.kind == '(', n.kind == '{':
		if len(n.kids) == 0 {
			return "", errors.New("D-Bus has no empty tuple")
		}
		sig := string(n.kind)
		for _, kid := range n.kids {
			s, err := kid.signature()
			if err != nil {
				return "", err
			}
			sig += s
		}
		return sig + closing(n.kind), nil
	}
	// An array or dictionary: the type of an element that all can have.
	tried := map[string]bool{}
	for _, kid := range n.kids {
		if sig, err := kid.signature(); err == nil && !tried[sig] {
			if n.allHave(sig) {
				return "a" + sig, nil
			}
			tried[sig] = true
		}
	}
	if len(n.kids) == 0 {
		return "", errors.New("an empty array needs a type in front of it, such as @as")
	}
	return "", errors.New("the elements of an array have different types")
}

func (n *textNode) allHave(sig string) bool {
	return !slices.ContainsFunc(n.kids, func(kid *textNode) bool {
		_, err := kid.as(sig)
		return err != nil
	})
}

func closing(begin byte) string {
	if begin == '{' {
		return "}"
	}
	return ")"
}

// isReal tells whether a number without a type is a double.
func isReal(text string) bool {
	hex := strings.HasPrefix(strings.ToLower(strings.TrimLeft(text, "+-")), "0x")
	return !hex && strings.ContainsAny(text, ".eEnN")
}

// as gives the value as one of a type.
func (n *textNode) as(sig string) (any, error) {
	if n.sig != "" && n.sig != sig {
		return nil, fmt.Errorf("a value of type %q where %q is wanted", n.sig, sig)
	}
	fits := false
	switch n.kind {
	case 'n':
		return n.number(sig)
	case 'b', 'v':
		fits = sig == string(n.kind)
	case 's':
		fits = sig == "s" || sig == "g" || sig == "o" && isPath(n.text)
	case 'y':
		fits = sig == "ay"
	case 'a', 'd':
		fits = sig[0] == 'a' && (n.kind == 'd') == (sig[1] == '{')
	default:
		fits = sig[0] == n.kind
	}
	if !fits {
		return nil, fmt.Errorf("%q is no value of type %q", n.text, sig)
	}
	switch n.kind {
	case 'b':
		return n.text == "true", nil
	case 's':
		if strings.IndexByte(n.text, 0) >= 0 || !utf8.ValidString(n.text) {
			return nil, fmt.Errorf("%q is not UTF-8 without NUL", n.text)
		}
		return n.text, nil
	case 'y':
		return []byte(n.text), nil
	case 'v':
		inner, err := n.kids[0].signature()
		if err != nil {
			return nil, err
		}
		v, err := n.kids[0].as(inner)
		return Variant{inner, v}, err
	case 'a', 'd':
		return n.elements(sig[1:])
	}
	return n.members(sig)
}

func (n *textNode) elements(sig string) (any, error) {
	list, bytes := []any{}, []byte{}
	for _, kid := range n.kids {
		v, err := kid.as(sig)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if b, ok := v.(byte); ok {
			bytes = append(bytes, b)
		}
	}
	if sig == "y" {
		return bytes, nil
	}
	return list, nil
}

func (n *textNode) members(sig string) (any, error) {
	members := []any{}
	rest := sig[1 : len(sig)-1]
	for _, kid := range n.kids {
		if rest == "" {
			break
		}
		var first string
		var err error
		if first, rest, err = next(rest); err != nil {
			return nil, err
		}
		v, err := kid.as(first)
		if err != nil {
			return nil, err
		}
		members = append(members, v)
	}
	if rest != "" || len(members) != len(n.kids) {
		return nil, fmt.Errorf("a tuple of %d where type %q is wanted", len(n.kids), sig)
	}
	return members, nil
}

func (n *textNode) number(sig string) (any, error) {
	signed := func(bits int) (int64, error) { return strconv.ParseInt(n.text, 0, bits) }
	unsigned := func(bits int) (uint64, error) { return strconv.ParseUint(strings.TrimPrefix(n.text, "+"), 0, bits) }
	switch sig {
	case "y":
		v, err := unsigned(8)
		return byte(v), err
	case "n":
		v, err := signed(16)
		return int16(v), err
	case "q":
		v, err := unsigned(16)
		return uint16(v), err
	case "i":
		v, err := signed(32)
		return int32(v), err
	case "u":
		v, err := unsigned(32)
		return uint32(v), err
	case "x":
		return signed(64)
	case "t":
		return unsigned(64)
	case "d":
		return strconv.ParseFloat(n.text, 64)
	}
	return nil, fmt.Errorf("%q is no value of type %q", n.text, sig)
}
