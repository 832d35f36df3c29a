package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPermute(t *testing.T) {
	tests := []struct{ args, want string }{
		{"sock", "sock"},
		{"sock --root", "sock --root"},
		{"sock --version", "sock --version"},
		{"sock nonsense a --force", "sock nonsense a --force"},
		{"sock delete a", "sock delete a"},
		{"sock delete a --force", "sock delete --force a"},
		{"sock delete a -f b", "sock delete -f a b"},
		{"sock --root /r --debug --log=l delete a -f", "sock --root /r --debug --log=l delete -f a"},
		{"sock --root delete delete a -f", "sock --root delete delete -f a"},
		{"sock -- delete a -f", "sock -- delete -f a"},
		{"sock kill a 9 --all", "sock kill --all a 9"},
		{"sock kill a -9", "sock kill a -9"},
		{"sock create a -b /b --pid-file=p", "sock create -b /b --pid-file=p a"},
		{"sock create a --bundle", "sock create --bundle a"},
		{"sock update a -r -", "sock update -r - a"},
		{"sock delete a -- --force", "sock delete -- a --force"},
		{"sock exec a ls -t", "sock exec a ls -t"},
		{"sock ps a -f", "sock ps a -f"},
		{"sock checkpoint a --leave-running", "sock checkpoint a --leave-running"},
	}
	for _, tt := range tests {
		got := strings.Join(permute(newApp(), strings.Fields(tt.args)), " ")
		if got != tt.want {
			t.Errorf("permute(%s) = %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestIsRootless(t *testing.T) {
	tests := []struct {
		value string
		want  bool
		fails bool
	}{
		{"auto", !hostRoot(t), false},
		{"Auto", !hostRoot(t), false},
		{"", !hostRoot(t), false},
		{"true", true, false},
		{"0", false, false},
		{"perhaps", false, true},
	}
	for _, tt := range tests {
		got, err := isRootless(tt.value, false)
		if got != tt.want || (err != nil) != tt.fails {
			t.Errorf("isRootless(%q) = %v, %v", tt.value, got, err)
		}
	}
}

// hostRoot asks the kernel: only in the first user namespace is every ID mapped.
func hostRoot(t *testing.T) bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	return os.Geteuid() == 0 && strings.Join(strings.Fields(string(data)), " ") == "0 0 4294967295"
}

func TestCheckPreserved(t *testing.T) {
	if err := checkPreserved(0, 0); err != nil {
		t.Error(err)
	}
	if err := checkPreserved(-1, 0); err == nil {
		t.Error("a negative number is accepted")
	}
	// Take 3 from whoever has it, and give it back.
	saved, err := unix.FcntlInt(3, unix.F_DUPFD_CLOEXEC, 10)
	if err == nil {
		defer func() {
			_ = unix.Dup3(saved, 3, unix.O_CLOEXEC)
			_ = unix.Close(saved)
		}()
	} else {
		defer unix.Close(3)
	}
	if err := unix.Dup3(1, 3, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	const want = "unable to stat preserved-fd 0 (of 1): bad file descriptor"
	if err := checkPreserved(1, 0); err == nil || err.Error() != want {
		t.Errorf("close-on-exec: error is %v, want %s", err, want)
	}
	if _, err := unix.FcntlInt(3, unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	if err := checkPreserved(1, 0); err != nil {
		t.Errorf("a descriptor of the caller: %v", err)
	}
}
