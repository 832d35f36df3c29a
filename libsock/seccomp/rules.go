package seccomp

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// test is a comparison of BPF; the operators of the specification are tests and negated tests.
type test uint8

const (
	equal test = iota
	maskedEqual
	greater
	greaterEqual
)

// condition is one element of args: (argument & mask) test value, or the opposite.
type condition struct {
	arg         uint
	test        test
	negate      bool
	mask, value uint64
}

// always says whether nothing is left to compare of c on an ABI.
func (c *condition) always(b *abi) bool {
	return c.mask == 0 || !b.wide && uint32(c.mask) == 0
}

// rule is an action for the calls that meet all conditions, which are sorted by argument.
type rule struct {
	conditions []condition
	action     uint32
	call       *call
}

// verdict is what happens to a system call: an action, or the action of the first rule that matches and else the
// profile's default.
type verdict struct {
	action uint32
	rules  *ruleList
}

type ruleList struct {
	abi   *abi
	rules []*rule
}

// callVerdict is the verdict on one number.
type callVerdict struct {
	nr uint32
	verdict
}

// abiVerdicts are the numbers with another verdict than the profile's default, sorted.
type abiVerdicts struct {
	newest uint32 // larger numbers are newer than the profile and get ENOSYS; 0: none do
	calls  []callVerdict
}

const actionENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// numbered refers to one of profile.calls by the number that it has on an ABI, or that its multiplexer has. As an
// integer it sorts by number, then by place in the profile.
type numbered uint64

func newNumbered(nr uint32, call int, mux bool) numbered {
	n := numbered(nr)<<32 | numbered(call)<<1
	if mux {
		n |= 1
	}
	return n
}

func (n numbered) number() uint32 { return uint32(n >> 32) }
func (n numbered) call() int      { return int(uint32(n) >> 1) }
func (n numbered) mux() bool      { return n&1 != 0 }

// verdicts applies the profile's rules to an ABI.
func (pr *profile) verdicts(b *abi) (*abiVerdicts, error) {
	v := &abiVerdicts{}
	list := make([]numbered, 0, len(pr.calls)+len(pr.calls)/8)
	for i := range pr.calls {
		c := &pr.calls[i]
		nr, exists := b.number(c.name)
		mux := c.mux.number(b)
		if exists && mux == 0 && pr.enosys { // libseccomp knows a multiplexed call by a negative number only
			v.newest = max(v.newest, nr)
		}
		if c.action == pr.defaultAction {
			continue
		}
		if mux != 0 {
			list = append(list, newNumbered(mux, i, true))
		}
		if exists {
			list = append(list, newNumbered(nr, i, false))
		}
	}
	if b.setup && v.newest != 0 {
		v.calls = append(v.calls, callVerdict{0, verdict{action: actionENOSYS}})
	}
	slices.Sort(list)
	for len(list) > 0 {
		var set ruleSet
		nr := list[0].number()
		for ; len(list) > 0 && list[0].number() == nr; list = list[1:] {
			if err := set.addCall(b, &pr.calls[list[0].call()], list[0].mux()); err != nil {
				return nil, err
			}
		}
		v.calls = append(v.calls, callVerdict{nr, set.verdict(b)})
	}
	return v, nil
}

// ruleSet collects the rules for one number. The first rule without conditions wins over all others. Those with
// conditions are kept in the order in which libseccomp tries them, which matters where rules with different actions
// overlap: it compares the words of arguments as a tree, and in each level larger argument numbers, equalities before
// inequalities, and the narrower inequality come first.
type ruleSet struct {
	decided bool   // by a rule without conditions
	action  uint32 // of that rule
	level   []*node
	size    int
}

// node is the test of one word. The branches are what follows when the test holds, and when it does not.
type node struct {
	word
	branches [2]branch
}

// branch is a rule whose last word this was, or the words that come next.
type branch struct {
	rule  *rule
	level []*node
}

// word is a condition on the upper or lower half of an argument. An inequality tests the upper half for "greater", and
// the lower one only if the upper halves are equal.
type word struct {
	place       uint // 2*argument, plus one for the upper half
	test        test
	mask, value uint32
	priority    uint8 // of the condition's operator
	ascending   bool  // smaller values are narrower
	negate      bool
}

