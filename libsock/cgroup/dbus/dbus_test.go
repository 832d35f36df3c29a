package dbus

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	lib "github.com/godbus/dbus/v5"
)

// values are values in our form, by type, and the same as the usual library has it.
var values = []struct {
	sig  string
	ours any
	lib  any
}{
	{"y", byte(200), byte(200)},
	{"b", true, true},
	{"b", false, false},
	{"n", int16(-2), int16(-2)},
	{"q", uint16(65535), uint16(65535)},
	{"i", int32(-1 << 31), int32(-1 << 31)},
	{"u", uint32(1<<32 - 1), uint32(1<<32 - 1)},
	{"x", int64(-1 << 63), int64(-1 << 63)},
	{"t", uint64(1<<64 - 1), uint64(1<<64 - 1)},
	{"d", 1.5, 1.5},
	{"s", "häß", "häß"},
	{"s", "", ""},
	{"o", "/a/b_1", lib.ObjectPath("/a/b_1")},
	{"g", "a{sv}", lib.ParseSignatureMust("a{sv}")},
	{"ay", []byte{1, 2, 3}, []byte{1, 2, 3}},
	{"au", []any{uint32(7)}, []uint32{7}},
	{"at", []any{}, []uint64{}},
	{"as", []any{"a", "bcd", ""}, []string{"a", "bcd", ""}},
	{"a(ss)", []any{[]any{"a", "b"}, []any{"c", "d"}}, []struct{ A, B string }{{"a", "b"}, {"c", "d"}}},
	{"a{su}", []any{[]any{"k", uint32(1)}}, map[string]uint32{"k": 1}},
	{"v", Variant{"ay", []byte{1}}, lib.MakeVariant([]byte{1})},
	{"(yt)", []any{byte(1), uint64(2)}, struct {
		A byte
		B uint64
	}{1, 2}},
	{"a(sv)", []any{[]any{"x", Variant{"t", uint64(5)}}, []any{"y", Variant{"a(ss)", []any{[]any{"p", "rw"}}}}}, []struct {
		A string
		B lib.Variant
	}{{"x", lib.MakeVariant(uint64(5))}, {"y", lib.MakeVariant([]struct{ A, B string }{{"p", "rw"}})}}},
}

// TestMarshalLikeTheLibrary compares messages byte by byte.
func TestMarshalLikeTheLibrary(t *testing.T) {
	for _, v := range values {
		ours := message{kind: methodCall, serial: 7, bodySig: "y" + v.sig, body: []any{byte(9), v.ours}, fields: map[byte]any{
			fieldPath: "/p", fieldInterface: "a.b", fieldMember: "M", fieldDestination: "c.d",
		}}
		got, err := ours.marshal()
		if err != nil {
			t.Errorf("%s: %v", v.sig, err)
			continue
		}
		theirs := &lib.Message{Type: lib.TypeMethodCall, Body: []any{byte(9), v.lib}, Headers: map[lib.HeaderField]lib.Variant{
			lib.FieldPath: lib.MakeVariant(lib.ObjectPath("/p")), lib.FieldInterface: lib.MakeVariant("a.b"), lib.FieldMember: lib.MakeVariant("M"),
			lib.FieldDestination: lib.MakeVariant("c.d"), lib.FieldSignature: lib.MakeVariant(lib.SignatureOf(byte(9), v.lib)),
		}}
		decoded, err := lib.DecodeMessage(bytes.NewReader(got))
		if err != nil {
			t.Errorf("%s: the library can't decode %x: %v", v.sig, got, err)
			continue
		}
		if fmt.Sprint(decoded.Headers[lib.FieldSignature]) != fmt.Sprint(theirs.Headers[lib.FieldSignature]) || decoded.Headers[lib.FieldMember].Value() != "M" {
			t.Errorf("%s: the library decodes headers %v", v.sig, decoded.Headers)
		}
		var encoded bytes.Buffer
		if err := theirs.EncodeTo(&encoded, nativeOrder()); err != nil {
			t.Fatal(err)
		}
		// Headers are in no order; the bodies must be equal.
		body := len(got) - int(nativeOrder().Uint32(got[4:]))
		if want := encoded.Bytes()[encoded.Len()-len(got)+body:]; !bytes.Equal(got[body:], want) {
			t.Errorf("%s: body %x, the library's is %x", v.sig, got[body:], want)
		}
		again, err := unmarshal(encoded.Bytes())
		if err != nil || !reflect.DeepEqual(again.body[1], v.ours) {
			t.Errorf("%s: decoded %#v, %v, want %#v", v.sig, again, err, v.ours)
		}
	}
}

