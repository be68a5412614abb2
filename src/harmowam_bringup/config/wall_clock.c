/* For tests, preloaded: a wall clock that can be set for some processes alone, all of them at the same moment.

   HARMOWAM_CLOCK_OFFSET names a file of one int64, ns, which is added to CLOCK_REALTIME; write to it to set the clock.
   Steady clocks are left alone. Waits until a moment of the wall clock are handed on in true time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define IS_WALL_S 1000000000 /* a time after 2001; steady clocks begin at the last start of the machine */

static const volatile int64_t none = 0;
static const volatile int64_t *offset = &none;
static int (*true_gettime)(clockid_t, struct timespec *);
static int (*true_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*true_cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
static int (*true_sem_timedwait)(sem_t *, const struct timespec *);
static int (*true_sem_clockwait)(sem_t *, clockid_t, const struct timespec *);

static void *find(const char *name) {
  void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2"); /* x86-64 keeps older ones beside it */
  return found != NULL ? found : dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void) {
  true_cond_timedwait = find("pthread_cond_timedwait");
  true_cond_clockwait = find("pthread_cond_clockwait");
  true_sem_timedwait = find("sem_timedwait");
  true_sem_clockwait = find("sem_clockwait");
  const char *path = getenv("HARMOWAM_CLOCK_OFFSET");
  int file = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) {
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) offset = mapped;
    close(file);
  }
  true_gettime = find("clock_gettime");
}

static struct timespec moved(const struct timespec *at, int64_t by_ns) {
  int64_t ns = at->tv_sec * NS + at->tv_nsec + by_ns;
  return (struct timespec){.tv_sec = ns / NS, .tv_nsec = ns % NS};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = true_gettime != NULL ? true_gettime(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *now = moved(now, *offset);
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec exact;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  *now = (struct timeval){.tv_sec = exact.tv_sec, .tv_usec = exact.tv_nsec / 1000};
  return 0;
}

time_t time(time_t *out) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (out != NULL) *out = exact.tv_sec;
  return exact.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
  struct timespec truly = moved(until, until->tv_sec > IS_WALL_S ? -*offset : 0);
  return true_cond_timedwait(condition, mutex, &truly);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until) {
  struct timespec truly = moved(until, clock == CLOCK_REALTIME ? -*offset : 0);
  return true_cond_clockwait(condition, mutex, clock, &truly);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  struct timespec truly = moved(until, -*offset);
  return true_sem_timedwait(semaphore, &truly);
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict until) {
  struct timespec truly = moved(until, clock == CLOCK_REALTIME ? -*offset : 0);
  return true_sem_clockwait(semaphore, clock, &truly);
}
