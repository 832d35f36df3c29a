package dbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Variant is a value with its type. Values are held like this, by their type code:
//
//	y b n q i u x t d   byte, bool, int16 … uint64, float64
//	s o g               string
//	v                   Variant
//	aT                  []any of T, or []byte for ay
//	(…)                 []any of the members
//	a{KV}               []any of []any{key, value}
type Variant struct {
	Signature string // of one complete type
	Value     any
}

// Message types of the specification, "Message Format".
const (
	methodCall   = 1
	methodReturn = 2
	failure      = 3
	signal       = 4
)

// Header fields of the specification, "Header Fields".
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSignature   = 8
)

// message is one message, in either direction.
type message struct {
	kind    byte
	serial  uint32
	fields  map[byte]any // by field code: string, or uint32 for the reply's serial
	body    []any
	bodySig string
}

func (m *message) text(field byte) string {
	s, _ := m.fields[field].(string)
	return s
}

// fixedHeader is the size of a message's beginning, up to and with the length of the header fields.
const fixedHeader = 16

// maxMessage is more than systemd ever sends; the specification's own limit is 128 MiB.
const maxMessage = 16 << 20

// marshal encodes a message, in little endian.
func (m *message) marshal() ([]byte, error) {
	var body encoder
	if err := body.all(m.bodySig, m.body); err != nil {
		return nil, err
	}
	e := encoder{buf: []byte{'l', m.kind, 0, 1}}
	e.uint32(uint32(len(body.buf)))
	e.uint32(m.serial)
	var fields []any
	for _, f := range []struct {
		code byte
		sig  string
	}{
		{fieldPath, "o"},
		{fieldInterface, "s"},
		{fieldMember, "s"},
		{fieldErrorName, "s"},
		{fieldReplySerial, "u"},
		{fieldDestination, "s"},
	} {
		if v, ok := m.fields[f.code]; ok {
			fields = append(fields, []any{f.code, Variant{f.sig, v}})
		}
	}
	if m.bodySig != "" {
		fields = append(fields, []any{byte(fieldSignature), Variant{"g", m.bodySig}})
	}
	if err := e.value("a(yv)", fields); err != nil {
		return nil, err
	}
	e.pad(8)
	if len(e.buf)+len(body.buf) > maxMessage {
		return nil, fmt.Errorf("message is longer than %d bytes", maxMessage)
	}
	return append(e.buf, body.buf...), nil
}

// sizeOf returns how long the message is that begins with a fixed header.
func sizeOf(head []byte) (int, error) {
	order, err := orderOf(head[0])
	if err != nil {
		return 0, err
	}
	body, fields := uint64(order.Uint32(head[4:])), uint64(order.Uint32(head[12:]))
	size := fixedHeader + (fields+7)&^7 + body
	if size > maxMessage {
		return 0, fmt.Errorf("message of %d bytes: the limit is %d", size, maxMessage)
	}
	return int(size), nil
}