func nativeOrder() interface {
	Uint32([]byte) uint32
	PutUint32([]byte, uint32)
	Uint16([]byte) uint16
	PutUint16([]byte, uint16)
	Uint64([]byte) uint64
	PutUint64([]byte, uint64)
	String() string
} {
	order, _ := orderOf('l')
	return order.(interface {
		Uint32([]byte) uint32
		PutUint32([]byte, uint32)
		Uint16([]byte) uint16
		PutUint16([]byte, uint16)
		Uint64([]byte) uint64
		PutUint64([]byte, uint64)
		String() string
	})
}

func TestMarshalRefuses(t *testing.T) {
	for _, v := range []struct {
		sig   string
		value any
	}{
		{"s", "a\x00b"},
		{"s", "\xff"},
		{"s", 1},
		{"o", "a"},
		{"o", "/a//b"},
		{"o", "/a/"},
		{"u", int32(1)},
		{"as", "a"},
		{"as", []byte{1}},
		{"(ss)", []any{"a"}},
		{"v", Variant{"", nil}},
		{"v", Variant{"ss", nil}},
		{"v", Variant{"(", nil}},
		{"z", nil},
		{"a", nil},
		{"{s}", nil},
		{"()", []any{}},
		{strings.Repeat("a", 100) + "y", nil},
	} {
		m := message{kind: methodCall, bodySig: v.sig, body: []any{v.value}}
		if data, err := m.marshal(); err == nil {
			t.Errorf("%s %v: %x", v.sig, v.value, data)
		}
	}
}

// FuzzUnmarshal has broken messages fail, and whole ones survive a round.
func FuzzUnmarshal(f *testing.F) {
	for _, v := range values {
		m := message{kind: signal, serial: 1, bodySig: v.sig, body: []any{v.ours}, fields: map[byte]any{fieldMember: "M"}}
		data, err := m.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < fixedHeader {
			return
		}
		if size, err := sizeOf(data); err != nil || size > len(data) {
			return
		}
		m, err := unmarshal(data)
		if err != nil {
			return
		}
		var e encoder
		if err := e.all(m.bodySig, m.body); err != nil {
			return // strings that we wouldn't send
		}
	})
}

// FuzzParseText has anything fail or be a value that can be sent.
func FuzzParseText(f *testing.F) {
	for _, text := range texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseText(text)
		if err != nil {
			return
		}
		var e encoder
		if err := e.value("v", v); err != nil {
			t.Errorf("%q: %v: %v", text, v, err)
		}
	})
}

// texts are values in GVariant's text format.
var texts = []string{
	"1", "-1", "0x10", "1.0", "1e1", "true", "false", "'a'", `"a"`, `"\a\b\f\n\r\t\\\""`, `'\u00e4\U0001f603'`, "[1]", "[1, 2, 3]", "@ai []",
	"[1, 5.0]", "[[1, 2], [3, 4.0]]", "[[], ['']]", "<1>", "[<1>, <2.0>]", "@a{ss} {}", "{'a': 1}", "[{}, {'a': 'b'}]", "{'b': <'c'>}",
	"b''", "b'abc'", "[[byte 0], b'']", "int16 5", "byte 0", "uint32 7", "uint64 18446744073709551615", "int64 -5", "double 5", "string 'x'",
	"objectpath '/a/b'", "signature 'as'", "@t 5", "@as ['a']", "[uint64 1, 2]", "boolean true", " [ 'a' , 'b' ] ",
}

