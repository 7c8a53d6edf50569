/**
 * The kernel's numbers, under the kernel's names. Where x86-64 and arm64 differ, the right one is chosen here.
 *
 * @module
 */

const arm64 = Deno.build.arch === "aarch64";

// fcntl.h and asm/fcntl.h (those that differ by architecture are chosen here)

/** Open for reading. */
export const O_RDONLY: number = 0;
/** Open for writing. */
export const O_WRONLY: number = 1;
/** Open for reading and writing. */
export const O_RDWR: number = 2;
/** Do not wait. */
export const O_NONBLOCK: number = 0o4000;
/** Past the page cache. */
export const O_DIRECT: number = arm64 ? 0o200000 : 0o40000;
/** Fail unless it is a directory. */
export const O_DIRECTORY: number = arm64 ? 0o40000 : 0o200000;
/** Fail if the last component is a symbolic link. */
export const O_NOFOLLOW: number = arm64 ? 0o100000 : 0o400000;
/** Close the descriptor on execve. */
export const O_CLOEXEC: number = 0o2000000;
/** A descriptor for the place in the tree, not for its content. */
export const O_PATH: number = 0o10000000;
/** The working directory in the place of a directory's descriptor. */
export const AT_FDCWD: number = -100;
/** Do not follow a symbolic link at the end of the path. */
export const AT_SYMLINK_NOFOLLOW: number = 0x100;
/** Do not trigger an automount. */
export const AT_NO_AUTOMOUNT: number = 0x800;
/** An empty path means the descriptor itself. */
export const AT_EMPTY_PATH: number = 0x1000;
/** Take what is known; never ask a server (linux/stat.h). */
export const AT_STATX_DONT_SYNC: number = 0x4000;
/** The whole tree of mounts below. */
export const AT_RECURSIVE: number = 0x8000;

// linux/mount.h: mount(2)

/** Read-only. */
export const MS_RDONLY: number = 1;
/** Ignore set-user-id and set-group-id bits. */
export const MS_NOSUID: number = 2;
/** No access to device files. */
export const MS_NODEV: number = 4;
/** No execution of programs. */
export const MS_NOEXEC: number = 8;
/** Writes are synchronous. */
export const MS_SYNCHRONOUS: number = 16;
/** Change an existing mount. */
export const MS_REMOUNT: number = 32;
/** Mandatory locks. */
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
/** Move a mount to another place. */
export const MS_MOVE: number = 8192;
/** The whole tree of mounts. */
export const MS_REC: number = 0x4000;
/** No messages in the kernel's log. */
export const MS_SILENT: number = 0x8000;
/** Propagation: private, and cannot be bound. */
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
/** Keep time stamps in memory for a while. */
export const MS_LAZYTIME: number = 1 << 25;

// linux/mount.h: umount2(2)

/** Break off requests under way, where the file system can. */
export const MNT_FORCE: number = 1;
/** Take it out of the tree now, and clean up when it is no longer busy. */
export const MNT_DETACH: number = 2;
/** Mark it; unmount if it is marked already and was not used since. */
export const MNT_EXPIRE: number = 4;
/** Do not follow a symbolic link at the end of the path. */
export const UMOUNT_NOFOLLOW: number = 8;

// linux/mount.h: open_tree(2), move_mount(2), fsopen(2) and their kin

/** Clone the mount, detached, as a bind mount would. */
export const OPEN_TREE_CLONE: number = 1;
/** Close the descriptor on execve. */
export const OPEN_TREE_CLOEXEC: number = O_CLOEXEC;
/** An empty source path means the source descriptor. */
export const MOVE_MOUNT_F_EMPTY_PATH: number = 4;
/** An empty target path means the target descriptor. */
export const MOVE_MOUNT_T_EMPTY_PATH: number = 0x40;
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
/** Make the file system. */
export const FSCONFIG_CMD_CREATE: number = 6;
/** Change the file system. */
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
/** No execution of programs. */
export const MOUNT_ATTR_NOEXEC: number = 8;
/** The field that holds the access time setting. */
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

/** Fail where the path leads onto another mount. */
export const RESOLVE_NO_XDEV: number = 1;
/** Do not follow the links of /proc that are no paths. */
export const RESOLVE_NO_MAGICLINKS: number = 2;
/** Fail where the path holds a symbolic link. */
export const RESOLVE_NO_SYMLINKS: number = 4;
/** Fail where the path leads out of the directory. */
export const RESOLVE_BENEATH: number = 8;
/** The directory is the root: no symbolic link and no `..` leads out of it. */
export const RESOLVE_IN_ROOT: number = 0x10;
/** Fail with EAGAIN instead of asking a disk or a server (Linux 5.12). */
export const RESOLVE_CACHED: number = 0x20;

// linux/stat.h

/** Ask for the file's type. */
export const STATX_TYPE: number = 1;
/** Ask for the file's owner. */
export const STATX_UID: number = 8;
/** Ask for what stat(2) tells. */
export const STATX_BASIC_STATS: number = 0x7ff;
/** Ask for the inode's number. */
export const STATX_INO: number = 0x100;
/** Ask for the mount id that mountinfo shows (Linux 5.8). */
export const STATX_MNT_ID: number = 0x1000;
/** Ask for the mount id that is never used again (Linux 6.8). */
export const STATX_MNT_ID_UNIQUE: number = 0x4000;
/** The path is the root of a mount. */
export const STATX_ATTR_MOUNT_ROOT: number = 0x2000;
/** The bits of a mode that hold the file's type. */
export const S_IFMT: number = 0o170000;
/** A directory. */
export const S_IFDIR: number = 0o40000;
/** A regular file. */
export const S_IFREG: number = 0o100000;
/** A block device. */
export const S_IFBLK: number = 0o60000;

