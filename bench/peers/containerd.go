// containerd's own mount package as a peer of the benchmark: what Go programs use for the same works.
//
//	apt-get install golang-go golang-github-containerd-containerd-dev
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o containerd containerd.go
//
// A line on stdin is one work, `WORK COUNT ARGUMENT…`, parted by spaces. The answer is one line: the nanoseconds that
// doing it COUNT times took, or `error TEXT`, or `unknown` for a work that this package has no way to do. Reading the
// line, and the list of `list-all`, is not timed. Run it in a mount namespace of its own.
//
// Written for containerd 1.6, which Debian 12 packages. What later ones have and this one lacks — UnmountRecursive,
// Mount.Target, user namespaces — is done here in the way that they do it, and says so.
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

// A step does a work once.
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
	// A child that is traced, and dies with its parent, belongs to the thread that started it.
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
	start := time.Now() // CLOCK_MONOTONIC, which is what Since looks at
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

// A failed Mount may have mounted: a read-only bind is made in two calls.
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

// unmountRecursive stands for mount.UnmountRecursive, which came with containerd 1.7: the table is read once, the
// deepest mountpoint comes first, and only what stays on the target itself is a failure.
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

// mountpointsWithin names a mountpoint once, however many mounts are stacked there: UnmountAll takes all of them.
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

// A placed mount has the Target that mount.Mount has from containerd 1.7 on.
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
				takeOff(mounts[:i+1])
				return err
			}
		}
		return unmountRecursive(target)
	}, nil
}

// takeOff is for what a failed list leaves; the mount that failed may stand half made.
func takeOff(mounts []placed) {
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

// optionsOf says "bind" where only the type does: to containerd the option alone makes a mount a bind.
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

// makeUserNamespace has no counterpart in containerd 1.6. It does what containerd 2 does, by the same means: a child
// of os.StartProcess in a namespace of its own, which is traced and so stops at its first instruction, and whose
// namespace is opened through /proc. Go 1.19 has no SysProcAttr.PidFD, hence pidfd_open(2).
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

// userNamespaceOf opens the namespace and then asks by signal 0 whether the child is still there, so that what was
// opened by its pid is its own.
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
