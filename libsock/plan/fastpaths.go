package plan

// Names of the fast paths. Each stands for one substitution.
const (
	FastIntoCgroup = "into-cgroup" // the child joins its cgroup itself, or is born in it; the parent never moves a pid
	FastDetached   = "detached-mounts"
)

// decideFastPaths records which substitutions the plan makes. Those of profile lean need a gate of their own and are
// refused by name until they have one.
func (b *builder) decideFastPaths() {
	into := FastPath{Name: FastIntoCgroup, Taken: true}
	switch {
	case b.facts.Cgroup.None:
		into = FastPath{Name: FastIntoCgroup, Why: "the container has no cgroup"}
	case b.facts.Cgroup.Unit != "":
		into = FastPath{Name: FastIntoCgroup, Why: "systemd moves the first process"}
	}
	detached := FastPath{Name: FastDetached, Taken: true}
	if b.facts.NoMounts {
		detached = FastPath{Name: FastDetached, Why: "only the child may mount"}
	}
	b.plan.Fast = append(b.plan.Fast, into, detached)
}