// linux/mount.h: statmount(2)

/** Ask for the device, magic number and flags of the file system. */
export const STATMOUNT_SB_BASIC: number = 1;
/** Ask for ids, attributes and propagation. */
export const STATMOUNT_MNT_BASIC: number = 2;
/** Ask for the nearest dominating peer group. */
export const STATMOUNT_PROPAGATE_FROM: number = 4;
/** Ask for the directory of the file system that is mounted. */
export const STATMOUNT_MNT_ROOT: number = 8;
/** Ask for the mountpoint. */
export const STATMOUNT_MNT_POINT: number = 0x10;
/** Ask for the file system's type. */
export const STATMOUNT_FS_TYPE: number = 0x20;
/** Ask for the file system's options. */
export const STATMOUNT_MNT_OPTS: number = 0x80;
/** Ask for the subtype, as FUSE has. */
export const STATMOUNT_FS_SUBTYPE: number = 0x100;
/** Ask for the source. */
export const STATMOUNT_SB_SOURCE: number = 0x200;

// linux/mount.h: listmount(2)

/** Every mount of the namespace, in the place of a mount's id. */
export const LSMT_ROOT: bigint = 0xffffffffffffffffn;

// linux/fanotify.h

/** Close the descriptor on execve. */
export const FAN_CLOEXEC: number = 1;
/** Do not wait for events. */
export const FAN_NONBLOCK: number = 2;
/** Events about mounts carry the mount's unique id (Linux 6.15). */
export const FAN_REPORT_MNT: number = 0x4000;
/** Watch something. */
export const FAN_MARK_ADD: number = 1;
/** What is watched is a mount namespace (Linux 6.15). */
export const FAN_MARK_MNTNS: number = 0x110;
/** Events were lost: there were more than the queue holds. */
export const FAN_Q_OVERFLOW: number = 0x4000;
/** A mount was attached to the namespace (Linux 6.15). */
export const FAN_MNT_ATTACH: number = 0x01000000;
/** A mount was taken off; with `FAN_MNT_ATTACH`, it was moved (Linux 6.15). */
export const FAN_MNT_DETACH: number = 0x02000000;
/** A record that holds a mount's unique id (Linux 6.15). */
export const FAN_EVENT_INFO_TYPE_MNT: number = 7;

// linux/nsfs.h

/** The id of a mount namespace, 64 bits: _IOR(0xb7, 5, __u64), Linux 6.11. */
export const NS_GET_MNTNS_ID: number = 0x8008b705;

// asm-generic/poll.h and linux/eventfd.h

/** There is something to read. */
export const POLLIN: number = 1;
/** Something out of the ordinary: for mountinfo, the table has changed. */
export const POLLPRI: number = 2;
/** An error; for mountinfo together with `POLLPRI`. */
export const POLLERR: number = 8;
/** Close the descriptor on execve. */
export const EFD_CLOEXEC: number = 0o2000000;
/** Do not wait for the counter. */
export const EFD_NONBLOCK: number = 0o4000;

// linux/magic.h

/** FUSE, fuseblk included. */
export const FUSE_SUPER_MAGIC: number = 0x65735546;
/** overlay. */
export const OVERLAYFS_SUPER_MAGIC: number = 0x794c7630;
/** tmpfs. */
export const TMPFS_MAGIC: number = 0x01021994;

// linux/loop.h

/** Take the backing file away. */
export const LOOP_CLR_FD: number = 0x4c01;
/** Change a loop device's status. */
export const LOOP_SET_STATUS64: number = 0x4c04;
/** Read a loop device's status. */
export const LOOP_GET_STATUS64: number = 0x4c05;
/** Attach a backing file with all its settings at once (Linux 5.8). */
export const LOOP_CONFIGURE: number = 0x4c0a;
/** The number of a free loop device, made if need be. */
export const LOOP_CTL_GET_FREE: number = 0x4c82;
/** The device is read-only. */
export const LO_FLAGS_READ_ONLY: number = 1;
/** The device frees itself at its last close. */
export const LO_FLAGS_AUTOCLEAR: number = 4;
/** The backing file is read and written past the page cache. */
export const LO_FLAGS_DIRECT_IO: number = 16;

// sched.h

/** The working directory, root directory and umask. */
export const CLONE_FS: number = 0x200;
/** The mount namespace. */
export const CLONE_NEWNS: number = 0x20000;

/** The child shares the memory of its parent. */
export const CLONE_VM: number = 0x100;
/** A pidfd of the child is made with it. */
export const CLONE_PIDFD: number = 0x1000;
/** The child gets a thread control block of its own. */
export const CLONE_SETTLS: number = 0x80000;
/** The user namespace. */
export const CLONE_NEWUSER: number = 0x10000000;

// linux/wait.h, signal.h and linux/pidfd.h

/** waitid(2) waits for the process of a pidfd. */
export const P_PIDFD: number = 3;
/** waitid(2) waits for a process to end. */
export const WEXITED: number = 4;
/** Wait for children that send no SIGCHLD too. */
export const __WALL: number = 0x40000000;
/** The signal that nothing can hold off. */
export const SIGKILL: number = 9;
/** The mount namespace of a pidfd's process, as a descriptor: _IO(0xFF, 3), Linux 6.11. */
export const PIDFD_GET_MNT_NAMESPACE: number = 0xff03;
/** The user namespace of a pidfd's process, as a descriptor: _IO(0xFF, 9), Linux 6.11. */
export const PIDFD_GET_USER_NAMESPACE: number = 0xff09;

// sys/file.h

/** One holder alone. */
export const LOCK_EX: number = 2;
/** Fail instead of waiting. */
export const LOCK_NB: number = 4;