func orderOf(mark byte) (binary.ByteOrder, error) {
	switch mark {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, fmt.Errorf("message begins with %#x", mark)
}

// unmarshal decodes a whole message.
func unmarshal(data []byte) (*message, error) {
	order, err := orderOf(data[0])
	if err != nil {
		return nil, err
	}
	m := &message{kind: data[1], serial: order.Uint32(data[8:]), fields: map[byte]any{}}
	d := decoder{order: order, buf: data, at: fixedHeader - 4}
	fields, err := d.value("a(yv)")
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	for _, f := range fields.([]any) {
		field := f.([]any)
		m.fields[field[0].(byte)] = field[1].(Variant).Value
	}
	if err := d.pad(8); err != nil {
		return nil, err
	}
	// The alignment of the body begins anew.
	m.bodySig = m.text(fieldSignature)
	d = decoder{order: order, buf: data[d.at:]}
	for rest := m.bodySig; rest != ""; {
		var sig string
		if sig, rest, err = next(rest); err != nil {
			return nil, err
		}
		v, err := d.value(sig)
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		m.body = append(m.body, v)
	}
	return m, nil
}

// maxDepth is how deep types may nest (the specification allows 32 arrays and 32 structs).
const maxDepth = 64

// next splits the first complete type off a signature.
func next(sig string) (first, rest string, err error) {
	n, err := typeLength(sig, 0)
	if err != nil {
		return "", "", fmt.Errorf("signature %q: %w", sig, err)
	}
	return sig[:n], sig[n:], nil
}

func typeLength(sig string, depth int) (int, error) {
	switch {
	case sig == "":
		return 0, errors.New("ends too early")
	case depth > maxDepth:
		return 0, errors.New("nests too deep")
	case strings.IndexByte("ybnqiuxtdsogv", sig[0]) >= 0:
		return 1, nil
	case sig[0] == 'a':
		n, err := typeLength(sig[1:], depth+1)
		return n + 1, err
	case sig[0] == '(' || sig[0] == '{':
		end := byte(')')
		if sig[0] == '{' {
			end = '}'
		}
		members := 0
		for n := 1; n < len(sig); members++ {
			if sig[n] == end {
				if members == 0 || end == '}' && members != 2 {
					return 0, errors.New("wrong number of members")
				}
				return n + 1, nil
			}
			member, err := typeLength(sig[n:], depth+1)
			if err != nil {
				return 0, err
			}
			n += member
		}
		return 0, errors.New("ends too early")
	}
	return 0, fmt.Errorf("unknown type %q", sig[0])
}

// alignment is how values of the type that begins with code are aligned, in bytes.
func alignment(code byte) int {
	switch code {
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 's', 'o', 'a':
		return 4
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 1
}

// encoder appends values to buf, in little endian.
type encoder struct{ buf []byte }

func (e *encoder) pad(to int) {
	for len(e.buf)%to != 0 {
		e.buf = append(e.buf, 0)
	}
}

func (e *encoder) uint32(n uint32) { e.buf = binary.LittleEndian.AppendUint32(e.buf, n) }

// all encodes the values of a signature of several types.
func (e *encoder) all(sig string, values []any) error {
	for i := 0; sig != ""; i++ {
		first, rest, err := next(sig)
		if err != nil {
			return err
		}
		if i == len(values) {
			return fmt.Errorf("no value for %q", sig)
		}
		if err := e.value(first, values[i]); err != nil {
			return err
		}
		sig = rest
	}
	return nil
}

// value encodes a value of one complete type.
func (e *encoder) value(sig string, v any) error {
	e.pad(alignment(sig[0]))
	ok := false
	switch sig[0] {
	case 'y':
		var n byte
		n, ok = v.(byte)
		e.buf = append(e.buf, n)
	case 'b':
		var b bool
		if b, ok = v.(bool); b {
			e.uint32(1)
		} else {
			e.uint32(0)
		}
	case 'n':
		var n int16
		n, ok = v.(int16)
		e.buf = binary.LittleEndian.AppendUint16(e.buf, uint16(n))
	case 'q':
		var n uint16
		n, ok = v.(uint16)
		e.buf = binary.LittleEndian.AppendUint16(e.buf, n)
	case 'i':
		var n int32
		n, ok = v.(int32)
		e.uint32(uint32(n))
	case 'u':
		var n uint32
		n, ok = v.(uint32)
		e.uint32(n)
	case 'x':
		var n int64
		n, ok = v.(int64)
		e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(n))
	case 't':
		var n uint64
		n, ok = v.(uint64)
		e.buf = binary.LittleEndian.AppendUint64(e.buf, n)
	case 'd':
		var n float64
		n, ok = v.(float64)
		e.buf = binary.LittleEndian.AppendUint64(e.buf, math.Float64bits(n))
	case 's', 'o', 'g':
		var s string
		if s, ok = v.(string); ok {
			return e.text(sig[0], s)
		}
	case 'v':
		var inner Variant
		if inner, ok = v.(Variant); ok {
			if err := e.text('g', inner.Signature); err != nil {
				return err
			}
			if first, rest, err := next(inner.Signature); err != nil || rest != "" || first == "" {
				return fmt.Errorf("variant of type %q", inner.Signature)
			}
			return e.value(inner.Signature, inner.Value)
		}
	case 'a':
		return e.array(sig[1:], v)
	case '(', '{':
		var members []any
		if members, ok = v.([]any); ok {
			return e.all(sig[1:len(sig)-1], members)
		}
	}
	if !ok {
		return fmt.Errorf("value %v (%T) for type %q", v, v, sig)
	}
	return nil
}

func (e *encoder) array(elem string, v any) error {
	length := len(e.buf)
	e.uint32(0)
	e.pad(alignment(elem[0]))
	begin := len(e.buf)
	switch list := v.(type) {
	case []byte:
		if elem != "y" {
			return fmt.Errorf("bytes for type %q", "a"+elem)
		}
		e.buf = append(e.buf, list...)
	case []any:
		for _, item := range list {
			if err := e.value(elem, item); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("value %v (%T) for type %q", v, v, "a"+elem)
	}
	binary.LittleEndian.PutUint32(e.buf[length:], uint32(len(e.buf)-begin))
	return nil
}

// text encodes a string. One that the specification forbids would cost the connection.
func (e *encoder) text(kind byte, s string) error {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%q is not UTF-8 without NUL", s)
	}
	switch kind {
	case 'g':
		if len(s) > math.MaxUint8 {
			return fmt.Errorf("signature of %d bytes", len(s))
		}
		e.buf = append(e.buf, byte(len(s)))
	case 'o':
		if !isPath(s) {
			return fmt.Errorf("%q is not an object path", s)
		}
		fallthrough
	default:
		e.uint32(uint32(len(s)))
	}
	e.buf = append(append(e.buf, s...), 0)
	return nil
}

// isPath tells whether s is a valid object path of the specification.
func isPath(s string) bool {
	if s == "/" {
		return true
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(s, "/"), "/") {
		if part == "" || strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return false
		}
	}
	return strings.HasPrefix(s, "/")
}

