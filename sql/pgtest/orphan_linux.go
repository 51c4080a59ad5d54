package pgtest

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the server end also with a test binary that is killed or that panics.
func endWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
}
