package wire

import "fmt"

// A frame of ttrpc (PROTOCOL.md of containerd/ttrpc) begins with 4 bytes of length, without the header, 4 of stream, and one
// each of type and flags.
const (
	FrameHeader = 10
	MaxFrame    = 4 << 20 // ttrpc refuses longer ones
)

// Types of frames.
const (
	Request  = 1
	Response = 2
	Data     = 3
)

// FrameLen returns the length of the frame that b begins with, header included, or 0 if b doesn't hold all of it yet. It
// fails as soon as the header is there and announces more than MaxFrame.
func FrameLen(b []byte) (int, error) {
	if len(b) < FrameHeader {
		return 0, nil
	}
	length := uint32At(b)
	if length > MaxFrame {
		return 0, fmt.Errorf("frame of %d bytes", length)
	}
	if n := FrameHeader + int(length); len(b) >= n {
		return n, nil
	}
	return 0, nil
}

// Stream is the stream of a frame.
func Stream(frame []byte) uint32 { return uint32At(frame[4:]) }

// Type is the type of a frame.
func Type(frame []byte) byte { return frame[8] }

// AppendFrame encodes a frame.
func AppendFrame(b []byte, stream uint32, kind byte, payload []byte) []byte {
	b = append32(b, uint32(len(payload)))
	b = append32(b, stream)
	b = append(b, kind, 0)
	return append(b, payload...)
}
