package rendezvous

import (
	"bytes"
	"hash/fnv"
	"reflect"
	"strings"
	"testing"
)

func TestDir(t *testing.T) {
	h := fnv.New64a()
	h.Write([]byte("/run/containerd/containerd.sock\x00default\x00\x00"))
	const digits = "0123456789abcdef"
	var sum strings.Builder
	for _, b := range h.Sum(nil) {
		sum.WriteByte(digits[b>>4])
		sum.WriteByte(digits[b&15])
	}
	dir := Dir("/run/containerd/containerd.sock", "default", "")
	if dir != "/run/sock-shim/default-"+sum.String() {
		t.Errorf("got %s, want the hash %s", dir, sum.String())
	}
	seen := map[string]bool{dir: true}
	for _, c := range [][3]string{
		{"/run/containerd/containerd.sock", "default", "g"},
		{"/run/containerd/containerd.sock", "defaultg", ""},
		{"/run/containerd/containerd.sockdefault", "", ""},
		{"", "..", ""},
		{"", "../../etc", "x"},
		{"", "a/b", ""},
		{"", "a\x00b", ""},
		{"", strings.Repeat("n", 500), ""},
		{"", strings.Repeat("n", 501), ""},
		{"", "", strings.Repeat("g", 4000)},
	} {
		dir := Dir(c[0], c[1], c[2])
		if seen[dir] || len(dir)+len("/"+ControlSocket) > 107 || strings.Count(dir, "/") != 3 || strings.Contains(dir, "/.") || strings.Contains(dir, "\x00") {
			t.Errorf("%.40q: %s", c, dir)
		}
		seen[dir] = true
		if got := DirOf(Scheme + dir + "/" + TaskSocket); got != dir {
			t.Errorf("the directory of %s is %q", dir, got)
		}
	}
	for _, address := range []string{
		"", "unix://", "unix:///task.sock", "unix:///run/sock-shim/task.sock", "unix:///run/sock-shim//task.sock", "unix:///run/sock-shim/a/b/task.sock",
		"unix:///tmp/x/task.sock", "/run/sock-shim/a/task.sock", "unix:///run/sock-shim/a/other.sock",
	} {
		if got := DirOf(address); got != "" {
			t.Errorf("the directory of %s is %s", address, got)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want Command
		ok   bool
	}{
		{"-namespace n -address /a -publish-binary /b -id i start", Command{Namespace: "n", Address: "/a", ID: "i", Action: "start"}, true},
		{"--namespace=n -address /a -id i -bundle /x -debug delete", Command{Namespace: "n", Address: "/a", ID: "i", Bundle: "/x", Debug: true, Action: "delete"}, true},
		{"-namespace -id -id start start more -x", Command{Namespace: "-id", ID: "start", Action: "start"}, true},
		{"-id start start more -x", Command{ID: "start", Action: "start"}, true},
		{"-info", Command{Info: true}, true},
		{"-v", Command{Version: true}, true},
		{"-debug=false -version", Command{Version: true}, true},
		{"", Command{}, true},
		{"-id", Command{}, false},
		{"-nonsense x start", Command{}, false},
	} {
		got, ok := Parse(strings.Fields(c.args))
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %v", c.args, got, ok)
		}
	}
}

func TestCall(t *testing.T) {
	call := Call{Args: []string{"shim", "", "-id", "x"}, Dir: "/bundle", Stdin: bytes.Repeat([]byte{0, 255}, 100_000)}
	frame, ok := EncodeCall(call)
	if !ok || ContentSize(frame) != len(frame)-HeaderSize {
		t.Fatalf("%v, %d bytes of %d", ok, ContentSize(frame), len(frame))
	}
	got, ok := DecodeCall(frame[HeaderSize:])
	if !ok || !reflect.DeepEqual(got, call) {
		t.Errorf("%v, %.200v", ok, got)
	}
	for n := range 200 {
		if _, ok := DecodeCall(frame[HeaderSize : HeaderSize+n]); ok {
			t.Errorf("%d bytes of a call were taken", n)
		}
	}
	if _, ok := EncodeCall(Call{Args: []string{"x"}, Stdin: make([]byte, MaxFrame)}); ok {
		t.Error("a call of more than 4 MiB was encoded")
	}
	if _, ok := DecodeCall([]byte("\xff\xff\xff\xff")); ok {
		t.Error("nonsense was taken")
	}
	answer := Answer{Code: 3, Stdout: []byte("out\x00"), Stderr: []byte("err")}
	frame, _ = EncodeAnswer(answer)
	if got, ok := DecodeAnswer(frame[HeaderSize:]); !ok || !reflect.DeepEqual(got, answer) {
		t.Errorf("%v, %v", ok, got)
	}
}

func FuzzDecodeCall(f *testing.F) {
	frame, _ := EncodeCall(Call{Args: []string{"a", "b"}, Dir: "d", Stdin: []byte("e")})
	f.Add(frame[HeaderSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := DecodeCall(b)
		if !ok {
			return
		}
		if again, _ := EncodeCall(c); !bytes.Equal(again[HeaderSize:], b) {
			t.Errorf("%x became %x", b, again[HeaderSize:])
		}
	})
}
