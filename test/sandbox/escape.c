/*
 * A hostile command: each attempt to get out of a box, one line of output for each: its name, and "refused" with the errno
 * or "DONE".
 *
 *   escape HOST WRITABLE PORT PID KEY
 *   escape --host KEY COMMAND…
 *
 * The second form is for the host: it runs a command that has a key, shared memory, an abstract socket and open descriptors.
 *
 * HOST is a read-only directory with mounts, WRITABLE one that can be written and has protected paths; PORT is a TCP port and
 * PID a process of the host; KEY a number that names the abstract socket and the shared memory of this test.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void report(const char *name, long result) {
  int error = errno;
  if (result < 0) printf("%s: refused %s\n", name, strerrorname_np(error));
  else printf("%s: DONE\n", name);
  fflush(stdout);
}
#define TRY(name, call) do { errno = 0; long r_ = (long)(call); report(name, r_); } while (0)

static char buffer[4096];
static const char *at(const char *format, ...) {
  static char paths[8][4096];
  static int next;
  char *path = paths[next++ % 8];
  va_list list;
  va_start(list, format);
  vsnprintf(path, 4096, format, list);
  va_end(list);
  return path;
}

static long overwrite(const char *path) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return -1;
  long result = write(fd, "escaped", 7);
  close(fd);
  return result;
}

static long create(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (fd >= 0) close(fd);
  return fd;
}

/* A read-only descriptor, opened again for writing by /proc. */
static long reopen(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  return overwrite(at("/proc/self/fd/%d", fd));
}

static long map_shared(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  return mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0;
}

struct attr { unsigned long long set, clear, propagation, userns; };
static long make_writable(const char *path) {
  struct attr attr = { .clear = 1 /* MOUNT_ATTR_RDONLY */ };
  return syscall(442 /* mount_setattr */, AT_FDCWD, path, 0x8000 /* AT_RECURSIVE */, &attr, sizeof attr);
}

/* As root of a user namespace of its own, which a process may make. */
static void in_user_namespace(const char *name, long (*attempt)(const char *), const char *path) {
  fflush(stdout);
  int child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) { report(name, -1); _exit(0); }
    errno = 0;
    report(name, attempt(path));
    _exit(0);
  }
  waitpid(child, NULL, 0);
}
static long remount(const char *path) { return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND, NULL); }
static long unmount(const char *path) { return umount2(path, MNT_DETACH); }
static long remount_and_write(const char *path) { remount("/"); make_writable("/"); return create(path); }
static long bind_without_submounts(const char *path) { return mount(path, "/tmp", NULL, MS_BIND, NULL); }

static long join(const char *path, int kind) {
  int fd = open(path, O_RDONLY);
  return fd < 0 ? -1 : setns(fd, kind);
}

static long as_root(void) { return geteuid() == 0 && getuid() != 0 ? 0 : setuid(0) < 0 ? -1 : 0; }

static long raise_capability(void) {
  unsigned header[2] = { 0x20080522, 0 }, data[6] = { 1u << 21, 1u << 21, 1u << 21, 0, 0, 0 }; /* CAP_SYS_ADMIN */
  return syscall(SYS_capset, header, data);
}

static long descriptors(void) {
  for (int fd = 3; fd < 1024; fd++) if (fcntl(fd, F_GETFD) >= 0) return 0;
  errno = EBADF;
  return -1;
}

static long connect_to(int port) {
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  return fd < 0 ? -1 : connect(fd, (void *)&address, sizeof address);
}

static long connect_abstract(const char *name) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  strcpy(address.sun_path + 1, name);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  return connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

/* openat(2) by io_uring, which no filter of system calls sees. */
static long uring_create(const char *path) {
  struct io_uring_params params = { 0 };
  int ring = syscall(SYS_io_uring_setup, 1, &params);
  if (ring < 0) return -1;
  size_t size = params.sq_off.array + params.sq_entries * 4, completed = params.cq_off.cqes + params.cq_entries * 16;
  if (completed > size) size = completed;
  char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
  struct io_uring_sqe *entry = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
  if (map == MAP_FAILED || entry == MAP_FAILED) return -1;
  *entry = (struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)path,
    .len = 0600, .open_flags = O_CREAT | O_WRONLY };
  *(unsigned *)(map + params.sq_off.array) = 0;
  __atomic_store_n((unsigned *)(map + params.sq_off.tail), 1, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
  int result = ((struct io_uring_cqe *)(map + params.cq_off.cqes))->res;
  errno = -result;
  return result < 0 ? -1 : 0;
}

static long read_memory(pid_t pid) {
  struct iovec own = { buffer, 8 }, other = { (void *)0x400000, 8 };
  return process_vm_readv(pid, &own, 1, &other, 1, 0);
}

static long take_descriptor(pid_t pid) {
  int pidfd = syscall(SYS_pidfd_open, pid, 0);
  return pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0);
}

