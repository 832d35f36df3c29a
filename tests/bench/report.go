package main

import (
	"fmt"
	"io"
	"slices"
)

// Report is all that one call measured.
type Report struct {
	Host     Host      `json:"host"`
	Runtimes []Version `json:"runtimes"`
	Rounds   int       `json:"rounds"`
	Results  []Result  `json:"results"`
}

// Result is one workload under all runtimes.
type Result struct {
	Workload string  `json:"workload"`
	What     string  `json:"what"`
	Times    []Times `json:"times"` // in the order of Report.Runtimes; entry i of all lists is from the same round
}

// Times are one runtime's.
type Times struct {
	Runtime      string    `json:"runtime"`
	Milliseconds []float64 `json:"milliseconds"`
	Median       float64   `json:"median"`
	P95          float64   `json:"p95"`
	// Ratio is the median, over the rounds, of sock's time by this runtime's in the same round.
	Ratio float64 `json:"ratio"`
}

func newResult(w workload, runtimes []*Runtime) Result {
	result := Result{Workload: w.name, What: w.what}
	for _, r := range runtimes {
		result.Times = append(result.Times, Times{Runtime: r.Name})
	}
	return result
}

func (r *Result) summarise() {
	sock := r.Times[0].Milliseconds
	for i := range r.Times {
		t := &r.Times[i]
		ratios := make([]float64, len(sock))
		for j, ms := range t.Milliseconds {
			ratios[j] = sock[j] / ms
		}
		t.Median, t.P95, t.Ratio = quantile(t.Milliseconds, 0.5), quantile(t.Milliseconds, 0.95), quantile(ratios, 0.5)
	}
}

// quantile is the smallest value that at least the share q of all values do not exceed.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(q * float64(len(sorted)))
	if float64(rank) < q*float64(len(sorted)) {
		rank++
	}
	return sorted[max(rank, 1)-1]
}

// Print writes what the report is about, before there are results.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d CPUs, Linux %s, cgroups %s, %d mounts\n", r.Host.CPU, r.Host.CPUs, r.Host.Kernel, r.Host.Cgroup, r.Host.Mounts)
	for _, v := range r.Runtimes {
		fmt.Fprintf(w, "%-5s %s (%s)\n", v.Name, v.Version, v.Path)
	}
	fmt.Fprintf(w, "%d rounds, each runtime once in every round; milliseconds, with fork and wait of the command\n", r.Rounds)
}

// Print writes one table.
func (r *Result) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", r.Workload, r.What)
	fmt.Fprintf(w, "  %-6s %9s %9s %16s\n", "", "median", "p95", "sock takes")
	for _, t := range r.Times {
		fmt.Fprintf(w, "  %-6s %9.2f %9.2f", t.Runtime, t.Median, t.P95)
		if t.Runtime != "sock" {
			fmt.Fprintf(w, "   %.2f of its time", t.Ratio)
		}
		fmt.Fprintln(w)
	}
}
