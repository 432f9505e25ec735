"""native.py CASE: mutexes and conditions of C code, built with gcc when run."""

import ctypes
import os
import subprocess
import sys
import tempfile
import time

from truth import Truth, together

SOURCE = """
#include <pthread.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t own[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int posted;
static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}
double hold(int milliseconds) {
    double start = now();
    pthread_mutex_lock(&mutex);
    double waited = now() - start;
    usleep(1000 * milliseconds);
    pthread_mutex_unlock(&mutex);
    return waited;
}
void hold_own(int milliseconds, int which) {
    pthread_mutex_lock(&own[which]);
    usleep(1000 * milliseconds);
    pthread_mutex_unlock(&own[which]);
}
void await_work(void) {
    pthread_mutex_lock(&mutex);
    while (!posted)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
}
void post_work(void) {
    pthread_mutex_lock(&mutex);
    posted = 1;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&mutex);
}
"""
truth = Truth()
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "zoo.c"), "w") as file:
    file.write(SOURCE)
subprocess.run(["gcc", "-shared", "-fPIC", "-o", f"{folder}/libzoo.so", f"{folder}/zoo.c", "-lpthread"], check=True)
library = ctypes.CDLL(f"{folder}/libzoo.so")
library.hold.restype = ctypes.c_double  # seconds waited for the mutex


def mutex():
    def body():
        for _ in range(10):
            truth.seconds["native"] += library.hold(5)

    together(body, body)


def mutex_local():
    together(*[lambda which=which: [library.hold_own(5, which) for _ in range(10)] for which in range(2)])


def condition():
    together(lambda: truth.timed("condition", library.await_work), lambda: (time.sleep(0.2), library.post_work()))


globals()[sys.argv[1]]()
truth.tell()
