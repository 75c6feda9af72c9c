// Package cnierr gives every failure of the plugin its CNI error code.
//
// Codes 1 to 99 are the specification's (CNI spec 1.1.0, section "Error"); codes from 100 on are this plugin's own
// and are documented in docs/errors.md. A message is a sentence an operator can act on: it names the key and the
// value that are wrong and what would be right.
package cnierr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// The specification's codes this plugin uses.
const (
	IncompatibleVersion = types.ErrIncompatibleCNIVersion      // 1: a cniVersion the plugin does not speak
	UnsupportedField    = types.ErrUnsupportedField            // 2: an unknown key, or a value no key may have
	UnknownContainer    = types.ErrUnknownContainer            // 3: the container's network namespace is not there
	InvalidEnvironment  = types.ErrInvalidEnvironmentVariables // 4: a CNI_* variable
	IOFailure           = types.ErrIOFailure                   // 5
	DecodingFailure     = types.ErrDecodingFailure             // 6: not JSON, or JSON of another type
	InvalidConfig       = types.ErrInvalidNetworkConfig        // 7: keys that contradict each other
	InvalidNetNS        = types.ErrInvalidNetNS                // 8: not a network namespace, or the host's own
	TryAgain            = types.ErrTryAgainLater               // 11: others were in the way, and need not be the next time
	NotAvailable        = types.ErrPluginNotAvailable          // 50: STATUS: an ADD would fail
	// LimitedConnectivity is 51: STATUS: an ADD would fail and what is attached may be cut off.
	LimitedConnectivity = types.ErrLimitedConnectivity
)

// The plugin's own codes.
const (
	KernelRefused    uint = 100 // the kernel refused an operation; the message names the object and the errno
	AttachmentExists uint = 101 // this (network, container, interface) is attached already
	InterfaceExists  uint = 102 // CNI_IFNAME is taken inside the container
	AddressTaken     uint = 103 // a requested address is leased, excluded, or outside the ranges
	PoolExhausted    uint = 104 // a range set has no free address left
	StateDiffers     uint = 105 // CHECK: the kernel does not show what the configuration asks for
	FeatureMissing   uint = 106 // this kernel lacks a feature that the configuration needs
	Conflict         uint = 107 // an object of that name exists and is not what the configuration asks for
	DelegateFailed   uint = 108 // an IPAM plugin could not be run or gave no usable answer
	CleanupFailed    uint = 109 // GC or DEL removed what it could; the message lists what is left
)

// New returns a CNI error with a code and a formatted message.
func New(code uint, format string, args ...any) error {
	return &types.Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Wrap gives err a code and a sentence before it. The message keeps err's text and errors.Is still finds err's causes.
// An err that carries a code already keeps that code: the failure closest to its cause knows best what it is. Of several
// that were joined, the first counts.
func Wrap(code uint, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &wrapped{code: codeOf(err, code), msg: fmt.Sprintf(format, args...), err: err}
}

// Key reports a configuration key whose value cannot be used; want says what would be right, as a noun phrase.
func Key(code uint, key string, value any, want string) error {
	return New(code, "%s: %v is not valid: want %s", key, quote(value), want)
}

// Of turns any error into the CNI error to print. An error without a code becomes fallback.
func Of(err error, fallback uint) *types.Error {
	if err == nil {
		return nil
	}
	out := &types.Error{Code: codeOf(err, fallback), Msg: err.Error()}
	if bare, ok := err.(*types.Error); ok { //nolint:errorlint // only a bare error would print its details twice
		out.Msg, out.Details = bare.Msg, bare.Details
	}
	out.Msg = strings.ReplaceAll(out.Msg, "\n", "; ") // errors.Join breaks lines
	return out
}

// codeOf is the code that err carries. 0 is none: the library makes it up for a plugin that died without a word.
func codeOf(err error, fallback uint) uint {
	var coded *types.Error
	if errors.As(err, &coded) && coded.Code != types.ErrUnknown {
		return coded.Code
	}
	return fallback
}

type wrapped struct {
	code uint
	msg  string
	err  error
}

func (w *wrapped) Error() string { return w.msg + ": " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }

// As shows the code to errors.As, which finds the first of joined errors.
func (w *wrapped) As(target any) bool {
	t, ok := target.(**types.Error)
	if ok {
		*t = &types.Error{Code: w.code, Msg: w.Error()}
	}
	return ok
}

func quote(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}
