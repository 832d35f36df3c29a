package main

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/spec"
)

var updateCommand = &cli.Command{
	Name:      "update",
	Usage:     "update a container's limits",
	ArgsUsage: "<container-id>",
	Description: `Changes the limits that are given and leaves the others. A file has the form of
linux.resources in config.json:

    {
      "memory": {"limit": 0, "reservation": 0, "swap": 0, "checkBeforeUpdate": true},
      "cpu": {"shares": 0, "quota": 0, "burst": 0, "period": 0, "realtimeRuntime": 0,
              "realtimePeriod": 0, "cpus": "", "mems": "", "idle": 0},
      "pids": {"limit": 0},
      "blockIO": {"weight": 0}
    }

What is left out stays as it is. If a file is given, the other flags are ignored.
An amount of memory is in bytes or has a unit of 1024: 512m, 1.5g.`,
	Flags: []cli.Flag{
		&cli.StringFlag{Name: "resources", Aliases: []string{"r"}, Usage: "read the limits from `FILE`, or from stdin for -"},
		&cli.IntFlag{Name: "blkio-weight", Usage: "`WEIGHT` for block devices, from 10 to 1000"},
		&cli.StringFlag{Name: "cpu-period", Usage: "CFS period in `MICROSECONDS`"},
		&cli.StringFlag{Name: "cpu-quota", Usage: "CPU time in a CFS period, in `MICROSECONDS`"},
		&cli.StringFlag{Name: "cpu-burst", Usage: "unused CPU time that may be saved up for later, in `MICROSECONDS`"},
		&cli.StringFlag{Name: "cpu-share", Usage: "`WEIGHT` for CPU time, relative to other containers"},
		&cli.StringFlag{Name: "cpu-rt-period", Usage: "real-time period in `MICROSECONDS`"},
		&cli.StringFlag{Name: "cpu-rt-runtime", Usage: "CPU time in a real-time period, in `MICROSECONDS`"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "`LIST` of CPUs to use"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "`LIST` of memory nodes to use"},
		&cli.StringFlag{Name: "kernel-memory", Usage: "ignored", Hidden: true},
		&cli.StringFlag{Name: "kernel-memory-tcp", Usage: "ignored", Hidden: true},
		&cli.StringFlag{Name: "memory", Usage: "limit of memory in `BYTES`, -1 for none"},
		&cli.StringFlag{Name: "cpu-idle", Usage: "1 to run only when the CPU is idle: `NUMBER` is 0 or 1"},
		&cli.StringFlag{Name: "memory-reservation", Usage: "soft limit of memory in `BYTES`"},
		&cli.StringFlag{Name: "memory-swap", Usage: "limit of memory and swap together in `BYTES`, -1 for none"},
		&cli.Int64Flag{Name: "pids-limit", Usage: "`NUMBER` of processes and threads, -1 for no limit"},
		&cli.StringFlag{Name: "l3-cache-schema", Usage: "Intel RDT `SCHEMA` for the L3 cache, such as L3:0=ff;1=c0"},
		&cli.StringFlag{Name: "mem-bw-schema", Usage: "Intel RDT `SCHEMA` for memory bandwidth, such as MB:0=20;1=70"},
	},
	Action: update,
}

func update(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, 1); err != nil {
		return err
	}
	c, err := loadContainer(ctx)
	if err != nil {
		return err
	}
	r, err := readResources(ctx)
	if err != nil {
		return err
	}
	if err := spec.ValidateResources(r); err != nil {
		return err
	}
	var schemata []string
	for _, flag := range []string{"l3-cache-schema", "mem-bw-schema"} {
		if schema := ctx.String(flag); schema != "" {
			schemata = append(schemata, schema)
		}
	}
	return c.Update(r, schemata...)
}

