/*
 * A power cut for one process: preloaded into it, this keeps a mirror of a folder that only ever receives what was synced.
 * kill -9 of the process is then the cut, and the mirror is what the disk would hold, were nothing unsynced to survive.
 *
 *   POWERCUT_ROOT    the folder, an absolute path without links
 *   POWERCUT_MIRROR  where its synced state is kept; equal to the folder when the process starts
 *   POWERCUT_SYNC_MS how long a sync takes before it brings anything, as on an SD card; more cuts then come amid one
 *
 * - fsync and fdatasync of a file bring its bytes and its length as they are then, and its name.
 * - fsync of a folder brings the names in it: files made, renamed and removed since; a file that was never synced is empty.
 * - Nothing else brings anything.
 *
 * Ranges that were written are remembered, not their bytes: at the sync they are read back from the file itself. What could
 * write past this (a shared mapping, fallocate) ends the process.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 65536
#define MAX_FILES 1024
#define MAX_CHANGES 1024
#define COPY_BYTES 65536

struct range { off_t from, to; };

struct file {
  char path[PATH_MAX]; /* empty: not in use */
  int is_folder;
  int is_new; /* made by this process, and not in the mirror yet */
  int reader; /* our own descriptor, -1: none; never closed, since closing would end SQLite's locks on the file */
  int mirror; /* descriptor of its copy, -1: none */
  struct range *ranges;
  size_t count, room;
};

/* A change of names that no folder sync has brought yet; `to` is empty when `from` was removed. */
struct change { char from[PATH_MAX], to[PATH_MAX]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], mirror[PATH_MAX];
static size_t root_length;
static struct timespec sync_time;
static struct file files[MAX_FILES];
static short file_of[MAX_FDS]; /* index + 1; 0: not ours */
static struct change changes[MAX_CHANGES];
static size_t change_count;

static void fail(const char *what, const char *path) {
  dprintf(2, "powercut: %s: %s (%s)\n", what, path, strerror(errno));
  abort();
}

static void *next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) fail("no such function", name);
  return found;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))next(name)

static int real_open(const char *path, int flags, mode_t mode) {
  REAL(int, "open64", const char *, int, ...);
  return real(path, flags | O_CLOEXEC, mode);
}
static ssize_t real_pwrite(int fd, const void *bytes, size_t length, off_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
  return real(fd, bytes, length, at);
}
static int real_ftruncate(int fd, off_t length) {
  REAL(int, "ftruncate64", int, off_t);
  return real(fd, length);
}
static int real_rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  return real(from, to);
}
static int real_unlink(const char *path) {
  REAL(int, "unlink", const char *);
  return real(path);
}

static int real_close(int fd) {
  REAL(int, "close", int);
  return real(fd);
}

__attribute__((constructor)) static void start(void) {
  const char *of = getenv("POWERCUT_ROOT"), *to = getenv("POWERCUT_MIRROR");
  if (!of || !to) return;
  snprintf(root, sizeof root, "%s", of);
  snprintf(mirror, sizeof mirror, "%s", to);
  root_length = strlen(root);
  const char *slow = getenv("POWERCUT_SYNC_MS");
  long ms = slow ? atol(slow) : 0;
  sync_time = (struct timespec){ms / 1000, ms % 1000 * 1000000};
}

static int is_ours(const char *path) {
  return root_length > 0 && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static void mirror_path(const char *path, char *out) {
  if (snprintf(out, PATH_MAX, "%s%s", mirror, path + root_length) >= PATH_MAX) fail("path too long", path);
}

static void path_of(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, out, PATH_MAX - 1);
  out[length < 0 ? 0 : length] = 0;
}

static struct file *find(const char *path) {
  for (int i = 0; i < MAX_FILES; i++)
    if (files[i].path[0] && strcmp(files[i].path, path) == 0) return &files[i];
  return NULL;
}

static struct file *add(const char *path) {
  for (int i = 0; i < MAX_FILES; i++) {
    if (files[i].path[0]) continue;
    struct file *file = &files[i];
    memset(file, 0, sizeof *file);
    snprintf(file->path, sizeof file->path, "%s", path);
    file->reader = file->mirror = -1;
    return file;
  }
  fail("too many files", path);
  return NULL;
}

static struct file *of_fd(int fd) {
  return fd >= 0 && fd < MAX_FDS && file_of[fd] ? &files[file_of[fd] - 1] : NULL;
}

static void touch(struct file *file, off_t from, off_t to) {
  if (to <= from) return;
  if (file->count > 0) {
    struct range *last = &file->ranges[file->count - 1];
    if (from >= last->from && from <= last->to) {
      if (to > last->to) last->to = to;
      return;
    }
  }
  if (file->count == file->room) {
    file->room = file->room ? file->room * 2 : 64;
    file->ranges = realloc(file->ranges, file->room * sizeof *file->ranges);
    if (!file->ranges) fail("no memory", file->path);
  }
  file->ranges[file->count++] = (struct range){from, to};
}

