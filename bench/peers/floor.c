/* The floor of the benchmark: each work with bare system calls, to separate the cost of the kernel from that of the
 * library and other programs.
 *
 *     gcc -O2 -Wall -Wextra -o floor floor.c
 *
 * A line on stdin requests one work: `WORK COUNT ARGUMENT…`, separated by spaces. The answer is one line: the nanoseconds
 * of COUNT runs, `error TEXT`, or `unknown`. Reading the line, and the list of `list-all`, is not timed. A work that fails
 * unmounts what it mounted before the answer. Run it in a private mount namespace.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Newer than the headers of Debian 12. */
#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200 /* linux/mount.h, Linux 6.5 */
#endif
#ifndef SYS_statmount
#define SYS_statmount 457 /* asm-generic/unistd.h, Linux 6.8 */
#endif
#ifndef PIDFD_GET_USER_NAMESPACE
#define PIDFD_GET_USER_NAMESPACE _IO(0xFF, 9) /* linux/pidfd.h, Linux 6.11 */
#endif
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U /* linux/stat.h, Linux 6.8 */
#endif
#ifndef STATMOUNT_SB_BASIC /* linux/mount.h, Linux 6.8; the subtype and the source 6.13 */
#define STATMOUNT_SB_BASIC 0x1U
#define STATMOUNT_MNT_BASIC 0x2U
#define STATMOUNT_PROPAGATE_FROM 0x4U
#define STATMOUNT_MNT_ROOT 0x8U
#define STATMOUNT_MNT_POINT 0x10U
#define STATMOUNT_FS_TYPE 0x20U
#define STATMOUNT_MNT_OPTS 0x80U
#define STATMOUNT_FS_SUBTYPE 0x100U
#define STATMOUNT_SB_SOURCE 0x200U
#endif

enum { TABLE_READ = 64 * 1024, LONGEST_STRING = 255 /* of fsconfig(2) */, MOST_SETTINGS = 32 };

/* ---- Failures. Only the first failure of a line is reported: the later ones come from the clean-up. */

static char failure[PATH_MAX + 1024];

static int failed(const char *call, const char *about)
{
	if (!failure[0])
		snprintf(failure, sizeof failure, "%s %s: %s", call, about, strerrorname_np(errno));
	return -1;
}

static int refused(const char *why, const char *about)
{
	if (!failure[0])
		snprintf(failure, sizeof failure, "%s %s", why, about);
	return -1;
}

/* Appends the messages of the file system, read from its context. */
static int context_failed(int context, const char *call, const char *about)
{
	char words[512];
	failed(call, about);
	ssize_t length = read(context, words, sizeof words - 1);
	if (length <= 0)
		return -1;
	words[length] = 0;
	words[strcspn(words, "\n")] = 0;
	size_t used = strlen(failure);
	snprintf(failure + used, sizeof failure - used, " (%s)", words);
	return -1;
}

/* ---- Mounting. */

/* Always closes the descriptor; a mount that was not attached ends with it. */
static int attach(int mount, const char *target)
{
	int result = move_mount(mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
	if (result < 0)
		failed("move_mount", target);
	close(mount);
	return result;
}

static int change(int tree, unsigned recursive, struct mount_attr attributes)
{
	if (mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attributes, sizeof attributes) < 0)
		return failed("mount_setattr", "of a detached tree");
	return 0;
}

static int bind_mount(const char *source, const char *target, uint64_t set, uint64_t clear)
{
	int tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return failed("open_tree", source);
	if ((set || clear) && change(tree, 0, (struct mount_attr){.attr_set = set, .attr_clr = clear}) < 0)
		return close(tree), -1;
	return attach(tree, target);
}

/* Makes the tree private before attaching it: unmounting it with MNT_DETACH would otherwise propagate to the source's
 * peer groups. */
static int bind_tree(const char *source, const char *target, uint64_t set, uint64_t clear)
{
	int tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return failed("open_tree", source);
	if (change(tree, AT_RECURSIVE, (struct mount_attr){.propagation = MS_PRIVATE}) < 0)
		return close(tree), -1;
	if ((set || clear) && change(tree, 0, (struct mount_attr){.attr_set = set, .attr_clr = clear}) < 0)
		return close(tree), -1;
	return attach(tree, target);
}

