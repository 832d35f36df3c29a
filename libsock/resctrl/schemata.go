package resctrl

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// compare refuses a class of service that exists and is another than l3CacheSchema and memBwSchema say: it is shared.
func (g *Group) compare(r *specs.LinuxIntelRdt) error {
	data, err := os.ReadFile(filepath.Join(g.Dir, "schemata"))
	if err != nil {
		return err
	}
	have, err := parse(string(data))
	if err != nil {
		return fmt.Errorf("%s/schemata: %w", g.Dir, err)
	}
	for _, f := range []struct{ path, lines string }{
		{"linux.intelRdt.l3CacheSchema", r.L3CacheSchema},
		{"linux.intelRdt.memBwSchema", r.MemBwSchema},
	} {
		want, err := parse(f.lines)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		for share, value := range want {
			if now, ok := have[share]; !ok || now != value && now != g.rounded(share, value) {
				return fmt.Errorf("%s: %s exists with another schema: %s", f.path, g.Dir, strings.Join(strings.Fields(string(data)), " "))
			}
		}
	}
	return nil
}

// share is what a schema gives a value to: a resource, "L3", "MB", of a domain of processors, most often a cache.
type share struct{ resource, domain string }

// parse reads lines of "RESOURCE:DOMAIN=VALUE;DOMAIN=VALUE". A bandwidth (MB) is decimal, all else a mask in hex.
func parse(lines string) (map[share]uint64, error) {
	values := map[share]uint64{}
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		resource, list, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%q is no schema", line)
		}
		resource = strings.TrimSpace(resource)
		base := 16
		if resource == bandwidth {
			base = 10
		}
		for entry := range strings.SplitSeq(list, ";") {
			if entry = strings.TrimSpace(entry); entry == "" {
				continue
			}
			domain, text, _ := strings.Cut(entry, "=")
			value, err := strconv.ParseUint(strings.TrimSpace(text), base, 64)
			if err != nil {
				return nil, fmt.Errorf("%q in %q is no share", entry, line)
			}
			values[share{resource, strings.TrimSpace(domain)}] = value
		}
	}
	return values, nil
}

const bandwidth = "MB"

// rounded is the value that the kernel makes of a percentage of bandwidth: it comes in steps.
func (g *Group) rounded(s share, value uint64) uint64 {
	if s.resource != bandwidth {
		return value
	}
	step := number(filepath.Join(g.Root, "info/MB/bandwidth_gran"))
	if step == 0 {
		return value
	}
	return (value + step - 1) / step * step
}

// number is what a file holds, 0 where there is none.
func number(file string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}
