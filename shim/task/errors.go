package task

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sock-runtime/sock/libsock"
)

// containerd turns gRPC's codes into its own kinds of errors, and clients look for texts as well: those are runc's shim's.

func notFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format+": not found", args...)
}

func alreadyExists(format string, args ...any) error {
	return status.Errorf(codes.AlreadyExists, format+": already exists", args...)
}

func precondition(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, format+": failed precondition", args...)
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format+": invalid argument", args...)
}

func unimplemented(format string, args ...any) error {
	return status.Errorf(codes.Unimplemented, format+": not implemented", args...)
}

// coded gives an error of the runtime its code. What is a status already stays as it is.
func coded(err error, does string) error {
	if err == nil {
		return nil
	}
	var has interface{ GRPCStatus() *status.Status }
	if errors.As(err, &has) {
		return err
	}
	code, kind := codes.Unknown, ""
	switch {
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, libsock.ErrExists):
		code, kind = codes.AlreadyExists, ": already exists"
	case errors.Is(err, libsock.ErrNotExist):
		code, kind = codes.NotFound, ": not found"
	case errors.Is(err, libsock.ErrNotRunning):
		code, kind = codes.NotFound, ": not found"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		code = codes.ResourceExhausted
	}
	message := err.Error()
	if does != "" {
		message = does + ": " + message
	}
	return status.Error(code, message+kind)
}

// killError is what Kill answers; clients take NotFound for success.
func killError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, libsock.ErrNotRunning), errors.Is(err, unix.ESRCH), errors.Is(err, fs.ErrNotExist), errors.Is(err, libsock.ErrNotExist):
		return notFound("process already finished")
	case errors.Is(err, unix.EINVAL):
		return invalid("%v", err)
	}
	return coded(err, "kill")
}

// CheckID refuses what can't be a file name.
func CheckID(kind, id string) error {
	const longest = 200
	if id == "" || len(id) > longest || id == "." || id == ".." || strings.ContainsAny(id, "/\x00\n,") {
		return invalid("%s id %q", kind, fmt.Sprintf("%.64s", id))
	}
	return nil
}

// isNotFound is for errors that are statuses.
func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }
