/* The libc functions behind our hooks, as they stood before us. */
#ifndef GILPROBE_REAL_H
#define GILPROBE_REAL_H

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

/* X(name, version or NULL, return type, parameters) */
#define GP_REAL_FUNCTIONS(X)                                                                                        \
    X(sem_trywait, NULL, int, (sem_t *))                                                                            \
    X(sem_wait, NULL, int, (sem_t *))                                                                               \
    X(sem_timedwait, NULL, int, (sem_t *, const struct timespec *))                                                 \
    X(sem_clockwait, NULL, int, (sem_t *, clockid_t, const struct timespec *))                                      \
    X(sem_post, NULL, int, (sem_t *))                                                                               \
    X(pthread_cond_wait, "GLIBC_2.3.2", int, (pthread_cond_t *, pthread_mutex_t *))                                 \
    X(pthread_cond_timedwait, "GLIBC_2.3.2", int, (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))   \
    X(pthread_cond_clockwait, NULL, int, (pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *)) \
    X(pthread_cond_signal, "GLIBC_2.3.2", int, (pthread_cond_t *))                                                  \
    X(pthread_cond_broadcast, "GLIBC_2.3.2", int, (pthread_cond_t *))                                               \
    X(pthread_mutex_lock, NULL, int, (pthread_mutex_t *))                                                           \
    X(pthread_mutex_timedlock, NULL, int, (pthread_mutex_t *, const struct timespec *))                             \
    X(pthread_mutex_trylock, NULL, int, (pthread_mutex_t *))                                                        \
    X(pthread_mutex_unlock, NULL, int, (pthread_mutex_t *))                                                         \
    X(pthread_rwlock_rdlock, NULL, int, (pthread_rwlock_t *))                                                       \
    X(pthread_rwlock_wrlock, NULL, int, (pthread_rwlock_t *))                                                       \
    X(pthread_rwlock_tryrdlock, NULL, int, (pthread_rwlock_t *))                                                    \
    X(pthread_rwlock_trywrlock, NULL, int, (pthread_rwlock_t *))                                                    \
    X(pthread_rwlock_unlock, NULL, int, (pthread_rwlock_t *))                                                       \
    X(pthread_join, NULL, int, (pthread_t, void **))                                                                \
    X(pthread_create, NULL, int, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))                  \
    X(sched_yield, NULL, int, (void))                                                                               \
    X(syscall, NULL, long, (long, ...))                                                                             \
    X(nanosleep, NULL, int, (const struct timespec *, struct timespec *))                                           \
    X(clock_nanosleep, NULL, int, (clockid_t, int, const struct timespec *, struct timespec *))                     \
    X(usleep, NULL, int, (useconds_t))                                                                              \
    X(poll, NULL, int, (struct pollfd *, nfds_t, int))                                                              \
    X(ppoll, NULL, int, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))                       \
    X(select, NULL, int, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                                     \
    X(pselect, NULL, int, (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))           \
    X(epoll_wait, NULL, int, (int, struct epoll_event *, int, int))                                                 \
    X(epoll_pwait, NULL, int, (int, struct epoll_event *, int, int, const sigset_t *))                              \
    X(read, NULL, ssize_t, (int, void *, size_t))                                                                   \
    X(pread64, NULL, ssize_t, (int, void *, size_t, off_t))                                                         \
    X(readv, NULL, ssize_t, (int, const struct iovec *, int))                                                       \
    X(recv, NULL, ssize_t, (int, void *, size_t, int))                                                              \
    X(recvfrom, NULL, ssize_t, (int, void *, size_t, int, struct sockaddr *, socklen_t *))                          \
    X(recvmsg, NULL, ssize_t, (int, struct msghdr *, int))                                                          \
    X(accept, NULL, int, (int, struct sockaddr *, socklen_t *))                                                     \
    X(accept4, NULL, int, (int, struct sockaddr *, socklen_t *, int))                                               \
    X(write, NULL, ssize_t, (int, const void *, size_t))                                                            \
    X(pwrite64, NULL, ssize_t, (int, const void *, size_t, off_t))                                                  \
    X(writev, NULL, ssize_t, (int, const struct iovec *, int))                                                      \
    X(send, NULL, ssize_t, (int, const void *, size_t, int))                                                        \
    X(sendto, NULL, ssize_t, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))                  \
    X(sendmsg, NULL, ssize_t, (int, const struct msghdr *, int))                                                    \
    X(connect, NULL, int, (int, const struct sockaddr *, socklen_t))                                                \
    X(fsync, NULL, int, (int))                                                                                      \
    X(fdatasync, NULL, int, (int))                                                                                  \
    X(flock, NULL, int, (int, int))                                                                                 \
    X(waitpid, NULL, pid_t, (pid_t, int *, int))                                                                    \
    X(wait4, NULL, pid_t, (pid_t, int *, int, struct rusage *))                                                     \
    X(waitid, NULL, int, (idtype_t, id_t, siginfo_t *, int))                                                        \
    X(sigwait, NULL, int, (const sigset_t *, int *))                                                                \
    X(sigwaitinfo, NULL, int, (const sigset_t *, siginfo_t *))                                                      \
    X(sigtimedwait, NULL, int, (const sigset_t *, siginfo_t *, const struct timespec *))                            \
    X(pause, NULL, int, (void))                                                                                     \
    X(vfork, NULL, pid_t, (void))                                                                                   \
    X(_exit, NULL, void, (int))                                                                                     \
    X(execve, NULL, int, (const char *, char *const[], char *const[]))                                              \
    X(fexecve, NULL, int, (int, char *const[], char *const[]))                                                      \
    X(execvpe, NULL, int, (const char *, char *const[], char *const[]))                                             \
    X(posix_spawn, "GLIBC_2.15", int,                                                                               \
      (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],         \
       char *const[]))                                                                                              \
    X(posix_spawnp, "GLIBC_2.15", int,                                                                              \
      (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],         \
       char *const[]))

#define GP_DECLARE_REAL(name, version, result, parameters) result(*name) parameters;
typedef struct {
    GP_REAL_FUNCTIONS(GP_DECLARE_REAL)
} RealFunctions;
#undef GP_DECLARE_REAL

extern RealFunctions gp_real;

void gp_resolve_real(void);

/* A hook may be called before our constructor, from another library's. */
static inline void gp_need_real(void) {
    if (__builtin_expect(!gp_real.posix_spawnp, 0))
        gp_resolve_real();
}

#endif
