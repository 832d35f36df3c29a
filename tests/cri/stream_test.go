package cri

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// The channels of Kubernetes' stream protocol v4: the first byte of each message. A port has two: data and errors.
const (
	stdin, stdout, stderr, failure, resize = 0, 1, 2, 3, 4
	protocol                               = "v4.channel.k8s.io"
)

// stream is a connection to the CRI plugin's streaming server.
type stream struct {
	client
	conn *websocket.Conn

	mu  sync.Mutex
	got map[byte]string
	end error
}

// stream connects to the URL that Exec, Attach or PortForward answers with.
func (c client) stream(address string) *stream {
	c.Helper()
	u, err := url.Parse(address)
	Must(c.T, err)
	s := &stream{client: c, got: map[byte]string{}}
	config, err := websocket.NewConfig(strings.Replace(address, "http", "ws", 1), "http://localhost")
	Must(c.T, err)
	config.Protocol = []string{protocol}
	var tcp net.Conn
	Must(c.T, c.node.in(func() (err error) {
		tcp, err = net.DialTimeout("tcp4", u.Host, 30*time.Second)
		return err
	}))
	s.conn, err = websocket.NewClient(config, tcp)
	Must(c.T, err)
	s.conn.PayloadType = websocket.BinaryFrame
	go s.read()
	c.Cleanup(func() { s.conn.Close() })
	return s
}

func (s *stream) read() {
	for {
		var message []byte
		err := websocket.Message.Receive(s.conn, &message)
		s.mu.Lock()
		if err != nil {
			s.end = err
			s.mu.Unlock()
			return
		}
		if len(message) > 0 {
			s.got[message[0]] += string(message[1:])
		}
		s.mu.Unlock()
	}
}

func (s *stream) send(channel byte, text string) {
	s.Helper()
	Must(s.T, websocket.Message.Send(s.conn, append([]byte{channel}, text...)))
}

func (s *stream) resize(rows, columns int) {
	s.Helper()
	s.send(resize, fmt.Sprintf(`{"Width": %d, "Height": %d}`, columns, rows))
}

// output is what came on a channel.
func (s *stream) output(channel byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[channel]
}

// says waits for text on a channel.
func (s *stream) says(channel byte, want string) {
	s.Helper()
	eventually(s.T, fmt.Sprintf("%q on channel %d", want, channel), func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !strings.Contains(s.got[channel], want) {
			return fmt.Errorf("%q, %v", s.got, s.end)
		}
		return nil
	})
}

// status waits for the end of the process, and returns its exit status.
func (s *stream) status() string {
	s.Helper()
	var status struct {
		Status  string
		Details struct {
			Causes []struct{ Reason, Message string }
		}
	}
	eventually(s.T, "the end of the stream", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if json.Unmarshal([]byte(s.got[failure]), &status) != nil {
			return fmt.Errorf("%q, %v", s.got, s.end)
		}
		return nil
	})
	if status.Status == "Success" {
		return "0"
	}
	for _, cause := range status.Details.Causes {
		if cause.Reason == "ExitCode" {
			return cause.Message
		}
	}
	return s.output(failure)
}
