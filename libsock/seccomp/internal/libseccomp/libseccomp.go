//go:build libseccomp

// Package libseccomp builds filters with the C library of that name, for the differential test of package seccomp.
// It needs cgo and libseccomp-dev, and is compiled with -tags libseccomp only.
package libseccomp

/*
#cgo LDFLAGS: -lseccomp
#include <stdlib.h>
#include <errno.h>
#include <seccomp.h>
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filter is a filter of libseccomp under construction.
type Filter struct {
	ctx       C.scmp_filter_ctx
	bigEndian bool
}

// Arg is a condition on an argument; Op is an SCMP_CMP_* number.
type Arg struct {
	Index  uint
	Op     uint
	Value  uint64
	Second uint64
}

// New starts a filter with a default action (SECCOMP_RET_*) and one architecture, which need not be the machine's.
func New(action uint32, native string, bigEndian bool) (*Filter, error) {
	f := &Filter{ctx: C.seccomp_init(C.uint32_t(action)), bigEndian: bigEndian}
	if f.ctx == nil {
		return nil, fmt.Errorf("seccomp_init: %#x", action)
	}
	token, err := arch(native)
	if err != nil {
		return nil, err
	}
	if token != C.seccomp_arch_native() {
		C.seccomp_arch_remove(f.ctx, C.seccomp_arch_native())
		if err := f.AddArch(native); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Close frees the filter.
func (f *Filter) Close() { C.seccomp_release(f.ctx) }

// arch finds libseccomp's token of an architecture by its name, for example "x86_64".
func arch(name string) (C.uint32_t, error) {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	token := C.seccomp_arch_resolve_name(s)
	if token == 0 {
		return 0, fmt.Errorf("libseccomp does not know %s", name)
	}
	return token, nil
}

// AddArch adds an architecture; it may be there already.
func (f *Filter) AddArch(name string) error {
	token, err := arch(name)
	if err != nil {
		return err
	}
	if rc := C.seccomp_arch_add(f.ctx, token); rc != 0 && rc != -C.EEXIST {
		return fmt.Errorf("seccomp_arch_add(%s): %w", name, unix.Errno(-rc))
	}
	return nil
}

// Tree asks for a binary tree over numbers.
func (f *Filter) Tree() { C.seccomp_attr_set(f.ctx, C.SCMP_FLTATR_CTL_OPTIMIZE, 2) }

// Number resolves a name on an architecture: negative for one that only others have, known is false for none at all.
func Number(archName, name string) (nr int, known bool, err error) {
	token, err := arch(archName)
	if err != nil {
		return 0, false, err
	}
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	nr = int(C.seccomp_syscall_resolve_name_arch(token, s))
	return nr, nr != C.__NR_SCMP_ERROR, nil
}

// Unique says whether the machine's number for a name stands for this name alone. libseccomp hands names to other
// architectures by that number, and some that the machine lacks share a negative one.
func Unique(name string) bool {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	nr := C.seccomp_syscall_resolve_name(s)
	back := C.seccomp_syscall_resolve_num_arch(C.seccomp_arch_native(), nr)
	defer C.free(unsafe.Pointer(back))
	return back != nil && C.GoString(back) == name
}

// Rule adds a rule. Like libseccomp it takes a name by its number on the machine.
func (f *Filter) Rule(action uint32, name string, args []Arg) error {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	nr := C.seccomp_syscall_resolve_name(s)
	if nr == C.__NR_SCMP_ERROR {
		return nil
	}
	list := make([]C.struct_scmp_arg_cmp, max(1, len(args)))
	for i, a := range args {
		list[i] = C.struct_scmp_arg_cmp{
			arg: C.uint(a.Index), op: uint32(a.Op), datum_a: C.scmp_datum_t(a.Value), datum_b: C.scmp_datum_t(a.Second),
		}
	}
	if rc := C.seccomp_rule_add_array(f.ctx, C.uint32_t(action), nr, C.uint(len(args)), &list[0]); rc != 0 {
		return fmt.Errorf("seccomp_rule_add(%s): %w", name, unix.Errno(-rc))
	}
	return nil
}

// Export gives the program.
func (f *Filter) Export() ([]unix.SockFilter, error) {
	file, err := os.CreateTemp("", "libseccomp")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	if rc := C.seccomp_export_bpf(f.ctx, C.int(file.Fd())); rc != 0 {
		return nil, fmt.Errorf("seccomp_export_bpf: %w", unix.Errno(-rc))
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if f.bigEndian {
		order = binary.BigEndian
	}
	filter := make([]unix.SockFilter, len(raw)/8)
	for i := range filter {
		b := raw[8*i:]
		filter[i] = unix.SockFilter{Code: order.Uint16(b), Jt: b[2], Jf: b[3], K: order.Uint32(b[4:])}
	}
	return filter, nil
}