static int open_context(const char *type, const char *source)
{
	int context = fsopen(type, FSOPEN_CLOEXEC);
	if (context < 0)
		return failed("fsopen", type);
	if (fsconfig(context, FSCONFIG_SET_STRING, "source", source, 0) < 0) {
		context_failed(context, "fsconfig source", source);
		return close(context), -1;
	}
	return context;
}

/* Always closes the context. */
static int create(int context, unsigned attributes, const char *target)
{
	int mount = -1;
	if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		context_failed(context, "fsconfig create", target);
	else if ((mount = fsmount(context, FSMOUNT_CLOEXEC, attributes)) < 0)
		context_failed(context, "fsmount", target);
	close(context);
	return mount < 0 ? -1 : attach(mount, target);
}

static int add_open_layer(int context, int from, const char *path)
{
	int layer = openat(from, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (layer < 0)
		return failed("open", path);
	int result = fsconfig(context, FSCONFIG_SET_FD, "lowerdir+", NULL, layer);
	if (result < 0)
		context_failed(context, "fsconfig lowerdir+", path);
	close(layer);
	return result;
}

static int add_layer(int context, const char *path)
{
	if (strlen(path) > LONGEST_STRING)
		return add_open_layer(context, AT_FDCWD, path);
	if (fsconfig(context, FSCONFIG_SET_STRING, "lowerdir+", path, 0) < 0)
		return context_failed(context, "fsconfig lowerdir+", path);
	return 0;
}

/* ---- Unmounting. */

/* Repeats until EINVAL: nothing is mounted any more. */
static int unmount_all(const char *target)
{
	while (umount2(target, 0) == 0)
		;
	if (errno == EINVAL)
		return 0;
	failed("umount2", target);
	umount2(target, MNT_DETACH);
	return -1;
}

/* ---- The works: each function runs its work once. */

static int work_bind(char **argument, int count)
{
	(void)count;
	return bind_mount(argument[0], argument[1], 0, 0) < 0 ? -1 : unmount_all(argument[1]);
}

static int work_bind_ro(char **argument, int count)
{
	(void)count;
	return bind_mount(argument[0], argument[1], MOUNT_ATTR_RDONLY, 0) < 0 ? -1 : unmount_all(argument[1]);
}

static int work_tmpfs(char **argument, int count)
{
	(void)count;
	int context = open_context("tmpfs", "tmpfs");
	if (context < 0 || create(context, 0, argument[0]) < 0)
		return -1;
	return unmount_all(argument[0]);
}

static int work_overlay(char **argument, int count)
{
	int context = open_context("overlay", "overlay");
	if (context < 0)
		return -1;
	for (int layer = 1; layer < count; layer++)
		if (add_layer(context, argument[layer]) < 0)
			return close(context), -1;
	return create(context, 0, argument[0]) < 0 ? -1 : unmount_all(argument[0]);
}

static int work_overlay_rw(char **argument, int count)
{
	int context = open_context("overlay", "overlay");
	if (context < 0)
		return -1;
	for (int layer = 3; layer < count; layer++)
		if (add_layer(context, argument[layer]) < 0)
			return close(context), -1;
	for (int i = 1; i < 3; i++)
		if (fsconfig(context, FSCONFIG_SET_STRING, i == 1 ? "upperdir" : "workdir", argument[i], 0) < 0) {
			context_failed(context, "fsconfig", argument[i]);
			return close(context), -1;
		}
	return create(context, 0, argument[0]) < 0 ? -1 : unmount_all(argument[0]);
}

static int work_temp(char **argument, int count)
{
	(void)count;
	char directory[] = "/tmp/floor-XXXXXX";
	if (!mkdtemp(directory))
		return failed("mkdtemp", directory);
	int result = bind_mount(argument[0], directory, 0, 0);
	if (result == 0 && (result = umount2(directory, 0)) < 0)
		failed("umount2", directory);
	if (rmdir(directory) < 0)
		result = failed("rmdir", directory);
	return result;
}

/* A new mount beneath the present one, which is then taken off: no moment without a mount. */
static int work_replace(char **argument, int count)
{
	(void)count;
	int tree = open_tree(AT_FDCWD, argument[0], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return failed("open_tree", argument[0]);
	int result = move_mount(tree, "", AT_FDCWD, argument[1], MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH);
	if (result < 0)
		failed("move_mount beneath", argument[1]);
	close(tree);
	if (result == 0 && (result = umount2(argument[1], 0)) < 0)
		failed("umount2", argument[1]);
	return result;
}

/* The child shares this process's memory and thread-local storage, so it must not set libc's errno: nanosleep(2) fails
 * only after a signal that the child survives. The child exits by itself if this program is killed. */
static int sleeper(void *unused)
{
	(void)unused;
	syscall(SYS_nanosleep, &(struct timespec){.tv_sec = 10}, NULL);
	_exit(0);
}

static int write_map(pid_t child, const char *file)
{
	static const char map[] = "0 100000 65536";
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", child, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return failed("open", path);
	ssize_t written = write(fd, map, sizeof map - 1);
	if (written < 0)
		failed("write", path);
	close(fd);
	return written < 0 ? -1 : 0;
}

/* Without an exit signal only this waitid() reaps the child, so its pid can't be reused before. */
static int user_namespace(void)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	int process = -1, userns = -1;
	pid_t child = clone(sleeper, stack + sizeof stack, CLONE_NEWUSER | CLONE_VM | CLONE_PIDFD, NULL, &process);
	if (child < 0)
		return failed("clone", "CLONE_NEWUSER");
	if (write_map(child, "uid_map") == 0 && write_map(child, "gid_map") == 0) {
		userns = ioctl(process, PIDFD_GET_USER_NAMESPACE, 0);
		if (userns < 0)
			failed("ioctl", "PIDFD_GET_USER_NAMESPACE");
	}
	siginfo_t how;
	pidfd_send_signal(process, SIGKILL, NULL, 0);
	if (waitid(P_PIDFD, process, &how, WEXITED | __WALL) < 0)
		abort(); /* the child may still use the stack of the next child */
	close(process);
	return userns;
}

static int work_userns(char **argument, int count)
{
	(void)argument, (void)count;
	int userns = user_namespace();
	return userns < 0 ? -1 : close(userns);
}

/* A detached clone of a directory, id-mapped through a new user namespace. */
static int mapped_tree(const char *common, uint64_t attributes)
{
	int userns = user_namespace();
	if (userns < 0)
		return -1;
	int tree = open_tree(AT_FDCWD, common, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		failed("open_tree", common);
	struct mount_attr map = {.attr_set = MOUNT_ATTR_IDMAP | attributes, .propagation = MS_PRIVATE};
	map.userns_fd = userns;
	if (tree >= 0 && change(tree, 0, map) < 0) {
		close(tree);
		tree = -1;
	}
	close(userns);
	return tree;
}

static int mapped_overlay(int tree, char **layer, int layers)
{
	int context = open_context("overlay", "overlay");
	for (int i = 0; context >= 0 && i < layers; i++)
		if (add_open_layer(context, tree, layer[i]) < 0)
			return close(context), -1;
	return context;
}

static int work_overlay_idmap(char **argument, int count)
{
	int tree = mapped_tree(argument[1], MOUNT_ATTR_RDONLY);
	if (tree < 0)
		return -1;
	int context = mapped_overlay(tree, argument + 2, count - 2);
	int result = context < 0 ? -1 : create(context, 0, argument[0]);
	close(tree);
	return result < 0 ? -1 : unmount_all(argument[0]);
}

static int work_bind_idmap(char **argument, int count)
{
	(void)count;
	int tree = mapped_tree(argument[0], 0);
	return tree < 0 || attach(tree, argument[1]) < 0 ? -1 : unmount_all(argument[1]);
}

static int free_loop(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return failed("open", "/dev/loop-control");
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	if (number < 0)
		failed("ioctl", "LOOP_CTL_GET_FREE");
	close(control);
	return number;
}

/* Returns the number of the device, and its descriptor where wanted; -1 with EBUSY if another process attached it first. */
static int configure_loop(int backing, const char *image, uint32_t flags, int *kept)
{
	int number = free_loop();
	if (number < 0)
		return -1;
	char path[32];
	snprintf(path, sizeof path, "/dev/loop%d", number);
	int device = open(path, O_RDWR | O_CLOEXEC);
	if (device < 0)
		return failed("open", path);
	struct loop_config config = {.fd = backing, .info.lo_flags = flags};
	strncpy((char *)config.info.lo_file_name, image, LO_NAME_SIZE - 1);
	int result = ioctl(device, LOOP_CONFIGURE, &config), why = errno;
	if (kept && result == 0)
		*kept = device;
	else
		close(device);
	errno = why;
	if (result < 0 && errno != EBUSY)
		failed("ioctl LOOP_CONFIGURE", path);
	return result < 0 ? -1 : number;
}

static int attach_loop(const char *image, uint32_t flags, int *kept)
{
	int backing = open(image, (flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC), number;
	if (backing < 0)
		return failed("open", image);
	for (int tries = 0; tries < 100; tries++) {
		number = configure_loop(backing, image, flags, kept);
		if (number >= 0 || failure[0])
			break;
	}
	if (number < 0)
		failed("LOOP_CONFIGURE", image);
	close(backing);
	return number;
}

static int detach_loop(int number)
{
	char path[32];
	snprintf(path, sizeof path, "/dev/loop%d", number);
	int device = open(path, O_RDONLY | O_CLOEXEC);
	if (device < 0)
		return failed("open", path);
	int result = ioctl(device, LOOP_CLR_FD);
	if (result < 0)
		failed("ioctl LOOP_CLR_FD", path);
	close(device);
	return result;
}

static int work_loop(char **argument, int count)
{
	(void)count;
	int number = attach_loop(argument[0], 0, NULL);
	return number < 0 ? -1 : detach_loop(number);
}

/* An image through a loop device that ends with its mount. */
static int work_image(char **argument, int count)
{
	(void)count;
	int device = -1;
	int number = attach_loop(argument[1], LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR, &device);
	if (number < 0)
		return -1;
	char path[32];
	snprintf(path, sizeof path, "/dev/loop%d", number);
	int context = open_context(argument[0], path);
	if (context >= 0 && fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) {
		context_failed(context, "fsconfig", "ro");
		close(context);
		context = -1;
	}
	int result = context < 0 ? -1 : create(context, MOUNT_ATTR_RDONLY, argument[2]);
	close(device);
	return result < 0 ? -1 : unmount_all(argument[2]);
}

static int work_list(char **argument, int count)
{
	(void)argument, (void)count;
	static char buffer[TABLE_READ];
	int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (table < 0)
		return failed("open", "/proc/self/mountinfo");
	ssize_t length;
	while ((length = read(table, buffer, sizeof buffer)) > 0)
		;
	if (length < 0)
		failed("read", "/proc/self/mountinfo");
	close(table);
	return length < 0 ? -1 : 0;
}

/* struct mnt_id_req of linux/mount.h in its first size, MNT_ID_REQ_SIZE_VER0 */
struct mount_request {
	uint32_t size, spare;
	uint64_t mnt_id, param;
};

static int work_lookup(char **argument, int count)
{
	(void)count;
	static char answer[64 * 1024];
	struct statx found;
	if (statx(AT_FDCWD, argument[0], AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_MNT_ID_UNIQUE, &found) < 0)
		return failed("statx", argument[0]);
	struct mount_request request = {.size = sizeof request, .mnt_id = found.stx_mnt_id};
	/* all fields of a line of mountinfo */
	request.param = STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_PROPAGATE_FROM | STATMOUNT_MNT_ROOT |
		STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE | STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE | STATMOUNT_SB_SOURCE;
	if (syscall(SYS_statmount, &request, answer, sizeof answer, 0) < 0)
		return failed("statmount", argument[0]);
	return 0;
}

static int work_mountpoint(char **argument, int count)
{
	(void)count;
	struct statx found; /* the answer is STATX_ATTR_MOUNT_ROOT in its stx_attributes */
	if (statx(AT_FDCWD, argument[0], AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &found) < 0)
		return failed("statx", argument[0]);
	return 0;
}

/* ---- unmount-recursive */

static char *read_table(void)
{
	int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (table < 0)
		return failed("open", "/proc/self/mountinfo"), NULL;
	size_t room = 0, used = 0;
	char *text = NULL;
	ssize_t length = 1;
	while (length > 0) {
		if (room - used <= TABLE_READ && !(text = realloc(text, room = 2 * room + 2 * TABLE_READ)))
			abort();
		length = read(table, text + used, TABLE_READ);
		used += length > 0 ? length : 0;
	}
	if (length < 0)
		failed("read", "/proc/self/mountinfo");
	close(table);
	text[used] = 0;
	return text;
}

static bool is_octal(const char *text)
{
	return text[0] >= '0' && text[0] <= '3' && text[1] >= '0' && text[1] <= '7' && text[2] >= '0' && text[2] <= '7';
}

/* The kernel writes space, tab, newline, backslash and "#" as \040 and so on. */
static void unescape(char *text)
{
	char *to = text;
	for (; *text; text++)
		if (*text == '\\' && is_octal(text + 1)) {
			*to++ = (text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0');
			text += 3;
		} else
			*to++ = *text;
	*to = 0;
}

/* Returns the fifth field of a line, and modifies the line. */
static char *mountpoint_of(char *line)
{
	char *field = NULL;
	for (int i = 0; i < 5; i++)
		field = strsep(&line, " ");
	if (field)
		unescape(field);
	return field;
}

static bool is_within(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int by_length_falling(const void *a, const void *b)
{
	size_t first = strlen(*(char *const *)a), second = strlen(*(char *const *)b);
	return (first < second) - (first > second);
}

/* The mountpoints at and below a directory, the deepest first: a path is longer than its parents. */
static size_t mountpoints_within(char *table, const char *directory, char ***found)
{
	size_t count = 0, room = 0;
	*found = NULL;
	for (char *line; (line = strsep(&table, "\n"));) {
		char *mountpoint = mountpoint_of(line);
		if (!mountpoint || !is_within(mountpoint, directory))
			continue;
		if (count == room && !(*found = realloc(*found, (room = 2 * room + 64) * sizeof **found)))
			abort();
		(*found)[count++] = mountpoint;
	}
	if (count)
		qsort(*found, count, sizeof **found, by_length_falling);
	return count;
}

static int work_unmount_recursive(char **argument, int count)
{
	(void)count;
	char directory[PATH_MAX], **mountpoint;
	if (!realpath(argument[0], directory))
		return failed("realpath", argument[0]);
	if (directory[1] == 0)
		return refused("will not unmount everything at", directory);
	char *table = read_table();
	if (!table)
		return -1;
	size_t mounts = mountpoints_within(table, directory, &mountpoint);
	int result = 0;
	for (size_t i = 0; i < mounts; i++)
		if (umount2(mountpoint[i], 0) < 0)
			result = failed("umount2", mountpoint[i]);
	free(mountpoint);
	free(table);
	return result;
}

/* ---- stack */

static char *numbered(const char *directory, long number)
{
	static char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%ld", directory, number);
	return path;
}

static int work_stack(char **argument, int count)
{
	(void)count;
	long wanted = strtol(argument[0], NULL, 10), made = 0;
	while (made < wanted && bind_mount(argument[1], numbered(argument[2], made), 0, 0) == 0)
		made++;
	if (made == wanted)
		return 0;
	while (made > 0)
		umount2(numbered(argument[2], --made), MNT_DETACH);
	return -1;
}

/* ---- list-all */

struct setting {
	char *key, *value; /* no value for a flag */
};

struct entry {
	char *line; /* holds the text of the others */
	char *type, *source, *path;
	uint64_t set, clear; /* MOUNT_ATTR_ */
	bool bind, recursive;
	int settings;
	struct setting setting[MOST_SETTINGS];
};

static struct entry *entries;
static int entry_count;

static const struct word {
	const char *name;
	uint64_t set, clear;
} words[] = {
	{"ro", MOUNT_ATTR_RDONLY, 0},
	{"rw", 0, MOUNT_ATTR_RDONLY},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	{"diratime", 0, MOUNT_ATTR_NODIRATIME},
	{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
	{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
	{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
	{"defaults", 0, 0},
};

static const struct word *find_word(const char *option)
{
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i].name, option) == 0)
			return &words[i];
	return NULL;
}

static int add_setting(struct entry *entry, char *option)
{
	if (entry->bind)
		return refused("a bind mount has no option", option);
	if (entry->settings == MOST_SETTINGS)
		return refused("too many options on", entry->path);
	struct setting *setting = &entry->setting[entry->settings++];
	setting->value = option;
	setting->key = strsep(&setting->value, "=");
	return 0;
}

static int read_option(struct entry *entry, char *option)
{
	const struct word *word = find_word(option);
	if (strcmp(option, "bind") == 0 || strcmp(option, "rbind") == 0) {
		entry->bind = true;
		entry->recursive = *option == 'r';
		return 0;
	}
	if (word) {
		entry->set = (entry->set & ~word->clear) | word->set;
		entry->clear |= word->clear;
	}
	/* As in mount(2), ro makes the file system read-only, not only the mount. */
	if (word && (entry->bind || strcmp(option, "ro") != 0))
		return 0;
	return add_setting(entry, option);
}

static int read_entry(struct entry *entry, char *line, const char *target)
{
	char *rest = line, *inside;
	line[strcspn(line, "\n")] = 0;
	*entry = (struct entry){.line = line};
	entry->type = strsep(&rest, "\t");
	entry->source = strsep(&rest, "\t");
	inside = strsep(&rest, "\t");
	if (!inside)
		return refused("a line of the list needs tabs:", line);
	entry->bind = strcmp(entry->type, "bind") == 0;
	if (asprintf(&entry->path, "%s/%s", target, inside) < 0)
		abort();
	for (char *option; (option = strsep(&rest, ","));)
		if (*option && read_option(entry, option) < 0)
			return -1;
	return 0;
}

static void forget_list(void)
{
	for (int i = 0; i < entry_count; i++) {
		free(entries[i].line);
		free(entries[i].path);
	}
	free(entries);
	entries = NULL;
	entry_count = 0;
}

static int read_list(char **argument, int count)
{
	(void)count;
	forget_list();
	FILE *file = fopen(argument[0], "re");
	if (!file)
		return failed("open", argument[0]);
	int result = 0;
	char *line = NULL;
	for (size_t room = 0; result == 0 && getline(&line, &room, file) >= 0; line = NULL, room = 0) {
		if (*line == '\n') {
			free(line);
			continue;
		}
		if (!(entries = realloc(entries, (entry_count + 1) * sizeof *entries)))
			abort();
		result = read_entry(&entries[entry_count++], line, argument[1]);
	}
	free(line);
	fclose(file);
	return result;
}

/* Sets the layers of "a:b" one by one: together they may be longer than fsconfig(2) allows. */
static int add_layers(int context, char *layers)
{
	char *copy = strdup(layers), *rest = copy;
	int result = 0;
	for (char *layer; result == 0 && (layer = strsep(&rest, ":"));)
		result = add_layer(context, layer);
	free(copy);
	return result;
}

static int set_one(int context, const struct setting *setting)
{
	if (setting->value && strcmp(setting->key, "lowerdir") == 0)
		return add_layers(context, setting->value);
	unsigned command = setting->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
	if (fsconfig(context, command, setting->key, setting->value, 0) < 0)
		return context_failed(context, "fsconfig", setting->key);
	return 0;
}

static int mount_entry(const struct entry *entry)
{
	if (entry->bind)
		return (entry->recursive ? bind_tree : bind_mount)(entry->source, entry->path, entry->set, entry->clear);
	int context = open_context(entry->type, entry->source);
	if (context < 0)
		return -1;
	for (int i = 0; i < entry->settings; i++)
		if (set_one(context, &entry->setting[i]) < 0)
			return close(context), -1;
	return create(context, entry->set, entry->path);
}

static int unmount_entries(int mounted, int flags)
{
	int result = 0;
	while (mounted-- > 0) {
		const struct entry *entry = &entries[mounted];
		if (umount2(entry->path, entry->recursive ? MNT_DETACH : flags) < 0)
			result = failed("umount2", entry->path);
	}
	return result;
}

static int work_list_all(char **argument, int count)
{
	(void)argument, (void)count;
	int mounted = 0;
	while (mounted < entry_count && mount_entry(&entries[mounted]) == 0)
		mounted++;
	if (mounted == entry_count)
		return unmount_entries(mounted, 0);
	unmount_entries(mounted, MNT_DETACH);
	return -1;
}

/* ---- Requests: one line in, one line out. */

static const struct work {
	const char *name, *arguments;
	int least, most;
	int (*run)(char **argument, int count);
	int (*prepare)(char **argument, int count); /* not timed */
} works[] = {
	{"bind", "SOURCE TARGET", 2, 2, work_bind, NULL},
	{"bind-ro", "SOURCE TARGET", 2, 2, work_bind_ro, NULL},
	{"bind-idmap", "SOURCE TARGET", 2, 2, work_bind_idmap, NULL},
	{"replace", "SOURCE TARGET", 2, 2, work_replace, NULL},
	{"temp", "SOURCE", 1, 1, work_temp, NULL},
	{"image", "TYPE IMAGE TARGET", 3, 3, work_image, NULL},
	{"overlay", "TARGET LAYER…", 2, INT_MAX, work_overlay, NULL},
	{"overlay-rw", "TARGET UPPER WORK LAYER…", 4, INT_MAX, work_overlay_rw, NULL},
	{"overlay-idmap", "TARGET COMMON LAYER…", 3, INT_MAX, work_overlay_idmap, NULL},
	{"userns", "nothing", 0, 0, work_userns, NULL},
	{"tmpfs", "TARGET", 1, 1, work_tmpfs, NULL},
	{"loop", "IMAGE", 1, 1, work_loop, NULL},
	{"list", "nothing", 0, 0, work_list, NULL},
	{"lookup", "PATH", 1, 1, work_lookup, NULL},
	{"mountpoint", "PATH", 1, 1, work_mountpoint, NULL},
	{"unmount-recursive", "TARGET", 1, 1, work_unmount_recursive, NULL},
	{"stack", "COUNT SOURCE DIR", 3, 3, work_stack, NULL},
	{"list-all", "FILE TARGET", 2, 2, work_list_all, read_list},
};

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Returns the nanoseconds, or -1 with `failure` set. */
static int64_t timed(const struct work *work, long times, char **argument, int count)
{
	if (times < 1 || count < work->least || count > work->most)
		return refused("wanted: a count, then", work->arguments);
	if (work->prepare && work->prepare(argument, count) < 0)
		return -1;
	int64_t start = now();
	for (long i = 0; i < times; i++)
		if (work->run(argument, count) < 0)
			return -1;
	return now() - start;
}

static const struct work *find_work(const char *name)
{
	for (size_t i = 0; i < sizeof works / sizeof *works; i++)
		if (strcmp(works[i].name, name) == 0)
			return &works[i];
	return NULL;
}

static void answer(char **word, int count)
{
	const struct work *work = count ? find_work(word[0]) : NULL;
	if (!work) {
		puts("unknown");
		return;
	}
	failure[0] = 0;
	int64_t time = timed(work, count > 1 ? strtol(word[1], NULL, 10) : 0, word + 2, count - 2);
	if (time >= 0)
		printf("%lld\n", (long long)time);
	else
		printf("error %s\n", failure);
}

static int split(char *line, char ***words)
{
	int count = 0;
	*words = malloc((strlen(line) / 2 + 2) * sizeof **words);
	if (!*words)
		abort();
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
		(*words)[count++] = word;
	return count;
}

int main(int argc, char **argv)
{
	char *line = NULL, **words;
	size_t room = 0;
	bool asked = false;
	(void)argv;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (argc == 1 && getline(&line, &room, stdin) >= 0) {
		asked = true;
		int count = split(line, &words);
		answer(words, count);
		free(words);
	}
	if (!asked)
		puts("floor: the bare system calls, a peer of the benchmark; reads lines `WORK COUNT ARGUMENT…` from stdin");
	forget_list();
	free(line);
	return 0;
}
