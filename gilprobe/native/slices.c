/* Waits that the watchdog may end by an error. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "methods.h"

#define SLICE_S 0.05

/* gilprobe.DeadlockError: there is one, whether or not the program has imported gilprobe. Called with the GIL. */
GP_EXPORT void *gilprobe_deadlock_error(void) {
    static void *_Atomic error;
    if (!error) {
        void **base = dlsym(RTLD_DEFAULT, "PyExc_RuntimeError");
        void *(*make)(const char *, void *, void *) =
            (void *(*)(const char *, void *, void *))dlsym(RTLD_DEFAULT, "PyErr_NewException");
        void *none = NULL, *fresh = make("gilprobe.DeadlockError", base ? *base : NULL, NULL);
        atomic_compare_exchange_strong(&error, &none, fresh);
    }
    return error;
}

/* _PyThread_AsyncExc would not wake a blocked acquire, so it waits in slices: acquire(True, SLICE_S), again and again.
 */
void *gp_acquire_in_slices(enum LockKind kind, void *self, LockThread *thread) {
    static void *arguments[2];
    static void *tuple;
    int which = kind == GP_RLOCK ? RLOCK_ACQUIRE : LOCK_ACQUIRE;
    if (!tuple) {
        arguments[0] = gp_true;
        arguments[1] = gp_py.float_of(SLICE_S);
        tuple = gp_py.tuple_of(2, arguments[0], arguments[1]);
    }
    thread->raise_error = 0;
    for (;;) {
        void *result = gp_swapped[which].flags & METH_FASTCALL
                           ? gp_swapped[which].original(self, arguments, (void *)2, NULL)
                           : gp_swapped[which].original(self, tuple, NULL, NULL);
        if (result != gp_false)
            return result;
        gp_py.dec_ref(result);
        if (__atomic_exchange_n(&thread->raise_error, 0, __ATOMIC_ACQUIRE)) {
            gp_py.set_error(gilprobe_deadlock_error(), "this thread and others wait for each other: see stderr");
            return NULL;
        }
    }
}

void *gp_join_in_slices(void *self, Method original, LockThread *thread) {
    static void *tuple;
    /* The table is join, _set_done, is_done. */
    Method is_done = (Method)gp_swapped[HANDLE_JOIN].method[2].function;
    if (!tuple)
        tuple = gp_py.tuple_of(1, gp_py.float_of(SLICE_S));
    thread->raise_error = 0;
    for (;;) {
        void *result = original(self, tuple, NULL, NULL);
        if (!result)
            return NULL;
        void *done = is_done(self, NULL, NULL, NULL);
        bool over = done != gp_false;
        if (done)
            gp_py.dec_ref(done);
        if (over)
            return result;
        gp_py.dec_ref(result);
        if (__atomic_exchange_n(&thread->raise_error, 0, __ATOMIC_ACQUIRE)) {
            gp_py.set_error(gilprobe_deadlock_error(), "this thread and others wait for each other: see stderr");
            return NULL;
        }
    }
}
