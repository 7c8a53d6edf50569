// containerd's mount package as a peer of the benchmark.
//
//	apt-get install golang-go golang-github-containerd-containerd-dev
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o containerd containerd.go
//
// A line on stdin requests one work: `WORK COUNT ARGUMENT…`, separated by spaces. The answer is one line: the nanoseconds
// of COUNT runs, `error TEXT`, or `unknown` for a work that this package lacks. Reading the line, and the list of
// `list-all`, is not timed. Run it in a private mount namespace.
//
// Written for containerd 1.6, which Debian 12 packages. Features of later versions (UnmountRecursive, Mount.Target, user
// namespaces) are copied here in their behaviour, with a comment.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const what = "containerd: containerd's mount package, as a peer of the benchmark; " +
	"reads lines `WORK COUNT ARGUMENT…` from stdin"

// A step runs a work once.
type step func() error

type work struct {
	arguments   string
	least, most int
	prepare     func(arguments []string) (step, error) // not timed
}

const unlimited = int(^uint(0) >> 1)

var works = map[string]work{
	"bind":              {"SOURCE TARGET", 2, 2, bind("bind")},
	"bind-ro":           {"SOURCE TARGET", 2, 2, bind("bind", "ro")},
	"overlay":           {"TARGET LAYER…", 2, unlimited, overlay},
	"userns":            {"nothing", 0, 0, always(makeUserNamespace)},
	"tmpfs":             {"TARGET", 1, 1, tmpfs},
	"loop":              {"IMAGE", 1, 1, loop},
	"list":              {"nothing", 0, 0, always(list)},
	"lookup":            {"PATH", 1, 1, lookup},
	"mountpoint":        {"PATH", 1, 1, mountpoint},
	"unmount-recursive": {"TARGET", 1, 1, unmountRecursively},
	"list-all":          {"FILE TARGET", 2, 2, listAll},
}

func main() {
	// A traced child with a parent-death signal belongs to the thread that started it.
	runtime.LockOSThread()
	input := bufio.NewReader(os.Stdin)
	asked := false
	for len(os.Args) == 1 {
		line, err := input.ReadString('\n')
		if line == "" && err != nil {
			break
		}
		asked = true
		fmt.Println(answer(strings.Fields(line)))
	}
	if !asked {
		fmt.Println(what)
	}
}

