package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Print writes the plan, one act a line, in the order of execution.
func (p *Plan) Print(w io.Writer) error {
	return p.rows(func(where string, n Note) error {
		text := fmt.Sprintf("%-6s %s", where, n.Does)
		if n.From != "" {
			text += "   # " + n.From
		}
		_, err := fmt.Fprintln(w, text)
		return err
	})
}

// Explain writes the plan as a table: what asks for the act, the act, and what one would type to do it by hand.
func (p *Plan) Explain(w io.Writer) error {
	const format = "%-6s %-28s %-58s %s\n"
	if _, err := fmt.Fprintf(w, format, "where", "asked for by", "sock does", "by hand"); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, format, "-----", strings.Repeat("-", 28), strings.Repeat("-", 58), strings.Repeat("-", 40)); err != nil {
		return err
	}
	err := p.rows(func(where string, n Note) error {
		from, hand := n.From, n.Hand
		if from == "" {
			from = "(always)"
		}
		if n.Fast != "" {
			hand = strings.TrimSpace(hand + " [" + n.Fast + "]")
		}
		_, err := fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf(strings.TrimSuffix(format, "\n"), where, from, n.Does, hand), " "))
		return err
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w, "\nfast paths"); err != nil {
		return err
	}
	for _, f := range p.Fast {
		taken := "taken"
		if !f.Taken {
			taken = "refused: " + f.Why
		}
		if _, err := fmt.Fprintf(w, "  %-16s %s\n", f.Name, taken); err != nil {
			return err
		}
	}
	return nil
}

// JSON writes the plan as one JSON object.
func (p *Plan) JSON(w io.Writer) error {
	type row struct {
		Note
		Calls     []string `json:"calls,omitempty"`
		Meanwhile []Note   `json:"meanwhile,omitempty"`
	}
	object := struct {
		Host      []Note     `json:"host"`
		Clone     string     `json:"clone"`
		After     []Note     `json:"afterClone,omitempty"`
		Maps      []Note     `json:"maps,omitempty"`
		Child     []row      `json:"child"`
		Undo      []Note     `json:"undo"`
		FastPaths []FastPath `json:"fastPaths"`
	}{Host: []Note{}, Clone: p.Clone.String(), Child: []row{}, Undo: []Note{}, FastPaths: p.Fast}
	for _, s := range p.Host {
		object.Host = append(object.Host, s.Note)
	}
	for _, s := range slices.Concat(p.After, p.Late) {
		object.After = append(object.After, s.Note)
	}
	if p.Maps != nil {
		object.Maps = p.Maps.notes()
	}
	for _, l := range p.Child {
		r := row{Note: l.Note}
		for _, in := range l.Ops {
			r.Calls = append(r.Calls, in.String())
		}
		for _, s := range l.Meanwhile {
			r.Meanwhile = append(r.Meanwhile, s.Note)
		}
		object.Child = append(object.Child, r)
	}
	for _, u := range p.Undo {
		object.Undo = append(object.Undo, u.Note)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(object)
}

func (p *Plan) rows(row func(where string, n Note) error) error {
	for _, s := range p.Host {
		if err := row("host", s.Note); err != nil {
			return err
		}
	}
	if err := row("clone", Note{Does: p.Clone.String(), Hand: p.Clone.hand()}); err != nil {
		return err
	}
	for _, s := range slices.Concat(p.After, p.Late) {
		if err := row("host", s.Note); err != nil {
			return err
		}
	}
	if p.Maps != nil {
		for _, n := range p.Maps.notes() {
			if err := row("host", n); err != nil {
				return err
			}
		}
	}
	for _, l := range p.Child {
		if err := row("child", l.Note); err != nil {
			return err
		}
		for _, s := range l.Meanwhile {
			if err := row("host", s.Note); err != nil {
				return err
			}
		}
	}
	for i := len(p.Undo) - 1; i >= 0; i-- {
		if err := row("undo", p.Undo[i].Note); err != nil {
			return err
		}
	}
	return nil
}

// notes tells of the id maps.
func (m *Maps) notes() []Note {
	var notes []Note
	for _, l := range []struct {
		from, ids, file, tool string
		list                  []specs.LinuxIDMapping
	}{{"linux.uidMappings", "user", "uid_map", "newuidmap", m.UIDs}, {"linux.gidMappings", "group", "gid_map", "newgidmap", m.GIDs}} {
		if len(l.list) == 0 {
			continue
		}
		if m.Joined {
			notes = append(notes, Note{From: l.from, Does: "compare the " + l.ids + " ids' map", Hand: "cat /proc/PID/" + l.file})
			continue
		}
		hand := l.tool + " PID"
		for _, r := range l.list {
			hand += fmt.Sprintf(" %d %d %d", r.ContainerID, r.HostID, r.Size)
		}
		notes = append(notes, Note{From: l.from, Does: "map " + l.ids + " ids", Hand: hand})
	}
	return notes
}

// String says what the clone makes.
func (c Clone) String() string {
	var kinds []string
	for _, n := range namespaceKinds {
		if c.Flags&n.flag != 0 {
			kinds = append(kinds, string(n.kind))
		}
	}
	text := "clone the child"
	if len(kinds) > 0 {
		text += " into new namespaces: " + strings.Join(kinds, ", ")
	}
	if c.PID != "" {
		text += ", born in a PID namespace that exists"
	}
	if c.IntoCgroup != "" {
		text += ", born in its cgroup"
	}
	return text
}

func (c Clone) hand() string {
	var options []string
	for _, n := range namespaceKinds {
		if c.Flags&n.flag != 0 {
			options = append(options, n.option)
		}
	}
	if c.IntoCgroup != "" {
		options = append(options, "(CLONE_INTO_CGROUP)")
	}
	if len(options) == 0 {
		return ""
	}
	return "unshare " + strings.Join(options, " ")
}

// Explains turns a failed instruction's errno into the text that its line has for it.
func (l Line) Explains(errno unix.Errno) string {
	if text, ok := l.Says[errno]; ok {
		return text
	}
	switch {
	case l.Act != "":
		return fmt.Sprintf("%s: %s", l.Act, errno)
	case l.From == "":
		return fmt.Sprintf("%s: %s", l.Does, errno)
	}
	return fmt.Sprintf("%s: %s: %s", l.From, l.Does, errno)
}