func TestParseTextLikeTheLibrary(t *testing.T) {
	for _, text := range texts {
		ours, err := ParseText(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		theirs, err := lib.ParseVariant(text, lib.Signature{})
		if err != nil {
			t.Logf("%q: the library can't: %v", text, err)
			continue
		}
		var e encoder
		if err := e.value("v", ours); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var want bytes.Buffer
		m := &lib.Message{Type: lib.TypeSignal, Body: []any{theirs}, Headers: map[lib.HeaderField]lib.Variant{
			lib.FieldPath: lib.MakeVariant(lib.ObjectPath("/p")), lib.FieldInterface: lib.MakeVariant("a.b"), lib.FieldMember: lib.MakeVariant("M"),
			lib.FieldSignature: lib.MakeVariant(lib.SignatureOf(theirs)),
		}}
		if err := m.EncodeTo(&want, nativeOrder()); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(want.Bytes(), e.buf) || int(nativeOrder().Uint32(want.Bytes()[4:])) != len(e.buf) {
			t.Errorf("%q: %v of type %s, the library says %v of type %s", text, ours.Value, ours.Signature, theirs, theirs.Signature())
		}
	}
}

func TestParseText(t *testing.T) {
	for text, want := range map[string]Variant{
		"('a', 1)":             {"(si)", []any{"a", int32(1)}},
		"('a',)":               {"(s)", []any{"a"}},
		"[('/dev/null', 'r')]": {"a(ss)", []any{[]any{"/dev/null", "r"}}},
		"[1, uint64 2]":        {"at", []any{uint64(1), uint64(2)}},
		"@a(ss) []":            {"a(ss)", []any{}},
		"@ay [1, 2]":           {"ay", []byte{1, 2}},
		"inf":                  {"d", func() any { v, _ := ParseText("double inf"); return v.Value }()},
	} {
		if got, err := ParseText(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %#v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", " ", "x", "'a", "[", "[1", "[1,", "[1 2]", "{'a'}", "{'a': }", "<1", "(1", "()", "[]", "{}", "1 2", "uint64", "uint64 -1", "byte 256",
		"@z 1", "@ 1", "@as 1", "uint32 'a'", "[1, 'a']", "'\\u12'", "'\\ud800'", "'a\\u0000'", "objectpath 'a'", "9999999999", "truex", "@a{ss} []",
		strings.Repeat("[<", 40) + "1" + strings.Repeat(">]", 40),
	} {
		if got, err := ParseText(text); err == nil {
			t.Errorf("%q: %#v", text, got)
		}
	}
}

// bus starts a message bus and returns its address.
func bus(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		if os.Getenv("SOCK_TEST_STRICT") == "1" {
			t.Fatal("dbus-daemon is missing: install dbus-daemon")
		}
		t.Skip("dbus-daemon is missing: install dbus-daemon")
	}
	address := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1", "--address="+address)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line) // with a GUID behind a comma
}

// echo answers on the bus with the library's means.
type echo struct{ conn *lib.Conn }

func (e echo) Echo(v lib.Variant) (lib.Variant, *lib.Error) {
	_ = e.conn.Emit("/e", "test.Echo.Heard", v) // before the answer
	return v, nil
}

func (e echo) Fail() *lib.Error { return lib.NewError("test.Failed", []any{"for good", uint32(1)}) }

func (e echo) Large(n uint32) (string, *lib.Error) { return strings.Repeat("x", int(n)), nil }

func TestBus(t *testing.T) {
	address := bus(t)
	server, err := lib.Dial(address)
	if err == nil {
		if err = server.Auth(nil); err == nil {
			err = server.Hello()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.Export(echo{server}, "/e", "test.Echo"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.RequestName("test.Echo", 0); err != nil {
		t.Fatal(err)
	}
	c, err := Dial("unix:path=/nonexistent;"+address, true, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Subscribe("type='signal',interface='test.Echo'"); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if strings.ContainsAny(v.sig, "({") {
			continue // the library can't send back what it has received
		}
		given := Variant{v.sig, v.ours}
		got, err := c.Call("test.Echo", "/e", "test.Echo", "Echo", "v", given)
		if err != nil || !reflect.DeepEqual(got, []any{given}) {
			t.Errorf("%s: %#v, %v", v.sig, got, err)
		}
		heard, err := c.Await(func(s *Signal) bool { return s.Member == "Heard" })
		if err != nil || !reflect.DeepEqual(heard.Body, []any{given}) {
			t.Errorf("%s: signal %#v, %v", v.sig, heard, err)
		}
	}
	_, err = c.Call("test.Echo", "/e", "test.Echo", "Fail", "")
	var failed *Error
	if !errors.As(err, &failed) || failed.Name != "test.Failed" || failed.Error() != "for good" {
		t.Errorf("failure: %v", err)
	}
	if got, err := c.Call("test.Echo", "/e", "test.Echo", "Large", "u", uint32(1<<20)); err != nil || len(got[0].(string)) != 1<<20 {
		t.Errorf("large: %v", err)
	}
	if _, err := c.Call("nobody.there", "/e", "test.Echo", "Echo", ""); !errors.As(err, &failed) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := c.Call("test.Echo", "/e", "test.Echo", "Echo", "s", 7); err == nil {
		t.Error("a wrong argument was sent")
	}
	c.patience = 50 * time.Millisecond
	if _, err := c.Await(func(s *Signal) bool { return false }); !errors.Is(err, ErrTimeout) {
		t.Errorf("no signal: %v", err)
	}
}

// peer answers on a socket without a bus, as systemd's private one. Each pair is for one connection: what it expects, and what
// it answers.
func peer(t *testing.T, script ...[2]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peer")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for _, line := range script {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			got := make([]byte, len(line[0]))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != line[0] {
				t.Errorf("peer got %q, want %q", got, line[0])
			}
			_, _ = io.WriteString(conn, line[1])
			if line[1] == "" {
				time.Sleep(time.Second)
			}
			conn.Close()
		}
	}()
	return path
}

func TestAuthenticate(t *testing.T) {
	hello := "\x00AUTH EXTERNAL " + fmt.Sprintf("%x", fmt.Sprint(os.Geteuid())) + "\r\nBEGIN\r\n"
	const unnamed = "\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
	for name, tc := range map[string]struct {
		script [][2]string
		says   string
	}{
		"at once":  {[][2]string{{hello, "OK 1234\r\n"}}, ""},
		"unnamed":  {[][2]string{{hello, "REJECTED EXTERNAL\r\n"}, {unnamed, "DATA\r\nOK 1\r\n"}}, ""},
		"rejected": {[][2]string{{hello, "REJECTED\r\n"}, {unnamed, "REJECTED\r\n"}}, "rejected"},
		"hangs up": {[][2]string{{hello, "OK"}}, "connection was closed"},
		"refuses":  {[][2]string{{hello, "ERROR\r\n"}}, `got "ERROR"`},
		"nonsense": {[][2]string{{hello, strings.Repeat("x", 20<<10)}}, "line is too long"},
		"silent":   {[][2]string{{hello, ""}}, "no answer in time"},
	} {
		c, err := Dial(SocketAddress(peer(t, tc.script...)), false, 200*time.Millisecond)
		if err == nil {
			c.Close()
		}
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for address, want := range map[string]string{
		"unix:path=/a":                            "[/a]",
		"unix:path=/a%20b,guid=1":                 "[/a b]",
		"tcp:host=x;unix:abstract=b;unix:path=/c": "[@b /c]",
		SocketAddress("/run/a,b;c"):               "[/run/a,b;c]",
		"tcp:host=x":                              "[]",
		"":                                        "[]",
		"unix:path=%zz":                           "[]",
	} {
		got, err := parseAddress(address)
		if fmt.Sprint(got) != want || (err == nil) != (want != "[]") {
			t.Errorf("%q: %v, %v", address, got, err)
		}
	}
}
