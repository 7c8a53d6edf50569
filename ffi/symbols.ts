/**
 * The table of the C library's functions that are bound.
 *
 * Each parameter has its C declaration in a comment. A system call that the oldest glibc which Deno runs on does not
 * have goes through syscall(2). From 424 up, every architecture has the same call numbers. The number and the result are
 * `long` in C and `i32` here: these calls return a descriptor or a count, and a BigInt for each would cost as much as the
 * call into C.
 *
 * @module
 */

const symbols = {
  __errno_location: { parameters: [], result: "pointer" /* int * */ },
  strerror: { parameters: ["i32" /* int errnum */], result: "pointer" /* char * */ },

  open: {
    parameters: ["pointer", /* const char *path */ "i32", /* int flags */ "u32" /* mode_t mode */],
    result: "i32",
  },
  openat: {
    parameters: ["i32", /* int dirfd */ "pointer", /* const char *path */ "i32", /* int flags */ "u32"],
    result: "i32",
  },
  close: { parameters: ["i32" /* int fd */], result: "i32" },
  close_nonblocking: { name: "close", parameters: ["i32"], result: "i32", nonblocking: true },
  close_range: {
    name: "syscall",
    parameters: ["i32", "u32", /* unsigned int first */ "u32", /* unsigned int last */ "u32" /* flags */],
    result: "i32",
  },
  read: {
    parameters: ["i32", /* int fd */ "buffer", /* void *buf */ "usize" /* size_t count */],
    result: "isize",
  },
  read_nonblocking: {
    name: "read",
    parameters: ["i32", "buffer", "usize"],
    result: "isize",
    nonblocking: true,
  },
  getdents64: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int fd */
      "buffer", /* struct linux_dirent64 *dirp */
      "u32", /* unsigned int count */
    ],
    result: "i32",
  },
  lseek: {
    parameters: ["i32", /* int fd */ "i64", /* off_t offset */ "i32" /* int whence */],
    result: "i64",
  },
  ioctl: {
    parameters: ["i32", /* int fd */ "u64", /* unsigned long op */ "u64" /* unsigned long argument */],
    result: "i32",
  },
  ioctl_buffer: {
    name: "ioctl",
    parameters: ["i32", /* int fd */ "u64", /* unsigned long op */ "buffer" /* void *argument */],
    result: "i32",
  },
  ioctl_nonblocking: {
    name: "ioctl",
    parameters: ["i32", "u64", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  geteuid: { parameters: [], result: "u32" /* uid_t */ },
  getegid: { parameters: [], result: "u32" /* gid_t */ },
  setresuid: {
    parameters: ["u32", /* uid_t ruid */ "u32", /* uid_t euid */ "u32" /* uid_t suid */],
    result: "i32",
  },
  setresgid: {
    parameters: ["u32", /* gid_t rgid */ "u32", /* gid_t egid */ "u32" /* gid_t sgid */],
    result: "i32",
  },
  prctl: {
    parameters: [
      "i32", // int op
      "u64", // unsigned long arg2
      "u64", // unsigned long arg3
      "u64", // unsigned long arg4
      "u64", // unsigned long arg5
    ],
    result: "i32",
  },
  capset: {
    parameters: ["buffer", /* cap_user_header_t hdrp */ "buffer" /* const cap_user_data_t datap */],
    result: "i32",
  },
  keyctl: {
    name: "syscall",
    parameters: ["i32", "i32", /* int operation */ "u64" /* unsigned long arg2 */],
    result: "i32",
  },
  sethostname: { parameters: ["buffer", /* const char *name */ "usize" /* size_t len */], result: "i32" },
  pivot_root: {
    name: "syscall",
    parameters: ["i32", "buffer", /* const char *new_root */ "buffer" /* const char *put_old */],
    result: "i32",
  },
  memfd_create: {
    parameters: ["buffer", /* const char *name */ "u32" /* unsigned int flags */],
    result: "i32",
  },
  fcntl: { parameters: ["i32", /* int fd */ "i32", /* int op */ "i64" /* long arg */], result: "i32" },
  fcntl_buffer: {
    name: "fcntl",
    parameters: ["i32", /* int fd */ "i32", /* int op */ "buffer" /* struct flock *lock */],
    result: "i32",
  },
  dup2: { parameters: ["i32", /* int oldfd */ "i32" /* int newfd */], result: "i32" },
  flock: { parameters: ["i32", /* int fd */ "i32" /* int op */], result: "i32" },
  readlink: {
    parameters: ["pointer", /* const char *path */ "buffer", /* char *buf */ "usize" /* size_t bufsiz */],
    result: "isize",
  },
  name_to_handle_at: {
    parameters: [
      "i32", /* int dirfd */
      "pointer", /* const char *path */
      "pointer", /* struct file_handle *handle */
      "pointer", /* int *mount_id */
      "i32", /* int flags */
    ],
    result: "i32",
  },
  realpath: {
    parameters: ["pointer", /* const char *path */ "buffer" /* char *resolved, PATH_MAX bytes */],
    result: "pointer",
  },
  realpath_nonblocking: {
    name: "realpath",
    parameters: ["buffer", "buffer"],
    result: "pointer",
    nonblocking: true,
  },
  fchownat: {
    parameters: [
      "i32", // int dirfd
      "pointer", // const char *path
      "u32", // uid_t owner
      "u32", // gid_t group
      "i32", // int flags
    ],
    result: "i32",
  },
  chmod: { parameters: ["pointer", /* const char *path */ "u32" /* mode_t mode */], result: "i32" },
  mkdir: { parameters: ["pointer", /* const char *path */ "u32" /* mode_t mode */], result: "i32" },
  mkdtemp: { parameters: ["buffer" /* char *template */], result: "pointer" },
  unlink: { parameters: ["pointer" /* const char *path */], result: "i32" },
  unlinkat: {
    parameters: ["i32", /* int dirfd */ "pointer", /* const char *path */ "i32" /* int flags */],
    result: "i32",
  },
  link: {
    parameters: ["buffer", /* const char *oldpath */ "buffer" /* const char *newpath */],
    result: "i32",
  },
  symlink: {
    parameters: ["buffer", /* const char *target */ "buffer" /* const char *linkpath */],
    result: "i32",
  },
  ftruncate: { parameters: ["i32", /* int fd */ "i64" /* off_t length */], result: "i32" },
  rmdir: { parameters: ["pointer" /* const char *path */], result: "i32" },
  statx: {
    parameters: [
      "i32", /* int dirfd */
      "pointer", /* const char *path */
      "i32", /* int flags */
      "u32", /* unsigned int mask */
      "pointer", /* struct statx *statxbuf */
    ],
    result: "i32",
  },
  statx_nonblocking: {
    name: "statx",
    parameters: ["i32", "buffer", "i32", "u32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  statfs: {
    parameters: ["pointer", /* const char *path */ "pointer" /* struct statfs *buf */],
    result: "i32",
  },
  statfs_nonblocking: { name: "statfs", parameters: ["buffer", "buffer"], result: "i32", nonblocking: true },
  chdir: { parameters: ["buffer" /* const char *path */], result: "i32" },
  unshare: { parameters: ["i32" /* int flags */], result: "i32" },
  gettid: { parameters: [], result: "i32" },
  setns: { parameters: ["i32", /* int fd */ "i32" /* int nstype */], result: "i32" },

  dlsym: {
    parameters: ["pointer", /* void *handle */ "buffer" /* const char *symbol */],
    result: "pointer",
  },
  clone: {
    parameters: [
      "pointer", /* int (*fn)(void *) */
      "pointer", /* void *stack, its upper end */
      "i32", /* int flags */
      "pointer", /* void *arg */
      "buffer", /* pid_t *parent_tid, where CLONE_PIDFD puts the pidfd */
      "pointer", /* void *tls */
      "pointer", /* pid_t *child_tid */
    ],
    result: "i32",
  },
  waitid: {
    parameters: [
      "i32", /* idtype_t */
      "i32", /* id_t */
      "buffer", /* siginfo_t *infop */
      "i32", /* int options */
    ],
    result: "i32",
  },
  posix_spawn: {
    parameters: [
      "buffer", // pid_t *pid
      "buffer", // const char *path
      "buffer", // const posix_spawn_file_actions_t *file_actions
      "buffer", // const posix_spawnattr_t *attrp
      "buffer", // char *const argv[]
      "buffer", // char *const envp[]
    ],
    result: "i32",
  },
  posix_spawn_file_actions_init: {
    parameters: ["buffer" /* posix_spawn_file_actions_t *file_actions */],
    result: "i32",
  },
  posix_spawn_file_actions_adddup2: {
    parameters: ["buffer", /* file_actions */ "i32", /* int fildes */ "i32" /* int newfildes */],
    result: "i32",
  },
  posix_spawn_file_actions_addopen: {
    parameters: [
      "buffer", // posix_spawn_file_actions_t *file_actions
      "i32", // int fildes
      "buffer", // const char *path
      "i32", // int oflag
      "u32", // mode_t mode
    ],
    result: "i32",
  },
  posix_spawn_file_actions_destroy: { parameters: ["buffer" /* file_actions */], result: "i32" },
  posix_spawnattr_init: { parameters: ["buffer" /* posix_spawnattr_t *attr */], result: "i32" },
  posix_spawnattr_setflags: { parameters: ["buffer", /* attr */ "i16" /* short flags */], result: "i32" },
  posix_spawnattr_setsigdefault: {
    parameters: ["buffer", /* attr */ "buffer" /* const sigset_t *sigdefault */],
    result: "i32",
  },
  posix_spawnattr_setsigmask: {
    parameters: ["buffer", /* attr */ "buffer" /* const sigset_t *sigmask */],
    result: "i32",
  },
  posix_spawnattr_destroy: { parameters: ["buffer" /* attr */], result: "i32" },
  kill: {
    parameters: ["i32", /* pid_t pid, or the negative id of a process group */ "i32" /* int sig */],
    result: "i32",
  },
  signal: {
    parameters: ["i32", /* int signum */ "pointer" /* sighandler_t handler */],
    result: "pointer",
  },
  sigfillset: { parameters: ["buffer" /* sigset_t *set */], result: "i32" },
  pthread_sigmask: {
    parameters: ["i32", /* int how */ "buffer", /* const sigset_t *set */ "buffer" /* sigset_t *oldset */],
    result: "i32",
  },
  write: {
    parameters: ["i32", /* int fd */ "buffer", /* const void *buf */ "usize" /* size_t count */],
    result: "isize",
  },
  pidfd_send_signal: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int pidfd */
      "i32", /* int sig */
      "pointer", /* siginfo_t *info */
      "u32", /* unsigned int flags */
    ],
    result: "i32",
  },
  pidfd_open: {
    name: "syscall",
    parameters: ["i32", "i32", /* pid_t pid */ "u32" /* unsigned int flags */],
    result: "i32",
  },

  mount: {
    parameters: [
      "pointer", /* const char *source */
      "pointer", /* const char *target */
      "pointer", /* const char *filesystemtype */
      "u64", /* unsigned long mountflags */
      "pointer", /* const void *data */
    ],
    result: "i32",
  },
  mount_nonblocking: {
    name: "mount",
    parameters: ["buffer", "buffer", "buffer", "u64", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  umount2: { parameters: ["pointer", /* const char *target */ "i32" /* int flags */], result: "i32" },
  umount2_nonblocking: { name: "umount2", parameters: ["buffer", "i32"], result: "i32", nonblocking: true },

  syscall: {
    parameters: ["i32", /* long number */ "i64", "i64", "i64", "i64", "i64"],
    result: "i32",
  },
  open_tree: {
    name: "syscall",
    parameters: ["i32", "i32", /* int dfd */ "pointer", /* const char *path */ "u32" /* unsigned flags */],
    result: "i32",
  },
  move_mount: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int from_dfd */
      "pointer", /* const char *from_path */
      "i32", /* int to_dfd */
      "pointer", /* const char *to_path */
      "u32", /* unsigned int flags */
    ],
    result: "i32",
  },
  fsopen: {
    name: "syscall",
    parameters: ["i32", "pointer", /* const char *fsname */ "u32" /* unsigned int flags */],
    result: "i32",
  },
  fspick: {
    name: "syscall",
    parameters: ["i32", "i32", /* int dfd */ "pointer", /* const char *path */ "u32" /* unsigned flags */],
    result: "i32",
  },
  fsconfig: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int fs_fd */
      "u32", /* unsigned int cmd */
      "pointer", /* const char *key */
      "pointer", /* const void *value */
      "i32", /* int aux */
    ],
    result: "i32",
  },
  fsconfig_nonblocking: {
    name: "syscall",
    parameters: ["i32", "i32", "u32", "buffer", "buffer", "i32"],
    result: "i32",
    nonblocking: true,
  },
  fsmount: {
    name: "syscall",
    parameters: ["i32", "i32", /* int fs_fd */ "u32", /* unsigned flags */ "u32" /* unsigned attr_flags */],
    result: "i32",
  },
  mount_setattr: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int dfd */
      "pointer", /* const char *path */
      "u32", /* unsigned int flags */
      "pointer", /* struct mount_attr *uattr */
      "usize", /* size_t usize */
    ],
    result: "i32",
  },
  open_tree_attr: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int dfd */
      "pointer", /* const char *filename */
      "u32", /* unsigned int flags */
      "pointer", /* struct mount_attr *uattr */
      "usize", /* size_t usize */
    ],
    result: "i32",
  },
  openat2: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int dirfd */
      "pointer", /* const char *path */
      "pointer", /* struct open_how *how */
      "usize", /* size_t size */
    ],
    result: "i32",
  },
  openat2_nonblocking: {
    name: "syscall",
    parameters: ["i32", "i32", "buffer", "buffer", "usize"],
    result: "i32",
    nonblocking: true,
  },
  statmount: {
    name: "syscall",
    parameters: [
      "i32",
      "pointer", /* const struct mnt_id_req *req */
      "pointer", /* struct statmount *buf */
      "usize", /* size_t bufsize */
      "u32", /* unsigned int flags */
    ],
    result: "i32",
  },
  listmount: {
    name: "syscall",
    parameters: [
      "i32",
      "pointer", /* const struct mnt_id_req *req */
      "pointer", /* u64 *mnt_ids */
      "usize", /* size_t nr_mnt_ids */
      "u32", /* unsigned int flags */
    ],
    result: "i32",
  },

  fanotify_init: {
    parameters: ["u32", /* unsigned int flags */ "u32" /* unsigned int event_f_flags */],
    result: "i32",
  },
  fanotify_mark: {
    parameters: [
      "i32", /* int fanotify_fd */
      "u32", /* unsigned int flags */
      "u64", /* uint64_t mask */
      "i32", /* int dirfd */
      "buffer", /* const char *pathname */
    ],
    result: "i32",
  },
  socket: {
    parameters: ["i32", /* int domain */ "i32", /* int type */ "i32" /* int protocol */],
    result: "i32",
  },
  sendto: {
    parameters: [
      "i32", // int sockfd
      "buffer", // const void *buf
      "usize", // size_t size
      "i32", // int flags
      "buffer", // const struct sockaddr *dest_addr
      "u32", // socklen_t addrlen
    ],
    result: "isize",
  },
  socketpair: {
    parameters: [
      "i32", // int domain
      "i32", // int type
      "i32", // int protocol
      "buffer", // int sv[2]
    ],
    result: "i32",
  },
  sendmsg: {
    parameters: ["i32", /* int sockfd */ "buffer", /* const struct msghdr *msg */ "i32" /* int flags */],
    result: "isize",
  },
  recvmsg: {
    parameters: ["i32", /* int sockfd */ "buffer", /* struct msghdr *msg */ "i32" /* int flags */],
    result: "isize",
  },
  recvmsg_nonblocking: {
    name: "recvmsg",
    parameters: ["i32", "buffer", "i32"],
    result: "isize",
    nonblocking: true,
  },
  pipe2: { parameters: ["buffer", /* int pipefd[2] */ "i32" /* int flags */], result: "i32" },
  eventfd: { parameters: ["u32", /* unsigned int initval */ "i32" /* int flags */], result: "i32" },
  poll: {
    parameters: ["buffer", /* struct pollfd *fds */ "u64", /* nfds_t nfds */ "i32" /* int timeout, in ms */],
    result: "i32",
  },
  poll_nonblocking: { name: "poll", parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },

  readlinkat: {
    parameters: [
      "i32", // int dirfd
      "pointer", // const char *path
      "buffer", // char *buf
      "usize", // size_t bufsiz
    ],
    result: "isize",
  },
  mkdirat: {
    parameters: ["i32", /* int dirfd */ "pointer", /* const char *path */ "u32" /* mode_t mode */],
    result: "i32",
  },
  mknodat: {
    name: "syscall",
    parameters: [
      "i32",
      "i32", /* int dirfd */
      "pointer", /* const char *path */
      "u32", /* mode_t mode */
      "u32", /* unsigned int dev */
    ],
    result: "i32",
  },
  linkat: {
    parameters: [
      "i32", // int olddirfd
      "pointer", // const char *oldpath
      "i32", // int newdirfd
      "pointer", // const char *newpath
      "i32", // int flags
    ],
    result: "i32",
  },
  symlinkat: {
    parameters: ["pointer", /* const char *target */ "i32", /* int newdirfd */ "pointer" /* linkpath */],
    result: "i32",
  },
  utimensat: {
    parameters: [
      "i32", // int dirfd
      "pointer", // const char *path
      "pointer", // const struct timespec times[2]
      "i32", // int flags
    ],
    result: "i32",
  },
  listxattr: {
    parameters: ["pointer", /* const char *path */ "buffer", /* char *list */ "usize" /* size_t size */],
    result: "isize",
  },
  listxattr_nonblocking: {
    name: "listxattr",
    parameters: ["buffer", "buffer", "usize"],
    result: "isize",
    nonblocking: true,
  },
  getxattr: {
    parameters: [
      "pointer", // const char *path
      "pointer", // const char *name
      "buffer", // void *value
      "usize", // size_t size
    ],
    result: "isize",
  },
  getxattr_nonblocking: {
    name: "getxattr",
    parameters: ["buffer", "buffer", "buffer", "usize"],
    result: "isize",
    nonblocking: true,
  },
  setxattr: {
    parameters: [
      "pointer", // const char *path
      "pointer", // const char *name
      "buffer", // const void *value
      "usize", // size_t size
      "i32", // int flags
    ],
    result: "i32",
  },
  write_nonblocking: {
    name: "write",
    parameters: ["i32", "buffer", "usize"],
    result: "isize",
    nonblocking: true,
  },
  copy_file_range_nonblocking: {
    name: "copy_file_range",
    parameters: [
      "i32", // int fd_in
      "buffer", // off_t *off_in
      "i32", // int fd_out
      "buffer", // off_t *off_out
      "usize", // size_t size
      "u32", // unsigned int flags
    ],
    result: "isize",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The type of the symbol table. */
export type LibcSymbols = typeof symbols;

/** The name of a function in the symbol table. */
export type LibcName = keyof LibcSymbols;

/**
 * The symbol table. A worker binds the C library by it on its own thread.
 *
 * @returns the table.
 */
export function libcSymbols(): LibcSymbols {
  return symbols;
}
