package coldjson

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// coldVariable holds what BenchmarkCold wants a new process to do: an act and a file.
const coldVariable = "COLDJSON_BENCHMARK"

func TestMain(m *testing.M) {
	if act, file, ok := strings.Cut(os.Getenv(coldVariable), " "); ok {
		fmt.Println(cold(act, file).Nanoseconds())
		return
	}
	m.Run()
}

// stateFile is made as sock's state.json.
type stateFile struct {
	ID          string            `json:"id"`
	Created     time.Time         `json:"created"`
	Pid         int               `json:"pid,omitempty"`
	Process     *specs.Process    `json:"process,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Mounts      []specs.Mount     `json:"mounts,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// cold does act for the first time in this process and returns the time that it took.
func cold(act, file string) time.Duration {
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	var config *specs.Spec
	var state stateFile
	if strings.HasPrefix(act, "write") {
		read := json.Unmarshal // the one that is not measured
		if act == "write-encoding/json" {
			read = Unmarshal
		}
		if err := read(data, &config); err != nil {
			panic(err)
		}
		// Writing a local time would read /etc/localtime, for longer than all else.
		state = stateFile{"c1", time.Now().UTC(), 1, config.Process, config.Hooks, config.Mounts, config.Annotations}
	}
	start := time.Now()
	switch act {
	case "read":
		err = Unmarshal(data, &config)
	case "read-encoding/json":
		err = json.Unmarshal(data, &config)
	case "write":
		_, err = Append(nil, &state)
	case "write-encoding/json":
		_, err = json.Marshal(&state)
	}
	took := time.Since(start)
	if err != nil {
		panic(err)
	}
	return took
}

// BenchmarkCold measures the first use in a new process, which is the only one in sock: the median of as many processes
// as there are iterations, 50 or more for a number that says something:
//
//	go test ./spec/coldjson -run '^$' -bench Cold -benchtime 50x
func BenchmarkCold(b *testing.B) {
	for _, file := range []string{"ctr-default.json", "docker29-seed.json", "docker29-priv.json"} {
		path := filepath.Join("../testdata/engines", file)
		for _, act := range []string{"read", "read-encoding/json", "write", "write-encoding/json"} {
			b.Run(file+"/"+act, func(b *testing.B) {
				var took []float64
				for range b.N {
					cmd := exec.Command("/proc/self/exe")
					cmd.Env = append(os.Environ(), coldVariable+"="+act+" "+path)
					out, err := cmd.Output()
					if err != nil {
						b.Fatal(err)
					}
					ns, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
					if err != nil {
						b.Fatal(err)
					}
					took = append(took, ns/1e3)
				}
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2], "median-µs")
				b.ReportMetric(0, "ns/op") // Most of it is the start of the process.
			})
		}
	}
}
