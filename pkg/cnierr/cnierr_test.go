package cnierr

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestOf(t *testing.T) {
	foreign := &types.Error{Code: 11, Msg: "busy", Details: "try in 5 s"} // what a delegate printed
	nameless := &types.Error{Msg: "netplugin failed"}                     // what the library makes of one that crashed
	plain := errors.New("EPERM")
	tests := []struct {
		name string
		err  error
		want types.Error
	}{
		{"no code", plain, types.Error{Code: 999, Msg: "EPERM"}},
		{"New", New(Conflict, "%s is a %s", "cni0", "dummy"), types.Error{Code: 107, Msg: "cni0 is a dummy"}},
		{"Wrap", Wrap(IOFailure, plain, "read %s", "x"), types.Error{Code: 5, Msg: "read x: EPERM"}},
		{"details of a bare error", foreign, *foreign},
		{
			"details of a wrapped error are in its message",
			Wrap(DelegateFailed, foreign, "ADD"),
			types.Error{Code: 11, Msg: "ADD: busy; try in 5 s"},
		},
		{
			"the code closest to the cause",
			Wrap(CleanupFailed, Wrap(KernelRefused, plain, "delete"), "DEL"),
			types.Error{Code: 100, Msg: "DEL: delete: EPERM"},
		},
		{
			"a code behind fmt.Errorf",
			Wrap(CleanupFailed, fmt.Errorf("x: %w", New(Conflict, "y")), "GC"),
			types.Error{Code: 107, Msg: "GC: x: y"},
		},
		{"code 0 is none", nameless, types.Error{Code: 999, Msg: "netplugin failed"}},
		{
			"code 0 is none when wrapped",
			Wrap(DelegateFailed, nameless, "ADD"),
			types.Error{Code: 108, Msg: "ADD: netplugin failed"},
		},
		{
			"the first of joined errors, wrapped before bare",
			errors.Join(Wrap(KernelRefused, plain, "add"), New(CleanupFailed, "left")),
			types.Error{Code: 100, Msg: "add: EPERM; left"},
		},
		{
			"the first of joined errors, bare before wrapped",
			errors.Join(New(AddressTaken, "taken"), Wrap(CleanupFailed, plain, "undo")),
			types.Error{Code: 103, Msg: "taken; undo: EPERM"},
		},
		{
			"a joined error without a code",
			errors.Join(plain, New(Conflict, "other")),
			types.Error{Code: 107, Msg: "EPERM; other"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Of(tt.err, types.ErrInternal); *got != tt.want {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

func TestNil(t *testing.T) {
	if err := Wrap(IOFailure, nil, "read"); err != nil {
		t.Errorf("Wrap makes %v of nil", err)
	}
	if err := Of(nil, IOFailure); err != nil {
		t.Errorf("Of makes %v of nil", err)
	}
}

func TestWrapKeepsCauses(t *testing.T) {
	err := Wrap(CleanupFailed, Wrap(IOFailure, fs.ErrNotExist, "read"), "DEL")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("errors.Is does not find the cause of %v", err)
	}
	var w *fs.PathError
	if errors.As(err, &w) {
		t.Errorf("errors.As finds a PathError in %v", err)
	}
}

// An operator reads these: text in quotes, so that an empty or blank value is seen, and numbers without.
func TestKey(t *testing.T) {
	tests := []struct {
		value any
		want  string
	}{
		{"a b", `mtu: "a b" is not valid: want bytes`},
		{"", `mtu: "" is not valid: want bytes`},
		{-1, `mtu: -1 is not valid: want bytes`},
	}
	for _, tt := range tests {
		err := Of(Key(InvalidConfig, "mtu", tt.value, "bytes"), 0)
		if err.Code != types.ErrInvalidNetworkConfig || err.Msg != tt.want {
			t.Errorf("got %d %s, want %s", err.Code, err.Msg, tt.want)
		}
	}
}
