package scope

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is what execvp(3) searches when there is no PATH.
const defaultPath = "/bin:/usr/bin"

// lookPath finds the program as a shell would: a name with a slash is taken as it is (relative to the working directory of
// the analysis), another one is searched in the PATH of its environment. The error is an *ExecError.
func lookPath(s Spec) (string, error) {
	name := s.Args[0]
	if strings.Contains(name, "/") {
		return name, executable(absolute(s.Dir, name), name)
	}
	var denied error
	for _, dir := range filepath.SplitList(searchPath(s.Env)) {
		if dir == "" {
			dir = "."
		}
		path := filepath.Join(dir, name)
		if !filepath.IsAbs(path) {
			path = "./" + path
		}
		err := executable(absolute(s.Dir, path), name)
		if err == nil {
			return path, nil
		}
		if e, ok := err.(*ExecError); ok && e.Code() == 126 && denied == nil { //nolint:errorlint // made two lines up
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", &ExecError{Path: name, Err: syscall.ENOENT}
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) || dir == "" {
		return path
	}
	return filepath.Join(dir, path)
}

func executable(path, name string) error {
	st, err := os.Stat(path)
	if err != nil {
		if os.IsPermission(err) {
			return &ExecError{Path: name, Err: syscall.EACCES}
		}
		return &ExecError{Path: name, Err: syscall.ENOENT}
	}
	if st.IsDir() {
		return &ExecError{Path: name, Err: syscall.EISDIR}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return &ExecError{Path: name, Err: err}
	}
	return nil
}

func searchPath(env []string) string {
	if env == nil {
		env = os.Environ()
	}
	for i := len(env) - 1; i >= 0; i-- { // the last one wins, as in os/exec
		if v, ok := strings.CutPrefix(env[i], "PATH="); ok {
			return v
		}
	}
	return defaultPath
}
