/**
 * The kernel's constants, under the kernel's names. Those that differ between x86-64 and arm64 have the value of the
 * running architecture.
 *
 * @module
 */

const arm64 = Deno.build.arch === "aarch64";

// fcntl.h and asm/fcntl.h

/** Open for reading. */
export const O_RDONLY: number = 0;
/** Open for writing. */
export const O_WRONLY: number = 1;
/** Open for reading and writing. */
export const O_RDWR: number = 2;
/** Create the file if it is missing. */
export const O_CREAT: number = 0o100;
/** Fail with EAGAIN instead of waiting. */
export const O_NONBLOCK: number = 0o4000;
/** Bypass the page cache. */
export const O_DIRECT: number = arm64 ? 0o200000 : 0o40000;
/** Fail if the file exists. */
export const O_EXCL: number = 0o200;
/** Fail unless it is a directory. */
export const O_DIRECTORY: number = arm64 ? 0o40000 : 0o200000;
/** Fail if the last component is a symbolic link. */
export const O_NOFOLLOW: number = arm64 ? 0o100000 : 0o400000;
/** Close the descriptor on execve. */
export const O_CLOEXEC: number = 0o2000000;
/** A descriptor of the path only, not for reading or writing. */
export const O_PATH: number = 0o10000000;
/** Stands for the working directory, in place of a directory's descriptor. */
export const AT_FDCWD: number = -100;
/** Do not follow a symbolic link at the end of the path. */
export const AT_SYMLINK_NOFOLLOW: number = 0x100;
/** unlinkat(): remove an empty directory. linux/fcntl.h */
export const AT_REMOVEDIR: number = 0x200;
/** Do not trigger an automount. */
export const AT_NO_AUTOMOUNT: number = 0x800;
/** An empty path means the descriptor itself. */
export const AT_EMPTY_PATH: number = 0x1000;
/** Ask the server of a network file system for attributes, even if they are cached (linux/fcntl.h). */
export const AT_STATX_FORCE_SYNC: number = 0x2000;
/** Use cached attributes; do not ask a server (linux/fcntl.h). */
export const AT_STATX_DONT_SYNC: number = 0x4000;
/** Apply to the whole tree of mounts. */
export const AT_RECURSIVE: number = 0x8000;

// linux/mount.h: mount(2)

/** Read-only. */
export const MS_RDONLY: number = 1;
/** Ignore set-user-id and set-group-id bits. */
export const MS_NOSUID: number = 2;
/** No access to device files. */
export const MS_NODEV: number = 4;
/** Do not execute programs. */
export const MS_NOEXEC: number = 8;
/** Writes are synchronous. */
export const MS_SYNCHRONOUS: number = 16;
/** Change an existing mount. */
export const MS_REMOUNT: number = 32;
/** Permit mandatory locks. */
export const MS_MANDLOCK: number = 64;
/** Directory changes are synchronous. */
export const MS_DIRSYNC: number = 128;
/** Do not follow symbolic links (Linux 5.10). */
export const MS_NOSYMFOLLOW: number = 256;
/** Do not update access times. */
export const MS_NOATIME: number = 1024;
/** Do not update access times of directories. */
export const MS_NODIRATIME: number = 2048;
/** A bind mount. */
export const MS_BIND: number = 4096;
/** Move a mount. */
export const MS_MOVE: number = 8192;
/** Apply to the whole tree of mounts. */
export const MS_REC: number = 0x4000;
/** No messages in the kernel's log. */
export const MS_SILENT: number = 0x8000;
/** Propagation: private, and cannot be bind mounted. */
export const MS_UNBINDABLE: number = 1 << 17;
/** Propagation: none. */
export const MS_PRIVATE: number = 1 << 18;
/** Propagation: from the master only. */
export const MS_SLAVE: number = 1 << 19;
/** Propagation: both ways. */
export const MS_SHARED: number = 1 << 20;
/** Update access times relative to the modification time. */
export const MS_RELATIME: number = 1 << 21;
/** Always update access times. */
export const MS_STRICTATIME: number = 1 << 24;
/** Keep time stamps in memory, and write them later. */
export const MS_LAZYTIME: number = 1 << 25;

