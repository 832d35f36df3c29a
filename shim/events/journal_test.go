package events

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func texts(records [][]byte) []string {
	var list []string
	for _, r := range records {
		list = append(list, string(r))
	}
	return list
}

func open(t *testing.T, path string, want ...string) *journal {
	t.Helper()
	j, records, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(texts(records), want) {
		t.Errorf("journal has %q, want %q", texts(records), want)
	}
	t.Cleanup(func() { j.file.Close() })
	return j
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestJournal opens the file anew after each step, as after a kill.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	must(t, j.add([]byte("one")))
	j = open(t, path, "one")
	must(t, j.add([]byte("two")))
	must(t, j.add([]byte("three")))
	must(t, j.drop())
	j = open(t, path, "two", "three")
	must(t, j.drop())
	must(t, j.drop())
	j = open(t, path)
	must(t, j.add([]byte("four")))
	open(t, path, "four")
}

// TestTorn cuts the file at every place: what is whole is read.
func TestTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	must(t, j.add([]byte("first")))
	must(t, j.add([]byte("second")))
	data, err := os.ReadFile(path)
	must(t, err)
	firstEnd := journalHeader + recordHeader + len("first")
	for n := range len(data) {
		cut := filepath.Join(t.TempDir(), "cut")
		must(t, os.WriteFile(cut, data[:n], 0o600))
		var want []string
		if n >= firstEnd {
			want = []string{"first"}
		}
		j := open(t, cut, want...)
		must(t, j.add([]byte("new")))
		open(t, cut, append(want, "new")...)
	}
	data[len(data)-1]++
	must(t, os.WriteFile(path, data, 0o600))
	open(t, path, "first")
}

// TestKilledInReset stops between the two steps of emptying the file.
func TestKilledInReset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	must(t, j.add([]byte("one")))
	must(t, j.drop())
	must(t, os.Truncate(path, 0))
	j = open(t, path)
	must(t, j.add([]byte("two")))
	open(t, path, "two")
}

func TestCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	big := make([]byte, compactAt/4)
	var left []string
	for i := range 20 {
		copy(big, fmt.Sprintf("%02d", i))
		must(t, j.add(big))
		left = append(left, string(big))
	}
	for range 12 {
		must(t, j.drop())
	}
	j = open(t, path, left[12:]...)
	if info, err := os.Stat(path); err != nil || info.Size() > 12*compactAt/4 {
		t.Errorf("the file has %d bytes", info.Size())
	}
	must(t, j.add([]byte("more")))
	open(t, path, append(left[12:], "more")...)
}
