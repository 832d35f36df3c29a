package plan

import (
	"fmt"
	"strings"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// Resctrl is where the container is in the host's resctrl file system.
type Resctrl struct {
	Dir     string // its class of service
	Monitor string // its monitoring group, "" for none
	Remove  string // what delete removes, "" for nothing
}

// tasks are the files by which a process joins.
func (r *Resctrl) tasks() []string {
	files := []string{r.Dir + "/tasks"}
	if r.Monitor != "" {
		files = append(files, r.Monitor+"/tasks")
	}
	return files
}

// ResctrlFile is the descriptor of the i-th tasks file.
func ResctrlFile(i int) string { return fmt.Sprint("resctrl.", i) }

// intelRdt makes the class of service and joins it, with all that the process is going to be.
func (b *builder) intelRdt() error {
	const from = "linux.intelRdt"
	r := b.facts.Resctrl
	switch {
	case b.spec.Linux.IntelRdt == nil:
		return nil
	case r == nil:
		return spec.Field(from, "no resctrl filesystem is mounted on this host")
	}
	dirs := strings.TrimSpace(r.Dir + " " + r.Monitor)
	b.step(Note{From: from, Does: "make the class of service " + r.Dir, Hand: "mkdir " + dirs + " && echo ... > " + r.Dir + "/schemata"}, MakeResctrl{})
	if r.Remove != "" {
		b.plan.Undo = append(b.plan.Undo, Undo{Note: Note{From: from, Does: "remove " + r.Remove, Hand: "rmdir " + r.Remove}})
	}
	b.joinResctrl(from)
	return nil
}

func (b *builder) joinResctrl(from string) {
	r := b.facts.Resctrl
	if r == nil {
		return
	}
	b.step(Note{From: from, Does: "open the class of service for the child"}, JoinResctrl{})
	for i, file := range r.tasks() {
		fd := stub.FD(ResctrlFile(i))
		b.line(Note{From: from, Does: "join " + strings.TrimSuffix(file, "/tasks"), Hand: "echo $$ > " + file}, writeText(fd, "0"), closeFD(fd))
	}
}
