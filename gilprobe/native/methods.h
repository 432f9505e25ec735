/* The interpreter's own method tables, and what of its C interface the swapped methods use. */
#ifndef GILPROBE_METHODS_H
#define GILPROBE_METHODS_H

#include "watch.h"

#pragma GCC visibility push(hidden)

/* CPython Include/methodobject.h, the same since 3.0. */
typedef struct {
    const char *name;
    _Atomic(void *) function;
    int flags;
    const char *doc;
} MethodDef;
enum { METH_KEYWORDS = 2, METH_FASTCALL = 0x80 };

/* All of CPython's method signatures pass at most four words in registers, so one type stands for all. */
typedef void *(*Method)(void *self, void *a, void *b, void *c);

enum Which {
    LOCK_ACQUIRE_LOCK,
    LOCK_ACQUIRE,
    LOCK_RELEASE_LOCK,
    LOCK_RELEASE,
    LOCK_ENTER,
    LOCK_EXIT,
    LOCK_REINIT,
    RLOCK_ACQUIRE,
    RLOCK_RELEASE,
    RLOCK_ACQUIRE_RESTORE,
    RLOCK_RELEASE_SAVE,
    RLOCK_ENTER,
    RLOCK_EXIT,
    RLOCK_REINIT,
    RLOCK_IS_OWNED,
    HANDLE_JOIN,
    ALLOCATE_LOCK,
    ALLOCATE,
    METHODS
};

typedef struct {
    MethodDef *method;
    Method original;
    int flags;
} Swapped;
extern Swapped gp_swapped[METHODS];

extern uint64_t gp_head_bytes; /* sizeof(PyObject) */
extern uint64_t gp_items_at;   /* PyTupleObject.ob_item: after ob_size, and from 3.14 on after ob_hash */
extern void *gp_true, *gp_false;
typedef struct {
    int (*is_true)(void *);
    double (*as_double)(void *);
    long (*as_long)(void *);
    void *(*dict_get)(void *, const char *);
    void *(*err_occurred)(void);
    void (*err_clear)(void);
    void (*set_error)(void *, const char *);
    void *(*float_of)(double);
    void *(*tuple_of)(long, ...);
    void (*dec_ref)(void *);
} PythonFunctions;
extern PythonFunctions gp_py;

/* methods.c */
bool gp_methods_find(void); /* false where this interpreter's tables are not as we know them */
bool gp_is_named(const MethodDef *method, const char *name);

/* slices.c */
void *gp_acquire_in_slices(enum LockKind kind, void *self, LockThread *thread);
void *gp_join_in_slices(void *self, Method original, LockThread *thread);

#pragma GCC visibility pop
#endif
