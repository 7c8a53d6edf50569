/* libmount as a peer of the benchmark: what mount(8) and umount(8) do, without the start of a process.
 *
 *     gcc -O2 -Wall -Wextra -o libmount libmount.c -lmount
 *
 * A line on stdin requests one work: `WORK COUNT ARGUMENT…`, separated by spaces. The answer is one line: the nanoseconds
 * of COUNT runs, `error TEXT`, or `unknown` for a work that this peer lacks. Reading the line is not timed. Run it in a
 * private mount namespace.
 */
#define _GNU_SOURCE
#include <libmount.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char failure[1024];

static int failed(struct libmnt_context *context, const char *about, int result)
{
	char words[512] = "";
	if (context)
		mnt_context_get_excode(context, result, words, sizeof words);
	snprintf(failure, sizeof failure, "%s: %s (%d)", about, words, result);
	return -1;
}

static int finish(struct libmnt_context *context, const char *target, int result)
{
	if (result || !mnt_context_get_status(context))
		result = failed(context, target, result);
	mnt_free_context(context);
	return result;
}

static int umount_one(const char *target)
{
	struct libmnt_context *context = mnt_new_context();
	mnt_context_set_target(context, target);
	return finish(context, target, mnt_context_umount(context));
}

static int mount_one(const char *type, const char *source, const char *target, const char *options)
{
	struct libmnt_context *context = mnt_new_context();
	if (type)
		mnt_context_set_fstype(context, type);
	mnt_context_set_source(context, source);
	mnt_context_set_target(context, target);
	if (options)
		mnt_context_set_options(context, options);
	return finish(context, target, mnt_context_mount(context));
}

static int on_and_off(const char *type, const char *source, const char *target, const char *options)
{
	return mount_one(type, source, target, options) ? -1 : umount_one(target);
}

static int work_bind(char **argument, int count)
{
	(void)count;
	return on_and_off(NULL, argument[0], argument[1], "bind");
}

static int work_bind_ro(char **argument, int count)
{
	(void)count;
	return on_and_off(NULL, argument[0], argument[1], "bind,ro");
}

static int work_bind_idmap(char **argument, int count)
{
	(void)count;
	return on_and_off(NULL, argument[0], argument[1], "bind,X-mount.idmap=b:0:100000:65536");
}

static int work_tmpfs(char **argument, int count)
{
	(void)count;
	return on_and_off("tmpfs", "tmpfs", argument[0], NULL);
}

static char *layers_option(char **layer, int layers, const char *before)
{
	size_t length = strlen(before) + 16;
	for (int i = 0; i < layers; i++)
		length += strlen(layer[i]) + 1;
	char *option = malloc(length);
	char *end = stpcpy(stpcpy(option, before), "lowerdir=");
	for (int i = 0; i < layers; i++)
		end = stpcpy(stpcpy(end, i ? ":" : ""), layer[i]);
	return option;
}

static int work_overlay(char **argument, int count)
{
	char *options = layers_option(argument + 1, count - 1, "");
	int result = on_and_off("overlay", "overlay", argument[0], options);
	free(options);
	return result;
}

static int work_overlay_rw(char **argument, int count)
{
	char before[2 * PATH_MAX + 64];
	snprintf(before, sizeof before, "upperdir=%s,workdir=%s,", argument[1], argument[2]);
	char *options = layers_option(argument + 3, count - 3, before);
	int result = on_and_off("overlay", "overlay", argument[0], options);
	free(options);
	return result;
}

static int work_image(char **argument, int count)
{
	(void)count;
	return on_and_off(argument[0], argument[1], argument[2], "loop,ro");
}

static int work_replace(char **argument, int count)
{
	(void)count;
	return mount_one(NULL, argument[0], argument[1], "bind,X-mount.beneath") ? -1 : umount_one(argument[1]);
}

static int work_list(char **argument, int count)
{
	(void)argument, (void)count;
	struct libmnt_table *table = mnt_new_table_from_file("/proc/self/mountinfo");
	if (!table)
		return failed(NULL, "/proc/self/mountinfo", -1);
	mnt_unref_table(table);
	return 0;
}

static int work_lookup(char **argument, int count)
{
	(void)count;
	struct libmnt_table *table = mnt_new_table_from_file("/proc/self/mountinfo");
	if (!table)
		return failed(NULL, "/proc/self/mountinfo", -1);
	int result = mnt_table_find_mountpoint(table, argument[0], MNT_ITER_BACKWARD) ? 0 : failed(NULL, argument[0], -1);
	mnt_unref_table(table);
	return result;
}

static const struct work {
	const char *name, *arguments;
	int least, most;
	int (*run)(char **argument, int count);
} works[] = {
	{"bind", "SOURCE TARGET", 2, 2, work_bind},
	{"bind-ro", "SOURCE TARGET", 2, 2, work_bind_ro},
	{"bind-idmap", "SOURCE TARGET", 2, 2, work_bind_idmap},
	{"replace", "SOURCE TARGET", 2, 2, work_replace},
	{"tmpfs", "TARGET", 1, 1, work_tmpfs},
	{"overlay", "TARGET LAYER…", 2, INT_MAX, work_overlay},
	{"overlay-rw", "TARGET UPPER WORK LAYER…", 4, INT_MAX, work_overlay_rw},
	{"image", "TYPE IMAGE TARGET", 3, 3, work_image},
	{"list", "nothing", 0, 0, work_list},
	{"lookup", "PATH", 1, 1, work_lookup},
};

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void answer(char **word, int count)
{
	for (size_t i = 0; count && i < sizeof works / sizeof *works; i++) {
		const struct work *work = &works[i];
		if (strcmp(work->name, word[0]) != 0)
			continue;
		long times = count > 1 ? strtol(word[1], NULL, 10) : 0;
		if (times < 1 || count - 2 < work->least || count - 2 > work->most) {
			printf("error wanted: a count, then %s\n", work->arguments);
			return;
		}
		int64_t start = now();
		for (long time = 0; time < times; time++)
			if (work->run(word + 2, count - 2) != 0) {
				printf("error %s\n", failure);
				return;
			}
		printf("%lld\n", (long long)(now() - start));
		return;
	}
	puts("unknown");
}

static int split(char *line, char ***words)
{
	int count = 0;
	*words = malloc((strlen(line) / 2 + 2) * sizeof **words);
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
		(*words)[count++] = word;
	return count;
}

int main(int argc, char **argv)
{
	char *line = NULL, **words;
	size_t room = 0;
	(void)argv;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1) {
		puts("libmount: a peer of the benchmark; reads lines `WORK COUNT ARGUMENT…` from stdin");
		return 0;
	}
	while (getline(&line, &room, stdin) >= 0) {
		int count = split(line, &words);
		answer(words, count);
		free(words);
	}
	free(line);
	return 0;
}
