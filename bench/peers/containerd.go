// containerd's mount package as a peer of the benchmark: version 2, from Debian's source package.
//
//	GO111MODULE=off GOPATH=DIRECTORY/usr/share/gocode go build -o containerd containerd.go
//
// A line on stdin requests one work: `WORK COUNT ARGUMENT…`, separated by spaces. The answer is one line: the nanoseconds
// of COUNT runs, `error TEXT`, or `unknown` for a work that this package lacks. Reading the line, and the list of
// `list-all`, is not timed. Run it in a private mount namespace.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
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

// The user namespace of every mapped work.
const idMap = "0:100000:65536"

var works = map[string]work{
	"bind":              {"SOURCE TARGET", 2, 2, bind("bind")},
	"bind-ro":           {"SOURCE TARGET", 2, 2, bind("bind", "ro")},
	"bind-idmap":        {"SOURCE TARGET", 2, 2, bind("bind", "uidmap="+idMap, "gidmap="+idMap)},
	"overlay":           {"TARGET LAYER…", 2, unlimited, overlay()},
	"overlay-rw":        {"TARGET UPPER WORK LAYER…", 4, unlimited, writableOverlay},
	"overlay-idmap":     {"TARGET COMMON LAYER…", 3, unlimited, mappedOverlay},
	"image":             {"TYPE IMAGE TARGET", 3, 3, image},
	"temp":              {"SOURCE", 1, 1, temporary},
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

func overlay(options ...string) func([]string) (step, error) {
	return func(arguments []string) (step, error) {
		layers := "lowerdir=" + strings.Join(arguments[1:], ":")
		all := append([]string{layers}, options...)
		return onAndOff(mount.Mount{Type: "overlay", Source: "overlay", Options: all}, arguments[0]), nil
	}
}

func writableOverlay(arguments []string) (step, error) {
	layers := append([]string{arguments[0]}, arguments[3:]...)
	return overlay("upperdir="+arguments[1], "workdir="+arguments[2])(layers)
}

func mappedOverlay(arguments []string) (step, error) {
	layers := []string{arguments[0]}
	for _, layer := range arguments[2:] {
		layers = append(layers, arguments[1]+"/"+layer)
	}
	return overlay("uidmap="+idMap, "gidmap="+idMap)(layers)
}

func image(arguments []string) (step, error) {
	m := mount.Mount{Type: arguments[0], Source: arguments[1], Options: []string{"loop", "ro"}}
	return onAndOff(m, arguments[2]), nil
}

func temporary(arguments []string) (step, error) {
	mounts := []mount.Mount{{Type: "bind", Source: arguments[0], Options: []string{"bind"}}}
	return func() error {
		return mount.WithTempMount(context.Background(), mounts, func(string) error { return nil })
	}, nil
}

func tmpfs(arguments []string) (step, error) {
	return onAndOff(mount.Mount{Type: "tmpfs", Source: "tmpfs"}, arguments[0]), nil
}

// A failed Mount may have mounted: a read-only bind takes two calls.
func onAndOff(m mount.Mount, target string) step {
	return func() error {
		m := m
		// An id-mapped overlay's options are changed in place: the second run would find the first one's temporary layers.
		m.Options = append([]string{}, m.Options...)
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
	return func() error { return mount.UnmountRecursive(arguments[0], 0) }, nil
}

func listAll(arguments []string) (step, error) {
	target := arguments[1]
	mounts, err := readList(arguments[0])
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := mount.All(mounts, target); err != nil {
			_ = mount.UnmountMounts(mounts, target, unix.MNT_DETACH)
			return err
		}
		return mount.UnmountRecursive(target, 0)
	}, nil
}

func readList(file string) ([]mount.Mount, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var mounts []mount.Mount
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" {
			continue
		}
		fields := append(strings.Split(line, "\t"), "")
		if len(fields) < 4 {
			return nil, fmt.Errorf("a line of the list needs tabs: %s", line)
		}
		options := optionsOf(fields[0], fields[3])
		mounts = append(mounts, mount.Mount{Type: fields[0], Source: fields[1], Target: fields[2], Options: options})
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

func makeUserNamespace() error {
	namespace, err := mount.GetUsernsFD(idMap, idMap)
	if err != nil {
		return err
	}
	return namespace.Close()
}