func answer(words []string) string {
	if len(words) == 0 {
		return "unknown"
	}
	work, known := works[words[0]]
	if !known {
		return "unknown"
	}
	taken, err := timed(work, words[1:])
	if err != nil {
		return "error " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return strconv.FormatInt(taken.Nanoseconds(), 10)
}

func timed(w work, words []string) (time.Duration, error) {
	wanted := errors.New("wanted: a count, then " + w.arguments)
	if len(words) == 0 {
		return 0, wanted
	}
	count, err := strconv.Atoi(words[0])
	arguments := words[1:]
	if err != nil || count < 1 || len(arguments) < w.least || len(arguments) > w.most {
		return 0, wanted
	}
	once, err := w.prepare(arguments)
	if err != nil {
		return 0, err
	}
	start := time.Now() // CLOCK_MONOTONIC, which Since uses
	for i := 0; i < count; i++ {
		if err := once(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// always is for a work without arguments.
func always(once step) func([]string) (step, error) {
	return func([]string) (step, error) { return once, nil }
}

func bind(options ...string) func([]string) (step, error) {
	return func(arguments []string) (step, error) {
		return onAndOff(mount.Mount{Type: "bind", Source: arguments[0], Options: options}, arguments[1]), nil
	}
}

func overlay(arguments []string) (step, error) {
	layers := "lowerdir=" + strings.Join(arguments[1:], ":")
	return onAndOff(mount.Mount{Type: "overlay", Source: "overlay", Options: []string{layers}}, arguments[0]), nil
}

func tmpfs(arguments []string) (step, error) {
	return onAndOff(mount.Mount{Type: "tmpfs", Source: "tmpfs"}, arguments[0]), nil
}

// A failed Mount may have mounted: a read-only bind takes two calls.
func onAndOff(m mount.Mount, target string) step {
	return func() error {
		if err := mount.All([]mount.Mount{m}, target); err != nil {
			_ = mount.UnmountAll(target, unix.MNT_DETACH)
			return err
		}
		return mount.UnmountAll(target, 0)
	}
}

func loop(arguments []string) (step, error) {
	return func() error {
		device, err := mount.AttachLoopDevice(arguments[0])
		if err != nil {
			return err
		}
		return mount.DetachLoopDevice(device)
	}, nil
}

func list() error {
	_, err := mountinfo.GetMounts(nil)
	return err
}

func lookup(arguments []string) (step, error) {
	return func() error {
		_, err := mount.Lookup(arguments[0])
		return err
	}, nil
}

func mountpoint(arguments []string) (step, error) {
	return func() error {
		_, err := mountinfo.Mounted(arguments[0])
		return err
	}, nil
}

func unmountRecursively(arguments []string) (step, error) {
	return func() error { return unmountRecursive(arguments[0]) }, nil
}

// unmountRecursive replaces mount.UnmountRecursive of containerd 1.7: it reads the table once, unmounts the deepest
// mountpoint first, and fails only if the target itself stays mounted.
func unmountRecursive(target string) error {
	target, err := filepath.EvalSymlinks(target)
	if err != nil {
		return err
	}
	if target == "/" {
		return errors.New("will not unmount everything at /")
	}
	mountpoints, err := mountpointsWithin(target)
	if err != nil {
		return err
	}
	for i, mountpoint := range mountpoints {
		err := mount.UnmountAll(mountpoint, 0)
		if err != nil && i == len(mountpoints)-1 {
			return err
		}
	}
	return nil
}

// mountpointsWithin returns each mountpoint once: UnmountAll unmounts all mounts that are stacked on it.
func mountpointsWithin(target string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(target))
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(mounts))
	var mountpoints []string
	for _, m := range mounts {
		if !seen[m.Mountpoint] {
			seen[m.Mountpoint] = true
			mountpoints = append(mountpoints, m.Mountpoint)
		}
	}
	sort.Slice(mountpoints, func(i, j int) bool { return len(mountpoints[i]) > len(mountpoints[j]) })
	return mountpoints, nil
}

// A placed mount has the Target of mount.Mount since containerd 1.7.
type placed struct {
	mount.Mount
	path string
}

func listAll(arguments []string) (step, error) {
	target := arguments[1]
	mounts, err := readList(arguments[0], target)
	if err != nil {
		return nil, err
	}
	return func() error {
		for i := range mounts {
			if err := mounts[i].Mount.Mount(mounts[i].path); err != nil {
				rollBack(mounts[:i+1])
				return err
			}
		}
		return unmountRecursive(target)
	}, nil
}

// rollBack unmounts the mounts of a failed list; the mount that failed may be mounted too.
func rollBack(mounts []placed) {
	for i := len(mounts) - 1; i >= 0; i-- {
		_ = mount.Unmount(mounts[i].path, unix.MNT_DETACH)
	}
}

func readList(file, target string) ([]placed, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var mounts []placed
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" {
			continue
		}
		fields := append(strings.Split(line, "\t"), "")
		if len(fields) < 4 {
			return nil, fmt.Errorf("a line of the list needs tabs: %s", line)
		}
		m := mount.Mount{Type: fields[0], Source: fields[1], Options: optionsOf(fields[0], fields[3])}
		mounts = append(mounts, placed{m, filepath.Join(target, fields[2])})
	}
	return mounts, nil
}

// optionsOf adds "bind" for the type bind: containerd takes only the option for a bind.
func optionsOf(fsType, text string) []string {
	options := strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
	for _, option := range options {
		if option == "bind" || option == "rbind" {
			return options
		}
	}
	if fsType == "bind" {
		options = append(options, "bind")
	}
	return options
}

// makeUserNamespace has no counterpart in containerd 1.6. It does the same as containerd 2: os.StartProcess starts a
// traced child in a new user namespace, the child stops at its first instruction, and the namespace is opened through
// /proc. Go 1.19 has no SysProcAttr.PidFD, hence pidfd_open(2).
func makeUserNamespace() error {
	child, err := startStopped()
	if err != nil {
		return err
	}
	namespace, err := userNamespaceOf(child.Pid)
	if err == nil {
		err = namespace.Close()
	}
	if killed := child.Kill(); err == nil {
		err = killed
	}
	if _, waited := child.Wait(); err == nil {
		err = waited
	}
	return err
}

func startStopped() (*os.Process, error) {
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	return os.StartProcess("/proc/self/exe", []string{"user-namespace"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: maps,
			GidMappings: maps,
			Ptrace:      true,
			Pdeathsig:   syscall.SIGKILL,
		},
	})
}

// userNamespaceOf opens the namespace by pid, and then checks with signal 0 that the child still exists, so that the pid
// was not reused.
func userNamespaceOf(pid int) (*os.File, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(process)
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, err
	}
	if err := unix.PidfdSendSignal(process, 0, nil, 0); err != nil {
		namespace.Close()
		return nil, err
	}
	return namespace, nil
}