// linux/mount.h: umount2(2)

/** Abort pending requests, if the file system supports it. */
export const MNT_FORCE: number = 1;
/** Detach the mount now, and clean up when it is no longer in use. */
export const MNT_DETACH: number = 2;
/** Mark the mount as expired; unmount it if it is marked and has not been used since. */
export const MNT_EXPIRE: number = 4;
/** Do not follow a symbolic link at the end of the path. */
export const UMOUNT_NOFOLLOW: number = 8;

// linux/mount.h: open_tree(2), move_mount(2), fsopen(2), fspick(2), fsconfig(2), fsmount(2)

/** Create a detached clone of the mount: a bind mount. */
export const OPEN_TREE_CLONE: number = 1;
/** Close the descriptor on execve. */
export const OPEN_TREE_CLOEXEC: number = O_CLOEXEC;
/** An empty source path means the source descriptor. */
export const MOVE_MOUNT_F_EMPTY_PATH: number = 4;
/** An empty target path means the target descriptor. */
export const MOVE_MOUNT_T_EMPTY_PATH: number = 0x40;
/** Attach the mount beneath the topmost one of the target (Linux 6.5). */
export const MOVE_MOUNT_BENEATH: number = 0x200;
/** Close the descriptor on execve. */
export const FSOPEN_CLOEXEC: number = 1;
/** Close the descriptor on execve. */
export const FSPICK_CLOEXEC: number = 1;
/** An empty path means the descriptor itself. */
export const FSPICK_EMPTY_PATH: number = 8;
/** Set a parameter that has no value. */
export const FSCONFIG_SET_FLAG: number = 0;
/** Set a parameter to a string of up to 255 bytes. */
export const FSCONFIG_SET_STRING: number = 1;
/** Set a parameter to an open descriptor. */
export const FSCONFIG_SET_FD: number = 5;
/** Create the file system. */
export const FSCONFIG_CMD_CREATE: number = 6;
/** Reconfigure the file system. */
export const FSCONFIG_CMD_RECONFIGURE: number = 7;
/** Close the descriptor on execve. */
export const FSMOUNT_CLOEXEC: number = 1;

// linux/mount.h: attributes of one mount, mount_setattr(2) and fsmount(2)

/** Read-only. */
export const MOUNT_ATTR_RDONLY: number = 1;
/** Ignore set-user-id and set-group-id bits. */
export const MOUNT_ATTR_NOSUID: number = 2;
/** No access to device files. */
export const MOUNT_ATTR_NODEV: number = 4;
/** Do not execute programs. */
export const MOUNT_ATTR_NOEXEC: number = 8;
/** The mask of the access time setting. */
export const MOUNT_ATTR__ATIME: number = 0x70;
/** Update access times relative to the modification time. */
export const MOUNT_ATTR_RELATIME: number = 0;
/** Do not update access times. */
export const MOUNT_ATTR_NOATIME: number = 0x10;
/** Always update access times. */
export const MOUNT_ATTR_STRICTATIME: number = 0x20;
/** Do not update access times of directories. */
export const MOUNT_ATTR_NODIRATIME: number = 0x80;
/** Map ids through a user namespace. */
export const MOUNT_ATTR_IDMAP: number = 0x100000;
/** Do not follow symbolic links. */
export const MOUNT_ATTR_NOSYMFOLLOW: number = 0x200000;

// linux/openat2.h

/** Fail if the path crosses a mountpoint. */
export const RESOLVE_NO_XDEV: number = 1;
/** Fail if the path has a magic link, such as /proc/PID/fd/N. */
export const RESOLVE_NO_MAGICLINKS: number = 2;
/** Fail if the path has a symbolic link. */
export const RESOLVE_NO_SYMLINKS: number = 4;
/** Fail if the path leads out of the directory. */
export const RESOLVE_BENEATH: number = 8;
/** Resolve the path with the directory as the root: no symbolic link and no `..` leads out of it. */
export const RESOLVE_IN_ROOT: number = 0x10;
/** Fail with EAGAIN if the dentry cache does not have the whole path (Linux 5.12). */
export const RESOLVE_CACHED: number = 0x20;

