package resctrl

import (
	"os"
	"path/filepath"
	"strings"
)

// Stats is what a class of service has and uses, in runc's form (types/events.go): sizes and counters are bytes.
type Stats struct {
	L3CacheInfo       *L3CacheInfo `json:"l3_cache_info,omitempty"`
	L3CacheSchemaRoot string       `json:"l3_cache_schema_root,omitempty"`
	L3CacheSchema     string       `json:"l3_cache_schema,omitempty"`
	MemBwInfo         *MemBwInfo   `json:"mem_bw_info,omitempty"`
	MemBwSchemaRoot   string       `json:"mem_bw_schema_root,omitempty"`
	MemBwSchema       string       `json:"mem_bw_schema,omitempty"`
	Schemata          []string     `json:"schemata,omitempty"`
	MBMStats          *[]MBMStats  `json:"mbm_stats,omitempty"`
	CMTStats          *[]CMTStats  `json:"cmt_stats,omitempty"`
}

// L3CacheInfo is what the processor can do with its L3 caches.
type L3CacheInfo struct {
	CbmMask    string `json:"cbm_mask,omitempty"`
	MinCbmBits uint64 `json:"min_cbm_bits,omitempty"`
	NumClosids uint64 `json:"num_closids,omitempty"`
}

// MemBwInfo is what the processor can do with memory bandwidth.
type MemBwInfo struct {
	BandwidthGran uint64 `json:"bandwidth_gran,omitempty"`
	DelayLinear   uint64 `json:"delay_linear,omitempty"`
	MinBandwidth  uint64 `json:"min_bandwidth,omitempty"`
	NumClosids    uint64 `json:"num_closids,omitempty"`
}

// MBMStats is the traffic with memory of one L3 cache's processors.
type MBMStats struct {
	MBMTotalBytes uint64 `json:"mbm_total_bytes"`
	MBMLocalBytes uint64 `json:"mbm_local_bytes"`
}

// CMTStats is the use of one L3 cache.
type CMTStats struct {
	LLCOccupancy uint64 `json:"llc_occupancy"`
}

// Stats reads what the processor has. Without a monitoring group the counters are those of the whole class of service.
func (g *Group) Stats() (*Stats, error) {
	s := &Stats{}
	root, err := schemata(g.Root)
	if err != nil {
		return nil, err
	}
	own, err := schemata(g.Dir)
	if err != nil {
		return nil, err
	}
	s.Schemata = own
	if info := filepath.Join(g.Root, "info/L3"); exists(info) {
		mask, err := os.ReadFile(filepath.Join(info, "cbm_mask"))
		if err != nil {
			return nil, err
		}
		s.L3CacheInfo = &L3CacheInfo{
			CbmMask: strings.TrimSpace(string(mask)), MinCbmBits: number(info + "/min_cbm_bits"), NumClosids: number(info + "/num_closids"),
		}
		s.L3CacheSchemaRoot, s.L3CacheSchema = lineOf(root, "L3:"), lineOf(own, "L3:")
	}
	if info := filepath.Join(g.Root, "info/MB"); exists(info) {
		s.MemBwInfo = &MemBwInfo{
			BandwidthGran: number(info + "/bandwidth_gran"), DelayLinear: number(info + "/delay_linear"),
			MinBandwidth: number(info + "/min_bandwidth"), NumClosids: number(info + "/num_closids"),
		}
		s.MemBwSchemaRoot, s.MemBwSchema = lineOf(root, "MB:"), lineOf(own, "MB:")
	}
	return s, g.count(s)
}

// count reads the counters of each L3 cache.
func (g *Group) count(s *Stats) error {
	features, err := os.ReadFile(filepath.Join(g.Root, "info/L3_MON/mon_features"))
	if err != nil {
		return nil // the processor has none
	}
	dir := g.Monitor
	if dir == "" {
		dir = g.Dir
	}
	caches, err := filepath.Glob(filepath.Join(dir, "mon_data/*"))
	if err != nil {
		return err
	}
	if has := string(features); strings.Contains(has, "llc_occupancy") {
		list := []CMTStats{}
		for _, cache := range caches {
			list = append(list, CMTStats{number(cache + "/llc_occupancy")})
		}
		s.CMTStats = &list
	}
	if has := string(features); strings.Contains(has, "mbm_") {
		list := []MBMStats{}
		for _, cache := range caches {
			list = append(list, MBMStats{number(cache + "/mbm_total_bytes"), number(cache + "/mbm_local_bytes")})
		}
		s.MBMStats = &list
	}
	return nil
}

// schemata are the lines of a group's schemata.
func schemata(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "schemata"))
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines, nil
}

func lineOf(lines []string, resource string) string {
	for _, line := range lines {
		if strings.HasPrefix(line, resource) {
			return line
		}
	}
	return ""
}