// decoder reads values from buf.
type decoder struct {
	order binary.ByteOrder
	buf   []byte
	at    int
	depth int
}

var errShort = errors.New("message ends too early")

func (d *decoder) pad(to int) error {
	d.at = (d.at + to - 1) / to * to
	if d.at > len(d.buf) {
		return errShort
	}
	return nil
}

func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.buf)-d.at) {
		return nil, errShort
	}
	b := d.buf[d.at : d.at+int(n)]
	d.at += int(n)
	return b, nil
}

// size is how many bytes a value of a basic type takes, for those that are fixed.
var size = [256]uint64{'y': 1, 'n': 2, 'q': 2, 'b': 4, 'i': 4, 'u': 4, 'x': 8, 't': 8, 'd': 8}

// value decodes a value of one complete type.
func (d *decoder) value(sig string) (any, error) {
	if d.depth++; d.depth > maxDepth {
		return nil, errors.New("values nest too deep")
	}
	defer func() { d.depth-- }()
	if err := d.pad(alignment(sig[0])); err != nil {
		return nil, err
	}
	b, err := d.take(size[sig[0]])
	if err != nil {
		return nil, err
	}
	switch sig[0] {
	case 'y':
		return b[0], nil
	case 'b':
		return d.order.Uint32(b) != 0, nil
	case 'n':
		return int16(d.order.Uint16(b)), nil
	case 'q':
		return d.order.Uint16(b), nil
	case 'i':
		return int32(d.order.Uint32(b)), nil
	case 'u':
		return d.order.Uint32(b), nil
	case 'x':
		return int64(d.order.Uint64(b)), nil
	case 't':
		return d.order.Uint64(b), nil
	case 'd':
		return math.Float64frombits(d.order.Uint64(b)), nil
	case 's', 'o':
		return d.text("u")
	case 'g':
		return d.text("y")
	case 'v':
		return d.variant()
	case 'a':
		return d.array(sig[1:])
	}
	var members []any
	for rest := sig[1 : len(sig)-1]; rest != ""; {
		if sig, rest, err = next(rest); err != nil {
			return nil, err
		}
		v, err := d.value(sig)
		if err != nil {
			return nil, err
		}
		members = append(members, v)
	}
	return members, nil
}

// text decodes a string behind its length.
func (d *decoder) text(length string) (any, error) {
	v, err := d.value(length)
	if err != nil {
		return nil, err
	}
	n, ok := v.(uint32)
	if !ok {
		n = uint32(v.(byte))
	}
	b, err := d.take(uint64(n) + 1)
	if err != nil {
		return nil, err
	}
	return string(b[:n]), nil
}

func (d *decoder) variant() (any, error) {
	sig, err := d.text("y")
	if err != nil {
		return nil, err
	}
	first, rest, err := next(sig.(string))
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, fmt.Errorf("variant of type %q", sig)
	}
	v, err := d.value(first)
	return Variant{first, v}, err
}

func (d *decoder) array(elem string) (any, error) {
	n, err := d.value("u")
	if err != nil {
		return nil, err
	}
	if err := d.pad(alignment(elem[0])); err != nil {
		return nil, err
	}
	end := d.at + int(n.(uint32))
	if end > len(d.buf) {
		return nil, errShort
	}
	if elem == "y" {
		return d.take(uint64(n.(uint32)))
	}
	list := []any{}
	for d.at < end {
		v, err := d.value(elem)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}
