package wire

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func messages() []Message {
	return []Message{
		{Kind: Ready, FD: -1},
		{Kind: Open, Conn: 1, Payload: []byte{1}, FD: -1},
		{Kind: Frame, Conn: 1<<40 + 7, Payload: AppendFrame(nil, 3, Request, []byte("hello")), FD: -1},
		{Kind: Frame, Conn: 2, Payload: AppendFrame(nil, 5, Response, bytes.Repeat([]byte("x"), MaxFrame)), FD: -1},
		{Kind: Close, Conn: 2, FD: -1},
		{Kind: Drop, Payload: []byte("pty"), FD: -1},
	}
}

// TestDecoderSplits cuts the same bytes in pieces of all sizes.
func TestDecoderSplits(t *testing.T) {
	var stream []byte
	for _, m := range messages() {
		stream = Append(stream, m)
	}
	for _, piece := range []int{1 << 30, 65536, 4096, 17, 16, 15, 3, 1} {
		var d Decoder
		want := messages()
		rest := stream
		for len(rest) > 0 {
			n := min(len(rest), piece)
			if piece < 4096 && len(rest) > 100 && len(stream)-len(rest) > 200 { // not the whole 4 MiB in single bytes
				n = min(len(rest)-50, 4096)
			}
			d.Feed(rest[:n], nil)
			rest = rest[n:]
			for {
				m, ok, err := d.Next()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				if m.Kind != want[0].Kind || m.Conn != want[0].Conn || m.FD != -1 || !bytes.Equal(m.Payload, want[0].Payload) {
					t.Fatalf("pieces of %d: got kind %d, connection %d, %d bytes", piece, m.Kind, m.Conn, len(m.Payload))
				}
				want = want[1:]
			}
		}
		if len(want) > 0 {
			t.Fatalf("pieces of %d: %d messages are missing", piece, len(want))
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"a message of 4 GiB":     {0xff, 0xff, 0xff, 0xff, byte(Frame), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"kind 0":                 make([]byte, HeaderSize),
		"kind 200":               {0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"without its descriptor": Append(nil, Message{Kind: Hold, Payload: []byte("x")}),
	} {
		var d Decoder
		d.Feed(b, nil)
		if _, ok, err := d.Next(); ok || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	for _, m := range messages()[:3] {
		f.Add(Append(nil, m), uint8(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		var d Decoder
		var again []byte
		rest := b
		for len(rest) > 0 {
			n := min(len(rest), int(piece)+1)
			d.Feed(rest[:n], nil)
			rest = rest[n:]
			for {
				m, ok, err := d.Next()
				if err != nil {
					return
				}
				if !ok {
					break
				}
				again = Append(again, m)
			}
		}
		want := append([]byte(nil), b[:len(again)]...)
		for i := 0; i < len(again); i += HeaderSize + int(uint32At(again[i:])) {
			clear(want[i+5 : i+8]) // reserved
		}
		if !bytes.Equal(want, again) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

// TestDescriptors passes descriptors between other messages, so that they could be mistaken.
func TestDescriptors(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	const count = 200
	go func() {
		defer unix.Close(pair[0])
		for i := range count {
			f, err := os.CreateTemp("", "wire")
			if err != nil {
				t.Error(err)
				return
			}
			_ = os.Remove(f.Name())
			_, _ = f.WriteString(strings.Repeat("i", i))
			b := Append(nil, Message{Kind: Hold, Payload: bytes.Repeat([]byte("n"), i)})
			fd := int(f.Fd())
			for len(b) > 0 {
				n, err := Send(pair[0], b[:rand.IntN(len(b))+1], fd)
				if err != nil {
					t.Error(err)
					return
				}
				b, fd = b[n:], -1
			}
			_ = f.Close()
			b = Append(nil, Message{Kind: Frame, Payload: make([]byte, rand.IntN(3000))})
			for len(b) > 0 {
				n, err := Send(pair[0], b, -1)
				if err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
		}
	}()
	var d Decoder
	defer d.Close()
	buf := make([]byte, 700)
	got := 0
	for {
		n, fds, err := Receive(pair[1], buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		d.Feed(buf[:n], fds)
		for {
			m, ok, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if m.Kind != Hold {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstat(m.FD, &st); err != nil || int(st.Size) != len(m.Payload) || len(m.Payload) != got {
				t.Fatalf("descriptor %d: a file of %d bytes under a name of %d (%v)", got, st.Size, len(m.Payload), err)
			}
			if flags, err := unix.FcntlInt(uintptr(m.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Fatalf("descriptor %d is not close-on-exec (%v)", got, err)
			}
			_ = unix.Close(m.FD)
			got++
		}
	}
	if got != count {
		t.Fatalf("%d descriptors of %d", got, count)
	}
}

func TestFrameLen(t *testing.T) {
	frame := AppendFrame(nil, 9, Request, []byte("body"))
	for i := range len(frame) {
		if n, err := FrameLen(frame[:i]); n != 0 || err != nil {
			t.Fatalf("%d bytes: %d, %v", i, n, err)
		}
	}
	n, err := FrameLen(append(frame, 1, 2, 3))
	if n != len(frame) || err != nil || Stream(frame) != 9 || Type(frame) != Request {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := FrameLen(append32(nil, MaxFrame+1)); n != 0 || err != nil {
		t.Fatalf("an incomplete header: %d, %v", n, err)
	}
	if _, err := FrameLen([]byte{0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0}); err == nil {
		t.Fatal("a frame of 4 MiB and 1 byte was accepted")
	}
}

func TestExit(t *testing.T) {
	e := Exit{Pid: 1<<22 - 1, Start: 1 << 50, Status: 137 << 8, At: 400 * 24 * time.Hour, Comm: "sh"}
	got, err := DecodeExit(AppendExit(nil, e))
	if err != nil || got != e {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := DecodeExit([]byte("short")); err == nil {
		t.Fatal("a short exit was accepted")
	}
}