static void open_mirror(struct file *file, int flags) {
  char path[PATH_MAX];
  mirror_path(file->path, path);
  for (char *slash = path + strlen(mirror) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    mkdir(path, 0700);
    *slash = '/';
  }
  file->mirror = real_open(path, O_WRONLY | O_CREAT | flags, 0600);
  if (file->mirror < 0) fail("can't open the mirror", path);
}

static void apply_change(struct change *change) {
  char from[PATH_MAX], to[PATH_MAX];
  mirror_path(change->from, from);
  if (!change->to[0]) {
    real_unlink(from);
    return;
  }
  mirror_path(change->to, to);
  if (real_rename(from, to) != 0 && errno == ENOENT) {
    int empty = real_open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (empty >= 0) real_close(empty);
  }
}

static int concerns(const struct change *change, const char *path) {
  return strcmp(change->from, path) == 0 || strcmp(change->to, path) == 0;
}

static int in_folder(const char *path, const char *folder) {
  size_t length = strlen(folder);
  return strncmp(path, folder, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

/* Brings the changes of names in a folder, or of one file. */
static void bring_changes(const char *folder, const char *path) {
  size_t kept = 0;
  for (size_t i = 0; i < change_count; i++) {
    struct change *change = &changes[i];
    int due = folder ? in_folder(change->from, folder) || in_folder(change->to, folder) : concerns(change, path);
    if (due) apply_change(change);
    else changes[kept++] = *change;
  }
  change_count = kept;
}

static void bring_file(struct file *file, int fd) {
  char bytes[COPY_BYTES];
  struct stat now;
  bring_changes(NULL, file->path);
  if (file->mirror < 0) open_mirror(file, file->is_new ? O_TRUNC : 0);
  file->is_new = 0;
  int from = fd;
  if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR) {
    if (file->reader < 0) file->reader = real_open(file->path, O_RDONLY, 0);
    from = file->reader;
  }
  if (from < 0 || fstat(from, &now) != 0) fail("can't be read back", file->path);
  for (size_t i = 0; i < file->count; i++) {
    off_t end = file->ranges[i].to < now.st_size ? file->ranges[i].to : now.st_size;
    for (off_t at = file->ranges[i].from; at < end;) {
      size_t wanted = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
      ssize_t got = pread(from, bytes, wanted, at);
      if (got <= 0 || real_pwrite(file->mirror, bytes, got, at) != got) fail("can't be mirrored", file->path);
      at += got;
    }
  }
  if (real_ftruncate(file->mirror, now.st_size) != 0) fail("can't be cut to its length", file->path);
  file->count = 0;
}

static void bring_folder(struct file *folder) {
  bring_changes(folder->path, NULL);
  for (int i = 0; i < MAX_FILES; i++) {
    struct file *file = &files[i];
    if (!file->path[0] || file->is_folder || !file->is_new || !in_folder(file->path, folder->path)) continue;
    open_mirror(file, O_TRUNC);
    file->is_new = 0;
  }
}

static void sync_fd(int fd) {
  if (fd < 0 || fd >= MAX_FDS || !file_of[fd]) return;
  nanosleep(&sync_time, NULL);
  pthread_mutex_lock(&lock);
  struct file *file = of_fd(fd);
  if (file && file->is_folder) bring_folder(file);
  else if (file) bring_file(file, fd);
  pthread_mutex_unlock(&lock);
}

static void opened(int fd, int flags, int existed, off_t length) {
  char path[PATH_MAX];
  if (fd < 0 || root_length == 0) return;
  path_of(fd, path);
  if (!is_ours(path)) return;
  if (fd >= MAX_FDS) fail("too many descriptors", path);
  struct stat now;
  if (fstat(fd, &now) != 0) fail("no status", path);
  pthread_mutex_lock(&lock);
  struct file *file = find(path);
  if (!file) {
    file = add(path);
    file->is_folder = S_ISDIR(now.st_mode);
    file->is_new = !existed && !file->is_folder;
  }
  if ((flags & O_TRUNC) && existed) touch(file, 0, length);
  file_of[fd] = (short)(file - files + 1);
  pthread_mutex_unlock(&lock);
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
  REAL(int, "openat64", int, const char *, int, ...);
  struct stat before = {0};
  int existed = (flags & O_CREAT) == 0 || fstatat(folder, path, &before, 0) == 0;
  int fd = real(folder, path, flags, mode);
  opened(fd, flags, existed, before.st_size);
  return fd;
}

#define MODE(flags, last) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | __O_TMPFILE)) { \
    va_list list; \
    va_start(list, last); \
    mode = va_arg(list, mode_t); \
    va_end(list); \
  }

int open(const char *path, int flags, ...) { MODE(flags, flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags, flags) return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags, flags) return open_at(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < MAX_FDS) file_of[fd] = 0;
  pthread_mutex_unlock(&lock);
  return real_close(fd);
}

static void wrote(int fd, off_t from, ssize_t length) {
  if (length <= 0) return;
  pthread_mutex_lock(&lock);
  struct file *file = of_fd(fd);
  if (file) touch(file, from, from + length);
  pthread_mutex_unlock(&lock);
}

