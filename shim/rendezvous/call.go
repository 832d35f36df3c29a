package rendezvous

// Call is an execution of the shim's program, passed on to the shim that runs.
type Call struct {
	Args  []string // with the program's name
	Dir   string   // working directory: the bundle
	Stdin []byte
}

// Answer is what the program has to print, and its exit status.
type Answer struct {
	Code   byte
	Stdout []byte
	Stderr []byte
}

// Elsewhere is the Code that says: this shim is not the one, and the one may not run yet. The program goes on as if no shim
// had run.
const Elsewhere = 255

// Calls and Answers are frames of ttrpc's format, so that the keeper can treat all connections alike: 4 bytes of length, 4 of
// stream, 1 of type, 1 of flags. The content is a list of strings, each with 4 bytes of length before it.
const (
	HeaderSize = 10
	// MaxFrame is the longest content.
	MaxFrame = 4 << 20

	request, response = 1, 2
	stream            = 1
)

// EncodeCall returns the frame; ok is false if it would be too long.
func EncodeCall(c Call) (frame []byte, ok bool) {
	b := make([]byte, HeaderSize, 1024+len(c.Stdin))
	b = appendNumber(b, len(c.Args))
	for _, s := range c.Args {
		b = appendString(b, s)
	}
	b = appendString(b, c.Dir)
	b = appendString(b, string(c.Stdin))
	return seal(b, request)
}

// DecodeCall decodes a frame's content; ok is false if it isn't a Call.
func DecodeCall(b []byte) (c Call, ok bool) {
	d := decoder{b: b}
	c.Args = d.strings()
	c.Dir = d.string()
	c.Stdin = []byte(d.string())
	return c, !d.bad && len(d.b) == 0 && len(c.Args) > 0
}

// EncodeAnswer returns the frame; ok is false if it would be too long.
func EncodeAnswer(a Answer) (frame []byte, ok bool) {
	b := make([]byte, HeaderSize, 1024)
	b = append(b, a.Code)
	b = appendString(b, string(a.Stdout))
	b = appendString(b, string(a.Stderr))
	return seal(b, response)
}

// DecodeAnswer decodes a frame's content; ok is false if it isn't an Answer.
func DecodeAnswer(b []byte) (a Answer, ok bool) {
	if len(b) < 1 {
		return a, false
	}
	d := decoder{b: b[1:]}
	a.Code = b[0]
	a.Stdout = []byte(d.string())
	a.Stderr = []byte(d.string())
	return a, !d.bad && len(d.b) == 0
}

// ContentSize is the length of what follows a frame's header.
func ContentSize(header []byte) int { return number(header) }

// seal fills the header of a frame.
func seal(b []byte, kind byte) ([]byte, bool) {
	if len(b)-HeaderSize > MaxFrame {
		return nil, false
	}
	appendNumber(b[:0], len(b)-HeaderSize)
	appendNumber(b[:4], stream)
	b[8] = kind
	return b, true
}

func number(b []byte) int {
	return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}

func appendNumber(b []byte, n int) []byte {
	return append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendString(b []byte, s string) []byte { return append(appendNumber(b, len(s)), s...) }

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) number() int {
	if d.bad || len(d.b) < 4 {
		d.bad = true
		return 0
	}
	n := number(d.b)
	d.b = d.b[4:]
	return n
}

func (d *decoder) string() string {
	n := d.number()
	if d.bad || n > len(d.b) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) strings() []string {
	var all []string
	for n := d.number(); n > 0 && !d.bad; n-- {
		all = append(all, d.string())
	}
	return all
}