// linux/stat.h

/** Ask for the file's type. */
export const STATX_TYPE: number = 1;
/** Ask for the file's owner. */
export const STATX_UID: number = 8;
/** Ask for the fields of stat(2). */
export const STATX_BASIC_STATS: number = 0x7ff;
/** Ask for the inode's number. */
export const STATX_INO: number = 0x100;
/** Ask for the mount id of mountinfo (Linux 5.8). */
export const STATX_MNT_ID: number = 0x1000;
/** Ask for the unique mount id, which is never reused (Linux 6.8). */
export const STATX_MNT_ID_UNIQUE: number = 0x4000;
/** Attribute: the root of a mount. */
export const STATX_ATTR_MOUNT_ROOT: number = 0x2000;
/** The mask of the file's type in a mode. */
export const S_IFMT: number = 0o170000;
/** A directory. */
export const S_IFDIR: number = 0o40000;
/** A regular file. */
export const S_IFREG: number = 0o100000;
/** A symbolic link. */
export const S_IFLNK: number = 0o120000;
/** st_mode: a socket. linux/stat.h */
export const S_IFSOCK: number = 0o140000;
/** A block device. */
export const S_IFBLK: number = 0o60000;
/** A character device. */
export const S_IFCHR: number = 0o20000;
/** A FIFO. */
export const S_IFIFO: number = 0o10000;

// linux/mount.h: statmount(2)

/** Ask for the device, magic number and flags of the file system. */
export const STATMOUNT_SB_BASIC: number = 1;
/** Ask for ids, attributes and propagation. */
export const STATMOUNT_MNT_BASIC: number = 2;
/** Ask for the nearest dominating peer group. */
export const STATMOUNT_PROPAGATE_FROM: number = 4;
/** Ask for the root of the mount in its file system. */
export const STATMOUNT_MNT_ROOT: number = 8;
/** Ask for the mountpoint. */
export const STATMOUNT_MNT_POINT: number = 0x10;
/** Ask for the file system's type. */
export const STATMOUNT_FS_TYPE: number = 0x20;
/** Ask for the file system's options. */
export const STATMOUNT_MNT_OPTS: number = 0x80;
/** Ask for the subtype, which FUSE mounts have. */
export const STATMOUNT_FS_SUBTYPE: number = 0x100;
/** Ask for the source. */
export const STATMOUNT_SB_SOURCE: number = 0x200;

// linux/mount.h: listmount(2)

/** Stands for all mounts of the namespace, in place of a mount's id. */
export const LSMT_ROOT: bigint = 0xffffffffffffffffn;

// linux/fanotify.h

/** Close the descriptor on execve. */
export const FAN_CLOEXEC: number = 1;
/** read(2) fails with EAGAIN instead of waiting for events. */
export const FAN_NONBLOCK: number = 2;
/** Events about mounts carry the mount's unique id (Linux 6.15). */
export const FAN_REPORT_MNT: number = 0x4000;
/** Add a mark. */
export const FAN_MARK_ADD: number = 1;
/** Mark a mount namespace (Linux 6.15). */
export const FAN_MARK_MNTNS: number = 0x110;
/** The queue was full, and events were lost. */
export const FAN_Q_OVERFLOW: number = 0x4000;
/** A mount was attached to the namespace (Linux 6.15). */
export const FAN_MNT_ATTACH: number = 0x01000000;
/** A mount was unmounted; together with `FAN_MNT_ATTACH`, it was moved (Linux 6.15). */
export const FAN_MNT_DETACH: number = 0x02000000;
/** The type of the record with a mount's unique id (Linux 6.15). */
export const FAN_EVENT_INFO_TYPE_MNT: number = 7;

// linux/nsfs.h

