// Command vethctl is the operator's side of the plugin veth. It converts configurations of the reference plugins.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/veth-cni/veth/pkg/convert"
)

// version is set by the linker.
var version = "development"

const usage = `vethctl convert [FILE]   rewrite a configuration list of the reference plugins for veth alone
vethctl version          say which vethctl this is
vethctl help             say this

convert reads FILE, a .conflist or .conf, or standard input where FILE is "-" or absent. It prints the new list to
standard output, and to standard error what is different now ("note") and what veth cannot do ("lost").
Exit status: 0 everything was carried over, 1 there is no new list, 2 there is one and something was lost.
`

// Exit statuses.
const (
	complete = iota
	failed
	incomplete
)

// streams are a process's.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() { os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})) }

func run(args []string, s streams) int {
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(s.out, "vethctl", version)
	case len(args) == 1 && (args[0] == "help" || args[0] == "-h" || args[0] == "--help"):
		fmt.Fprint(s.out, usage)
	case len(args) == 1 && args[0] == "convert":
		return s.convert("-")
	case len(args) == 2 && args[0] == "convert":
		return s.convert(args[1])
	default:
		fmt.Fprint(s.err, misuse(args), usage)
		return failed
	}
	return complete
}

// misuse says what is wrong with arguments that run does not know.
func misuse(args []string) string {
	switch {
	case len(args) == 0:
		return ""
	case args[0] == "convert":
		return fmt.Sprintf("vethctl convert: %d files: want one FILE\n\n", len(args)-1)
	case args[0] == "version" || args[0] == "help":
		return fmt.Sprintf("vethctl %s: %q: want no argument\n\n", args[0], args[1])
	}
	return fmt.Sprintf("vethctl: unknown command %q: want one of these\n\n", args[0])
}

func (s streams) convert(file string) int {
	input, err := s.read(file)
	if err != nil {
		return s.fail(err)
	}
	result, err := convert.Convert(input)
	if err != nil {
		return s.fail(err)
	}
	for _, remark := range result.Remarks {
		fmt.Fprintln(s.err, remark)
	}
	if _, err := s.out.Write(result.List); err != nil {
		return s.fail(fmt.Errorf("write the new list: %w", err))
	}
	if !result.Complete() {
		return incomplete
	}
	return complete
}

func (s streams) read(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(s.in)
	}
	return os.ReadFile(file)
}

func (s streams) fail(err error) int {
	fmt.Fprintln(s.err, "vethctl convert:", err)
	return failed
}
