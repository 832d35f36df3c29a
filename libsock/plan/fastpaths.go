package plan

// Names of the fast paths. Each stands for one substitution.
const (
	FastIntoCgroup = "into-cgroup" // the child joins its cgroup itself, or is born in it; the parent never moves a pid
	FastDetached   = "detached-mounts"
)

// decideFastPaths records which substitutions the plan makes. Those of profile lean need a gate of their own and are
// refused by name until they have one.
func (b *builder) decideFastPaths() {
	b.plan.Fast = append(b.plan.Fast, FastPath{Name: FastIntoCgroup, Taken: !b.facts.Cgroup.None, Why: why(b.facts.Cgroup.None, "the container has no cgroup")})
	b.plan.Fast = append(b.plan.Fast, FastPath{Name: FastDetached, Taken: true})
}

func why(refused bool, reason string) string {
	if refused {
		return reason
	}
	return ""
}