/** Read the kind of a namespace, a `CLONE_NEW…` flag: _IO(0xb7, 3), Linux 4.11. */
export const NS_GET_NSTYPE: number = 0xb703;
/** Read the 64-bit id of a mount namespace: _IOR(0xb7, 5, __u64), Linux 6.11. */
export const NS_GET_MNTNS_ID: number = 0x8008b705;

// asm-generic/poll.h and linux/eventfd.h

/** Data can be read. */
export const POLLIN: number = 1;
/** An exceptional condition; for mountinfo, the table has changed. */
export const POLLPRI: number = 2;
/** An error; for mountinfo together with `POLLPRI`. */
export const POLLERR: number = 8;
/** Close the descriptor on execve. */
export const EFD_CLOEXEC: number = 0o2000000;
/** read(2) and write(2) fail with EAGAIN instead of waiting. */
export const EFD_NONBLOCK: number = 0o4000;

// linux/magic.h

/** FUSE, fuseblk included. */
export const FUSE_SUPER_MAGIC: number = 0x65735546;
/** overlay. */
export const OVERLAYFS_SUPER_MAGIC: number = 0x794c7630;
/** tmpfs. */
export const TMPFS_MAGIC: number = 0x01021994;
/** The magic number of selinuxfs, linux/magic.h. */
export const SELINUX_MAGIC: number = 0xf97cff8c;

// linux/loop.h

/** Detach the backing file. */
export const LOOP_CLR_FD: number = 0x4c01;
/** Change a loop device's status. */
export const LOOP_SET_STATUS64: number = 0x4c04;
/** Read a loop device's status. */
export const LOOP_GET_STATUS64: number = 0x4c05;
/** Attach a backing file with all its settings at once (Linux 5.8). */
export const LOOP_CONFIGURE: number = 0x4c0a;
/** Find or create a free loop device; returns its number. */
export const LOOP_CTL_GET_FREE: number = 0x4c82;
/** The device is read-only. */
export const LO_FLAGS_READ_ONLY: number = 1;
/** Detach the backing file at the last close of the device. */
export const LO_FLAGS_AUTOCLEAR: number = 4;
/** The backing file is read and written without the page cache. */
export const LO_FLAGS_DIRECT_IO: number = 16;

// sched.h

/** Share or unshare the working directory, root directory and umask. */
export const CLONE_FS: number = 0x200;
/** A mount namespace. */
export const CLONE_NEWNS: number = 0x20000;

/** The child shares the memory of its parent. */
export const CLONE_VM: number = 0x100;
/** Return a pidfd of the child. */
export const CLONE_PIDFD: number = 0x1000;
/** Set the child's thread-local storage (its thread control block). */
export const CLONE_SETTLS: number = 0x80000;
/** A user namespace. */
export const CLONE_NEWUSER: number = 0x10000000;

// linux/wait.h, signal.h and linux/pidfd.h

/** Wait for the process of a pidfd, waitid(2). */
export const P_PIDFD: number = 3;
/** Wait for a process to end, waitid(2). */
export const WEXITED: number = 4;
/** Also wait for children that send no SIGCHLD. */
export const __WALL: number = 0x40000000;
/** The signal that ends a process and cannot be caught or ignored. */
export const SIGKILL: number = 9;
/** Open the mount namespace of a pidfd's process: _IO(0xFF, 3), Linux 6.11. */
export const PIDFD_GET_MNT_NAMESPACE: number = 0xff03;
/** Open the user namespace of a pidfd's process: _IO(0xFF, 9), Linux 6.11. */
export const PIDFD_GET_USER_NAMESPACE: number = 0xff09;

// linux/fs.h: lseek(2)

/** The offset is from the beginning of the file. */
export const SEEK_SET: number = 0;
/** The first data at or after the offset. */
export const SEEK_DATA: number = 3;
/** The first hole at or after the offset; the end of the file counts as one. */
export const SEEK_HOLE: number = 4;

// sys/file.h

/** An exclusive lock. */
export const LOCK_EX: number = 2;
/** Fail instead of waiting. */
export const LOCK_NB: number = 4;
/** A shared lock. */
export const LOCK_SH: number = 1;
