package main

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// Report is all that one call measured.
type Report struct {
	Host     Host      `json:"host"`
	Runtimes []Version `json:"runtimes"`
	Rounds   int       `json:"rounds"`
	Results  []Result  `json:"results"`
	Memory   *Memory   `json:"memory,omitempty"`
}

// add takes a result, and prints it.
func (r *Report) add(result Result, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", result.Workload, err)
	}
	result.Print(os.Stdout)
	r.Results = append(r.Results, result)
	return nil
}

// Result is one workload under all runtimes.
type Result struct {
	Workload    string  `json:"workload"`
	What        string  `json:"what"`
	Concurrency int     `json:"concurrency"`
	Times       []Times `json:"times"` // entry i of all lists is from the same round
}

// Times are one runtime's.
type Times struct {
	Runtime      string    `json:"runtime"`
	Milliseconds []float64 `json:"milliseconds"`
	Median       float64   `json:"median"`
	P95          float64   `json:"p95"`
	Rate         float64   `json:"rate"` // a second
	// Ratio is the median, over the rounds, of sock's time by this runtime's in the same round.
	Ratio float64 `json:"ratio"`

	rounds []float64 // milliseconds of each round, by how much was done in it at once
}

// Memory is what the processes that serve containers take, without the containers' own.
type Memory struct {
	Containers int          `json:"containers"`
	Shims      []ShimMemory `json:"shims"`
}

// ShimMemory is one contestant's.
type ShimMemory struct {
	Runtime   string  `json:"runtime"`
	MiB       float64 `json:"mib"` // proportional set size, for each container
	Processes int     `json:"processes"`
}

func newResult(w workload, runtimes []*Runtime) Result {
	result := Result{Workload: w.name, What: w.what, Concurrency: 1}
	for _, r := range runtimes {
		result.Times = append(result.Times, Times{Runtime: r.Name})
	}
	return result
}

func (r *Result) summarise() {
	for i := range r.Times {
		t := &r.Times[i]
		if t.rounds == nil {
			t.rounds = t.Milliseconds
		}
		ratios := make([]float64, len(t.rounds))
		for j, ms := range t.rounds {
			ratios[j] = r.Times[0].rounds[j] / ms
		}
		t.Median, t.P95, t.Ratio = quantile(t.Milliseconds, 0.5), quantile(t.Milliseconds, 0.95), quantile(ratios, 0.5)
		t.Rate = 1000 / quantile(t.rounds, 0.5)
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
	fmt.Fprintf(w, "milliseconds; %d rounds of commands, with fork and wait, each runtime once in every round\n", r.Rounds)
}

// Print writes one table.
func (r *Result) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s", r.Workload, r.What)
	if r.Concurrency > 1 {
		fmt.Fprintf(w, ", %d at once", r.Concurrency)
	}
	fmt.Fprintf(w, "\n  %-9s %9s %9s %9s %16s\n", "", "median", "p95", "a second", "sock takes")
	for _, t := range r.Times {
		fmt.Fprintf(w, "  %-9s %9.2f %9.2f %9.1f", t.Runtime, t.Median, t.P95, t.Rate)
		if t.Runtime != "sock" {
			fmt.Fprintf(w, "   %.2f of its time", t.Ratio)
		}
		fmt.Fprintln(w)
	}
}

// Print writes the table.
func (m *Memory) Print(w io.Writer) {
	fmt.Fprintf(w, "\nmemory: PSS of the shim's processes, with %d running containers\n", m.Containers)
	fmt.Fprintf(w, "  %-9s %9s %16s\n", "", "processes", "MiB a container")
	for _, s := range m.Shims {
		fmt.Fprintf(w, "  %-9s %9d %16.2f\n", s.Runtime, s.Processes, s.MiB)
	}
}
