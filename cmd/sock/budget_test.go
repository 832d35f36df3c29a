package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// initBudget is the time in milliseconds that the initialisation of all packages may take. A quiet machine needs 0.17, a
// busy one 0.3; a third of it is urfave/cli and what its help brings along (regexp, text/template, net/netip).
const initBudget = 0.5

type initCost struct {
	pkg string
	ms  float64
}

func TestInitBudget(t *testing.T) {
	least, costs := math.Inf(1), []initCost(nil)
	for range 10 { // the machine may be busy
		if sum, c := initCosts(t, sock(t)); sum < least {
			least, costs = sum, c
		}
	}
	t.Logf("all packages: %.3f ms", least)
	if least <= initBudget {
		return
	}
	slices.SortFunc(costs, func(a, b initCost) int { return cmp.Compare(b.ms, a.ms) })
	message := ""
	for _, c := range costs[:min(8, len(costs))] {
		message += fmt.Sprintf("\n%6.3f ms  %s", c.ms, c.pkg)
	}
	t.Errorf("initialising packages takes %.3f ms, the budget is %.3f; the dearest are%s", least, initBudget, message)
}

// initCosts runs `sock --version` and reads how long each package took to be initialised, in lines like
// "init time @0.60 ms, 0.005 ms clock, 256 bytes, 2 allocs".
func initCosts(t *testing.T, bin string) (float64, []initCost) {
	cmd := exec.Command(bin, "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	sum, costs := 0.0, []initCost(nil)
	for line := range strings.Lines(stderr.String()) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != "init" || fields[6] != "clock," {
			t.Fatalf("not a line of inittrace: %q", line)
		}
		// internal/godebug is busy with the variable that we have just set.
		if fields[1] == "runtime" || fields[1] == "internal/godebug" {
			continue
		}
		ms, err := strconv.ParseFloat(fields[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += ms
		costs = append(costs, initCost{fields[1], ms})
	}
	if len(costs) == 0 {
		t.Fatal("inittrace printed nothing")
	}
	return sum, costs
}

// heavy are packages that cost time at start or have no place in a container runtime; a slash at the end is for all below.
var heavy = []string{
	"net", "net/http", "crypto/tls", "crypto/x509", "encoding/gob", "html/template", "runtime/cgo", "plugin", "testing",
	"github.com/cpuguy83/go-md2man/", "github.com/russross/blackfriday/", "github.com/xrash/smetrics",
	"github.com/sirupsen/logrus", "github.com/opencontainers/cgroups", "github.com/godbus/", "github.com/coreos/",
	"google.golang.org/",
}

func TestNothingHeavyIsLinked(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-tags", buildTags, "-f", `{{.ImportPath}} {{join .Imports " "}}`, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	importers := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			importers[imported] = append(importers[imported], fields[0])
		}
	}
	if len(importers["fmt"]) == 0 {
		t.Fatalf("go list printed %q", out)
	}
	for pkg, by := range importers {
		// What only heavy packages import is not the news.
		by = slices.DeleteFunc(by, isHeavy)
		if isHeavy(pkg) && len(by) > 0 {
			t.Errorf("%s is linked in by %s", pkg, strings.Join(by, ", "))
		}
	}
}

func isHeavy(pkg string) bool {
	return slices.ContainsFunc(heavy, func(h string) bool {
		return pkg == h || strings.HasSuffix(h, "/") && strings.HasPrefix(pkg, h)
	})
}