/* Where a write without a position has ended. */
static void wrote_here(int fd, ssize_t length) {
  if (length <= 0 || fd < 0 || fd >= MAX_FDS || !file_of[fd]) return;
  int failure = errno;
  wrote(fd, lseek(fd, 0, SEEK_CUR) - length, length);
  errno = failure;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(ssize_t, "write", int, const void *, size_t);
  ssize_t done = real(fd, bytes, length);
  wrote_here(fd, done);
  return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  ssize_t done = real(fd, parts, count);
  wrote_here(fd, done);
  return done;
}
static ssize_t write_at(int fd, const void *bytes, size_t length, off_t at) {
  ssize_t done = real_pwrite(fd, bytes, length, at);
  wrote(fd, at, done);
  return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return write_at(fd, bytes, length, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return write_at(fd, bytes, length, at); }
static ssize_t writev_at(int fd, const struct iovec *parts, int count, off_t at) {
  REAL(ssize_t, "pwritev64", int, const struct iovec *, int, off_t);
  ssize_t done = real(fd, parts, count, at);
  wrote(fd, at, done);
  return done;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return writev_at(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return writev_at(fd, parts, count, at); }

static int cut_to(int fd, off_t length) {
  struct stat before;
  int known = fstat(fd, &before) == 0;
  int done = real_ftruncate(fd, length);
  if (done == 0 && known) wrote(fd, length < before.st_size ? length : before.st_size, labs(before.st_size - length));
  return done;
}
int ftruncate(int fd, off_t length) { return cut_to(fd, length); }
int ftruncate64(int fd, off_t length) { return cut_to(fd, length); }

int fsync(int fd) {
  REAL(int, "fsync", int);
  int done = real(fd);
  if (done == 0) sync_fd(fd);
  return done;
}
int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  int done = real(fd);
  if (done == 0) sync_fd(fd);
  return done;
}

static void forget(struct file *file) {
  for (int fd = 0; fd < MAX_FDS; fd++)
    if (file_of[fd] == file - files + 1) file_of[fd] = 0;
  file->path[0] = 0;
  file->count = 0;
}

/* `to` is empty when `from` was removed. */
static void renamed(const char *from, const char *to) {
  if (!is_ours(from)) return;
  pthread_mutex_lock(&lock);
  struct file *replaced = to[0] ? find(to) : NULL;
  if (replaced) forget(replaced);
  struct file *file = find(from);
  int was_new = file ? file->is_new : 0;
  if (file && to[0]) {
    snprintf(file->path, sizeof file->path, "%s", to);
    if (file->mirror >= 0) real_close(file->mirror);
    file->mirror = -1;
  } else if (file) forget(file);
  if (!was_new) {
    if (change_count == MAX_CHANGES) fail("too many changes of names", from);
    snprintf(changes[change_count].from, PATH_MAX, "%s", from);
    snprintf(changes[change_count++].to, PATH_MAX, "%s", to);
  }
  pthread_mutex_unlock(&lock);
}

/* Absolute, with links in the folder resolved; the last part need not exist. */
static void absolute(const char *path, char *out) {
  char folder[PATH_MAX], real_folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%s", path);
  char *slash = strrchr(folder, '/');
  const char *name = slash ? strrchr(path, '/') + 1 : path;
  if (slash) *(slash == folder ? slash + 1 : slash) = 0;
  if (!realpath(slash ? folder : ".", real_folder)) real_folder[0] = 0;
  if (snprintf(out, PATH_MAX, "%s/%s", real_folder, name) >= PATH_MAX) fail("path too long", path);
}

int rename(const char *from, const char *to) {
  char old[PATH_MAX], fresh[PATH_MAX];
  absolute(from, old);
  absolute(to, fresh);
  int done = real_rename(from, to);
  if (done == 0 && root_length > 0) renamed(old, fresh);
  return done;
}
int unlink(const char *path) {
  char old[PATH_MAX];
  absolute(path, old);
  int done = real_unlink(path);
  if (done == 0 && root_length > 0) renamed(old, "");
  return done;
}

static void refuse(const char *what, int fd) {
  if (fd >= 0 && fd < MAX_FDS && file_of[fd]) fail(what, files[file_of[fd] - 1].path);
}
int posix_fallocate(int fd, off_t from, off_t length) {
  REAL(int, "posix_fallocate", int, off_t, off_t);
  refuse("posix_fallocate goes past the mirror", fd);
  return real(fd, from, length);
}
int fallocate(int fd, int mode, off_t from, off_t length) {
  REAL(int, "fallocate", int, int, off_t, off_t);
  refuse("fallocate goes past the mirror", fd);
  return real(fd, mode, from, length);
}
static void *map(void *at, size_t length, int protection, int flags, int fd, off_t from) {
  REAL(void *, "mmap64", void *, size_t, int, int, int, off_t);
  if ((flags & MAP_SHARED) && (protection & PROT_WRITE)) refuse("a shared mapping goes past the mirror", fd);
  return real(at, length, protection, flags, fd, from);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t from) {
  return map(at, length, protection, flags, fd, from);
}
void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t from) {
  return map(at, length, protection, flags, fd, from);
}
