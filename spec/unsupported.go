package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// Unsupported returns an error for each thing that s asks for and sock can't do, in a fixed order. No field may be
// ignored, so creating such a container must fail.
func Unsupported(s *specs.Spec) []*FieldError {
	var found []*FieldError
	refuse := func(asked bool, path, why string) {
		if asked {
			found = append(found, Field(path, "%s", why))
		}
	}

	const otherOS = "not supported on Linux"
	refuse(s.Windows != nil, "windows", otherOS)
	refuse(s.Solaris != nil, "solaris", otherOS)
	refuse(s.ZOS != nil, "zos", otherOS)
	refuse(s.FreeBSD != nil, "freebsd", otherOS)

	refuse(s.VM != nil, "vm", "not supported: sock makes no virtual machines")
	const notYet = "not supported yet"
	for _, key := range []string{AnnotationNet, AnnotationScratch} {
		_, asked := s.Annotations[key]
		refuse(asked, member("annotations", key), notYet)
	}
	return found
}