func readResources(ctx *cli.Context) (*specs.LinuxResources, error) {
	switch name := ctx.String("resources"); name {
	case "":
		return resourcesFromFlags(ctx)
	case "-":
		data, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, err
		}
		return spec.ParseResources(data, "stdin")
	default:
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return spec.ParseResources(data, name)
	}
}

// resourcesFromFlags has what the flags ask for and nothing else. As with runc, 0 for blkio-weight is none.
func resourcesFromFlags(ctx *cli.Context) (*specs.LinuxResources, error) {
	if ctx.IsSet("kernel-memory") || ctx.IsSet("kernel-memory-tcp") {
		slog.New(logs).Warn("Kernel memory settings are ignored and will be removed")
	}
	memory := &specs.LinuxMemory{}
	cpu := &specs.LinuxCPU{Cpus: ctx.String("cpuset-cpus"), Mems: ctx.String("cpuset-mems")}
	r := &specs.LinuxResources{Memory: memory, CPU: cpu}
	for _, err := range []error{
		parseFlag(ctx, "cpu-period", parseUint, &cpu.Period),
		parseFlag(ctx, "cpu-burst", parseUint, &cpu.Burst),
		parseFlag(ctx, "cpu-share", parseUint, &cpu.Shares),
		parseFlag(ctx, "cpu-rt-period", parseUint, &cpu.RealtimePeriod),
		parseFlag(ctx, "cpu-quota", parseInt, &cpu.Quota),
		parseFlag(ctx, "cpu-rt-runtime", parseInt, &cpu.RealtimeRuntime),
		parseFlag(ctx, "cpu-idle", parseInt, &cpu.Idle),
		parseFlag(ctx, "memory", parseBytes, &memory.Limit),
		parseFlag(ctx, "memory-reservation", parseBytes, &memory.Reservation),
		parseFlag(ctx, "memory-swap", parseBytes, &memory.Swap),
	} {
		if err != nil {
			return nil, err
		}
	}
	if weight := ctx.Int("blkio-weight"); weight != 0 {
		if weight < 0 || weight > math.MaxUint16 {
			return nil, fmt.Errorf("invalid value for blkio-weight: %d is not between 10 and 1000", weight)
		}
		r.BlockIO = &specs.LinuxBlockIO{Weight: new(uint16(weight))}
	}
	if limit := ctx.Int64("pids-limit"); ctx.IsSet("pids-limit") {
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return r, nil
}

// parseFlag points dest to the value of a flag, if it has one.
func parseFlag[T any](ctx *cli.Context, name string, parse func(string) (T, error), dest **T) error {
	text := ctx.String(name)
	if text == "" {
		return nil
	}
	value, err := parse(text)
	if err != nil {
		return fmt.Errorf("invalid value for %s: %w", name, err)
	}
	*dest = &value
	return nil
}

func parseUint(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }

func parseInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// parseBytes reads an amount of memory: a number, perhaps with a fraction and a space, and a unit of b, k, m, g, t or p,
// in either case, that means a power of 1024 and may be written as k, kb or kib. -1 means no limit.
func parseBytes(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, unit := s[:end], strings.ToLower(strings.TrimPrefix(s[end:], " "))
	shift, ok := unitShift(unit)
	if !ok {
		return 0, fmt.Errorf("invalid suffix: %q", unit)
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil && n<<shift>>shift == n && n<<shift <= math.MaxInt64 {
		return int64(n << shift), nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("invalid size: %q", s)
	}
	if f *= float64(uint64(1) << shift); f >= math.MaxInt64 {
		return 0, fmt.Errorf("size out of range: %q", s)
	}
	return int64(f), nil
}

// unitShift returns the power of two that a unit in small letters stands for.
func unitShift(unit string) (uint, bool) {
	if unit == "" || unit == "b" {
		return 0, true
	}
	power := strings.IndexByte("kmgtp", unit[0])
	switch unit[1:] {
	case "", "b", "ib":
		return 10 * uint(power+1), power >= 0
	default:
		return 0, false
	}
}