// words splits a rule's conditions for an ABI.
func (r *rule) words(b *abi) []word {
	words := make([]word, 0, 2*len(r.conditions))
	for _, c := range r.conditions {
		w := word{place: 2 * c.arg, test: c.test, mask: uint32(c.mask), value: uint32(c.value), negate: c.negate, priority: 3}
		if c.test == greater || c.test == greaterEqual {
			w.ascending = c.negate
			w.priority = 1
			if c.negate {
				w.priority = 2
			}
		}
		if b.wide {
			upper := w
			upper.place++
			upper.mask, upper.value, upper.negate = uint32(c.mask>>32), uint32(c.value>>32), false
			if c.test == greaterEqual {
				upper.test = greater
			}
			words = append(words, upper)
		}
		words = append(words, w)
	}
	return words
}

// same says whether both are the same test.
func (w *word) same(o *word) bool {
	return w.place == o.place && w.test == o.test && w.mask == o.mask && w.value == o.value
}

// after says whether w is tried after o.
func (w *word) after(o *word) bool {
	switch {
	case w.place != o.place:
		return w.place < o.place
	case w.priority != o.priority:
		return w.priority < o.priority
	case w.ascending:
		return w.value > o.value
	}
	return w.value < o.value
}

// addCall adds all that a call's entry of the profile says, for the call's own number or its multiplexer's.
func (s *ruleSet) addCall(b *abi, c *call, mux bool) error {
	if s.decided {
		return nil
	}
	for _, conditions := range c.alternatives {
		if mux {
			// The first argument tells the calls apart. libseccomp leaves the other conditions as they are, although
			// a multiplexer's second argument is a pointer.
			own := condition{test: equal, mask: math.MaxUint64, value: c.muxCall}
			if len(conditions) > 0 && conditions[0].arg == 0 {
				conditions = conditions[1:]
			}
			conditions = append([]condition{own}, conditions...)
		}
		if slices.ContainsFunc(conditions, func(c condition) bool { return c.always(b) }) {
			conditions = slices.DeleteFunc(slices.Clone(conditions), func(c condition) bool { return c.always(b) })
		}
		if len(conditions) == 0 {
			s.decided, s.action = true, c.action
			return nil
		}
		if err := s.add(b, &rule{conditions, c.action, c}); err != nil {
			return err
		}
	}
	return nil
}

// add adds a rule with conditions. Errors: it has the conditions of another one, or fewer, and another action.
func (s *ruleSet) add(b *abi, r *rule) error {
	words := r.words(b)
	level := &s.level
	for i := range words {
		w := &words[i]
		at := 0
		for at < len(*level) && !(*level)[at].same(w) && !(*level)[at].after(w) {
			at++
		}
		if at == len(*level) || !(*level)[at].same(w) {
			if s.size++; s.size > maxInstructions {
				return fmt.Errorf("linux.seccomp.syscalls[%d]: more conditions for %s than the kernel takes instructions", r.call.entry, syscallNames[r.call.name])
			}
			*level = slices.Insert(*level, at, &node{word: *w})
		}
		next := &(*level)[at].branches[0]
		if w.negate {
			next = &(*level)[at].branches[1]
		}
		switch {
		case i < len(words)-1 && next.rule != nil:
			return nil // a rule with fewer conditions was first
		case i < len(words)-1:
			level = &next.level
		default:
			for _, other := range appendRules(nil, next) {
				if other.action != r.action {
					return fmt.Errorf("linux.seccomp.syscalls[%d]: contradicts syscalls[%d] on %s (%s)",
						r.call.entry, other.call.entry, syscallNames[r.call.name], b.arch)
				}
			}
			*next = branch{rule: r}
		}
	}
	return nil
}

// appendRules appends what is in a branch, in the order of precedence.
func appendRules(list []*rule, br *branch) []*rule {
	if br.rule != nil {
		return append(list, br.rule)
	}
	for _, n := range br.level {
		list = appendRules(appendRules(list, &n.branches[0]), &n.branches[1])
	}
	return list
}

func (s *ruleSet) verdict(b *abi) verdict {
	if s.decided {
		return verdict{action: s.action}
	}
	return verdict{rules: &ruleList{b, appendRules(nil, &branch{level: s.level})}}
}
