"""arenas.py SECONDS: threads that allocate in C code. With MALLOC_ARENA_MAX=1 they share one arena and its lock."""

import ctypes
import os
import subprocess
import sys
import tempfile

from truth import Truth, together

SOURCE = """
#include <stdlib.h>
#include <time.h>
long churn(double seconds) {
    struct timespec start, now;
    long turns = 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (int i = 0; i < 200; i++) {
            void *volatile block[8];
            /* Larger than a thread keeps for itself (tcache, up to 1032 bytes), smaller than what is mapped. */
            for (int j = 0; j < 8; j++) block[j] = malloc(2000 + 512 * j);
            for (int j = 0; j < 8; j++) free(block[j]);
            turns += 8;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec + 1e-9 * (now.tv_nsec - start.tv_nsec) < seconds);
    return turns;
}
"""
truth = Truth()
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "churn.c"), "w") as file:
    file.write(SOURCE)
subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", f"{folder}/libchurn.so", f"{folder}/churn.c"], check=True)
library = ctypes.CDLL(f"{folder}/libchurn.so")
library.churn.argtypes, library.churn.restype = (ctypes.c_double,), ctypes.c_long
turns = []


def allocates():
    turns.append(library.churn(float(sys.argv[1])))


together(allocates, allocates, allocates, allocates)
truth.facts["turns"] = sum(turns)
truth.tell()