static int on_host(int key, char **command) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const char *name = at("denomount-%d", key);
  memcpy(address.sun_path + 1, name, strlen(name));
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), memory = shmget(key, 4096, IPC_CREAT | 0600);
  if (bind(listener, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)) < 0) return 100;
  if (listen(listener, 1) < 0 || memory < 0 || open("/", O_RDONLY) < 0) return 101;
  if (syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0) < 0) return 102;
  if (syscall(SYS_add_key, "user", "denomount-test", "x", 1, -3 /* KEY_SPEC_SESSION_KEYRING */) < 0) return 103;
  int child = fork(), status = 0;
  if (child == 0) { execvp(command[0], command); _exit(104); }
  waitpid(child, &status, 0);
  shmctl(memory, IPC_RMID, NULL);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 105;
}

int main(int count, char **args) {
  if (count > 3 && strcmp(args[1], "--host") == 0) return on_host(atoi(args[2]), args + 3);
  if (count == 1) { /* executed with a set-user-ID bit */
    printf("set-user-ID: %s\n", geteuid() == getuid() ? "refused EPERM" : "DONE");
    return 0;
  }
  const char *host = args[1], *mine = args[2];
  int port = atoi(args[3]), pid = atoi(args[4]), key = atoi(args[5]);

  TRY("find an open descriptor", descriptors()); /* before this program opens some */
  TRY("make a file in /", create("/escaped"));
  TRY("make a file in /etc", create("/etc/escaped"));
  TRY("make a file on the host's /dev/shm", create("/dev/escaped"));
  TRY("write a file of the host", overwrite(at("%s/file", host)));
  TRY("write a file on a tmpfs below", overwrite(at("%s/tmpfs/file", host)));
  TRY("write a file on a ramfs below", overwrite(at("%s/ramfs/file", host)));
  TRY("write a file on a bind below", overwrite(at("%s/bind/file", host)));
  TRY("write a bound file", overwrite(at("%s/bound", host)));
  TRY("write a file on an overlay below", overwrite(at("%s/overlay/file", host)));
  TRY("write a file in a read-only path of a writable one", overwrite(at("%s/protected/file", mine)));
  TRY("write a read-only file of a writable path", overwrite(at("%s/config", mine)));
  TRY("write a hidden file", overwrite(at("%s/secret", mine)));
  TRY("write by a second way to the file", reopen(at("%s/config", mine)));
  TRY("map a file of the host", map_shared(at("%s/file", host)));
  TRY("truncate a file of the host", truncate(at("%s/file", host), 0));
  TRY("change the mode of a file of the host", chmod(at("%s/file", host), 0777));
  TRY("change the owner of a file of the host", chown(at("%s/file", host), 1, 1));
  TRY("change the times of a file of the host", utimensat(AT_FDCWD, at("%s/file", host), NULL, 0));
  TRY("set an attribute of a file of the host", setxattr(at("%s/file", host), "user.x", "x", 1, 0));
  TRY("remove a file of the host", unlink(at("%s/file", host)));
  TRY("link a protected file", link(at("%s/config", mine), at("%s/link", mine)));
  TRY("rename a directory above a protected path", rename(at("%s/deep/er", mine), at("%s/deep/other", mine)));
  TRY("rename the directory above that", rename(at("%s/deep", mine), at("%s/other", mine)));
  TRY("exchange a directory above a protected path",
    syscall(SYS_renameat2, AT_FDCWD, at("%s/deep", mine), AT_FDCWD, at("%s/free", mine), 2 /* RENAME_EXCHANGE */));
  TRY("replace a protected file", rename(at("%s/free/file", mine), at("%s/config", mine)));
  TRY("remove a protected directory", rmdir(at("%s/held", mine)));
  TRY("make a file in a path that did not exist", create(at("%s/held/file", mine)));
  TRY("replace a path that did not exist", rename(at("%s/free", mine), at("%s/held", mine)));

  TRY("remount / writable", remount("/"));
  TRY("remount a mount below writable", remount(at("%s/tmpfs", host)));
  TRY("make / writable by mount_setattr", make_writable("/"));
  TRY("unmount what protects", unmount(at("%s/protected", mine)));
  TRY("unmount /proc/sys", unmount("/proc/sys"));
  TRY("mount a tmpfs", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
  TRY("mount a proc", mount("proc", "/tmp", "proc", 0, NULL));
  TRY("clone a mount", syscall(428 /* open_tree */, AT_FDCWD, "/", 1));
  TRY("open a file system", syscall(430 /* fsopen */, "tmpfs", 0));
  TRY("change the root directory", chroot("/tmp"));
  TRY("pivot the root directory", syscall(SYS_pivot_root, "/tmp", "/tmp"));
  TRY("make a mount namespace", unshare(CLONE_NEWNS));
  in_user_namespace("remount / in a user namespace", remount, "/");
  in_user_namespace("make / writable in a user namespace", make_writable, "/");
  in_user_namespace("unmount what protects in a user namespace", unmount, at("%s/protected", mine));
  in_user_namespace("unmount what hides in a user namespace", unmount, at("%s/secret", mine));
  in_user_namespace("unmount /proc/sys in a user namespace", unmount, "/proc/sys");
  in_user_namespace("write in / in a user namespace", remount_and_write, "/escaped");
  in_user_namespace("bind / without what is mounted in it in a user namespace", bind_without_submounts, "/");

  TRY("write by /proc/1/root", create("/proc/1/root/escaped"));
  TRY("open the root of the first process", open("/proc/1/root/etc", O_PATH));
  TRY("open a descriptor of the first process", open("/proc/1/fd/0", O_RDONLY));
  TRY("read the memory of the first process", open("/proc/1/mem", O_RDONLY));
  TRY("read the environment of the first process", open("/proc/1/environ", O_RDONLY) < 0 ? -1 : read(open("/proc/1/environ", O_RDONLY), buffer, 10) > 0 ? 0 : -1);
  TRY("trace the first process", ptrace(PTRACE_ATTACH, 1, 0, 0));
  TRY("read the first process by process_vm_readv", read_memory(1));
  TRY("take a descriptor of the first process", take_descriptor(1));
  TRY("join a namespace of the first process", join("/proc/1/ns/mnt", CLONE_NEWNS));
  TRY("trace a process of the host", ptrace(PTRACE_ATTACH, pid, 0, 0));
  TRY("signal a process of the host", kill(pid, SIGTERM));
  TRY("go through a proc of the host", open(at("%s/proc/%d/root/etc", host, pid), O_PATH));
  TRY("go through a proc of the host to its first process", open(at("%s/proc/1/root/etc", host), O_PATH));

  TRY("write /proc/sys/kernel/core_pattern", overwrite("/proc/sys/kernel/core_pattern"));
  TRY("write /proc/sys/vm/swappiness", overwrite("/proc/sys/vm/swappiness"));
  TRY("write /proc/sysrq-trigger", overwrite("/proc/sysrq-trigger"));
  TRY("write /sys", overwrite("/sys/power/state"));
  TRY("make a cgroup", mkdir("/sys/fs/cgroup/escaped", 0700));
  TRY("make a block device", mknod("/tmp/disk", S_IFBLK | 0600, (7 << 8)));
  TRY("open a block device of the host", open(at("%s/disk", host), O_RDONLY));
  TRY("open a character device of the host", open(at("%s/null", host), O_RDONLY));
  TRY("open /dev/mem", open("/dev/mem", O_RDWR));
  TRY("open /dev/fuse", open("/dev/fuse", O_RDWR));

  TRY("become root", geteuid() == 0 ? (errno = EPERM, -1) : as_root());
  TRY("become another user", setuid(1));
  TRY("raise a capability", raise_capability());
  TRY("raise an ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
  TRY("take no_new_privs back", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
  TRY("push a character into a terminal", ioctl(0, TIOCSTI, "x"));
  TRY("open the controlling terminal", open("/dev/tty", O_RDWR));
  TRY("take a terminal as the controlling one", ioctl(0, TIOCSCTTY, 1));
  TRY("make a file by io_uring", uring_create("/escaped"));
  TRY("make a file of the host by io_uring", uring_create(at("%s/escaped", host)));
  TRY("find a key of the session", syscall(SYS_keyctl, 10 /* KEYCTL_SEARCH */, -3, "user", "denomount-test", 0));
  TRY("connect to the host", connect_to(port));
  TRY("connect to an abstract socket of the host", connect_abstract(at("denomount-%d", key)));
  TRY("attach shared memory of the host", shmget(key, 0, 0));
  TRY("change the hostname", sethostname("escaped", 7));
  TRY("load a module", syscall(SYS_init_module, "", 0, ""));
  TRY("load a kernel", syscall(SYS_kexec_load, 0, 0, NULL, 0));
  TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL)); /* RB_DISABLE_CAD */
  TRY("swap", swapon("/tmp/file", 0));
  TRY("set the time", settimeofday(&(struct timeval){ 1, 1 }, NULL));
  TRY("read the kernel's log", syscall(SYS_syslog, 3, buffer, sizeof buffer));
  TRY("open by handle", syscall(SYS_open_by_handle_at, AT_FDCWD, &(struct { unsigned a; int b; char c[8]; }){ 8, 1, "" }, 0));
  TRY("watch all files", syscall(SYS_fanotify_init, 0x0c /* FAN_CLASS_CONTENT */, 0));
  TRY("load a program for the kernel", syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, buffer, 120));
  fflush(stdout);
  if (fork() == 0) { execl(at("%s/set-user-id", host), "set-user-id", NULL); report("set-user-ID", -1); _exit(0); }
  wait(NULL);
  kill(1, SIGKILL);
  printf("end\n");
  return 0;
}
