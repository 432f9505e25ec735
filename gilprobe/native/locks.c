/* Holders: the C functions behind _thread.lock's, RLock's and _ThreadHandle's methods, swapped for ones that note
 * who has what. The method tables are static data of the interpreter, found by the names in them: no Python code runs,
 * locks made before and after are seen alike, and undoing it leaves every table as it was. */
#define _GNU_SOURCE
#include "graph.h"
#include "asked.h"

#include <dlfcn.h>
#include <string.h>

#include "python.h"

uint64_t gp_head_bytes, gp_items_at;
void *gp_true, *gp_false;
PythonFunctions gp_py;
WatchOptions gp_watch;
_Atomic uint64_t gp_locks_dropped;

/* PAUSED: on, but the watchdog's thread must be started again before anyone can wait. */
enum Watching { OFF, ON, PAUSED };
static _Atomic int watching;

static const char *(*attached_state)(void);

/* threading.Condition.wait's own code: the lock it makes for each waiter is a signal, not a lock. */
#define MOST_WAIT_CODES 8
static _Atomic uint64_t wait_codes[MOST_WAIT_CODES];

/* Is it off? */
static __attribute__((noinline)) bool is_off_or_go_on(void) {
    int paused = PAUSED;
    if (atomic_compare_exchange_strong(&watching, &paused, ON))
        gp_watchdog_start();
    return paused == OFF;
}

void gp_locks_pause(bool pause) {
    int expected = pause ? ON : PAUSED;
    atomic_compare_exchange_strong(&watching, &expected, pause ? PAUSED : ON);
}

static FAST LockThread *here(void) {
    if (GP_RARE(atomic_load_explicit(&watching, memory_order_relaxed) != ON && is_off_or_go_on()))
        return NULL;
    LockThread *thread = gp_lock_thread;
    return GP_RARE(!thread) ? gp_lock_thread_new() : thread;
}

/* ---- what a thread has */

/* The frame that 3.12 and later put under a specialised call of a class: it has no file of its own. */
static FAST bool is_shim(uint64_t code) {
    return GP_AT(uint64_t, code, gp_python.code_file) == GP_AT(uint64_t, code, gp_python.code_qualname);
}

static FAST const char *frame_here(void) {
    const char *state = attached_state(); /* a method runs: it is attached, and dearer ways need not be taken */
    return state ? gp_current_frame(state) : NULL;
}

static FAST uint64_t code_of(const char *frame) { return GP_AT(uint64_t, frame, gp_python.frame_code) & ~7ull; }

static FAST bool is_hidden(const char *frame) {
    return GP_AT(uint8_t, frame, gp_python.frame_owner) >= gp_python.first_hidden_owner;
}

void gp_place_here(Place *place) {
    int count = 0;
    for (const char *frame = frame_here(); frame && count < GP_PLACE_FRAMES;
         frame = GP_AT(const char *, frame, gp_python.frame_previous)) {
        uint64_t code = is_hidden(frame) ? 0 : code_of(frame);
        if (!code || is_shim(code))
            continue;
        place->code[count] = code;
        place->instruction[count++] = GP_AT(uint64_t, frame, gp_python.frame_instruction);
    }
    for (; count < GP_PLACE_FRAMES; count++)
        place->code[count] = place->instruction[count] = 0;
}

/* Is this the standard library's own waiting code, which says little without its caller? Kept by code object, whose
 * low bits are free: KNOWN, and what it is. */
enum CodeBits { KNOWN = 1, LIBRARY = 2, INTERNAL = 4, CODE_BITS = 7 };
#define CODES_KNOWN 512
static _Atomic uint64_t codes_known[CODES_KNOWN];

static __attribute__((noinline)) uint8_t look_at_code(uint64_t code, _Atomic uint64_t *entry) {
    static const char *const ends[] = {"/threading.py", "/queue.py",    "/contextlib.py", "/_base.py",
                                       "/thread.py",    "/__init__.py", "_bootstrap>"};
    char file[600];
    uint32_t bytes = gp_text(GP_AT(const char *, code, gp_python.code_file), file, sizeof file);
    uint64_t bits = KNOWN;
    for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        uint32_t end = (uint32_t)strlen(ends[i]);
        if (bytes >= end && !memcmp(file + bytes - end, ends[i], end))
            bits |= LIBRARY;
    }
    /* These take locks that are no one's but their own: a thread's end, a waiter's signal, the import system's. */
    static const char *const internal[] = {"Thread._set_tstate_lock", "Thread._reset_internal_locks", "Condition.wait",
                                           "_ModuleLock.acquire", "_ModuleLock.release"};
    char name[64];
    uint32_t name_bytes = gp_text(GP_AT(const char *, code, gp_python.code_qualname), name, sizeof name);
    for (unsigned i = 0; bits & LIBRARY && i < sizeof internal / sizeof internal[0]; i++)
        if (name_bytes == strlen(internal[i]) && !memcmp(name, internal[i], name_bytes))
            bits |= INTERNAL;
    atomic_store_explicit(entry, code | bits, memory_order_relaxed);
    return (uint8_t)bits;
}

static FAST uint8_t bits_of(uint64_t code) {
    _Atomic uint64_t *entry = &codes_known[code * 0x9E3779B97F4A7C15u >> 55];
    uint64_t there = atomic_load_explicit(entry, memory_order_relaxed);
    return (there & ~(uint64_t)CODE_BITS) == code && there ? (uint8_t)(there & CODE_BITS) : look_at_code(code, entry);
}

/* One frame is enough where the program itself takes the lock. */
static FAST uint8_t place_here(Place *place) {
    const char *frame = frame_here();
    uint64_t code = frame && !is_hidden(frame) ? code_of(frame) : 0;
    uint8_t bits = code ? bits_of(code) : LIBRARY;
    if (GP_RARE(bits & LIBRARY)) {
        gp_place_here(place);
        return bits;
    }
    place->code[0] = code;
    place->instruction[0] = GP_AT(uint64_t, frame, gp_python.frame_instruction);
    place->code[1] = 0;
    return bits;
}

bool gp_locks_watching(void) { return atomic_load_explicit(&watching, memory_order_relaxed) != OFF; }

static FAST Held *find(LockThread *thread, uint64_t lock) {
    for (uint32_t i = thread->depth; i-- > 0;)
        if (thread->held[i].lock == lock)
            return &thread->held[i];
    return NULL;
}

static FAST void trim(LockThread *thread) {
    while (thread->depth && !thread->held[thread->depth - 1].lock)
        thread->depth--;
}

/* Was the lock freed while it was held, and another made at its address? */
bool gp_is_stale(const Held *held) { return gp_birth_of(held->lock) > held->clock; }

/* Is this still a lock? It may have been freed while it was held. On free-threaded builds the counts tell, which are
 * 12 and 16 bytes into the object and stay there when it is freed; on others the allocator's own use of its first word
 * does not, but the type does not outlive the next object there. */
static bool still_a_lock(uint64_t lock, uint64_t type) {
    uint64_t words[6];
    if (!gp_read_safely(words, lock, (uint32_t)gp_head_bytes + 16) || words[gp_head_bytes / 8 - 1] != type)
        return false;
    return !gp_python.free_threaded || words[1] >> 32 || (int64_t)words[2] >> 2 > 0;
}

/* Room for one more: what was freed while held is dropped, and where that is not enough the older half. */
static __attribute__((noinline)) void make_room(LockThread *thread, uint64_t type) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < thread->depth; i++)
        if (thread->held[i].lock && !gp_is_stale(&thread->held[i]) && still_a_lock(thread->held[i].lock, type))
            thread->held[kept++] = thread->held[i];
    if (kept > GP_MOST_HELD / 2) {
        uint32_t dropped = kept == GP_MOST_HELD ? GP_MOST_HELD / 2 : 0;
        memmove(&thread->held[0], &thread->held[dropped], (kept - dropped) * sizeof thread->held[0]);
        kept -= dropped;
        thread->dropped += dropped;
        atomic_fetch_add_explicit(&gp_locks_dropped, dropped, memory_order_relaxed);
    }
    for (uint32_t i = kept; i < thread->depth; i++)
        thread->held[i].lock = 0;
    thread->depth = kept;
}

static FAST bool is_wait_code(uint64_t code) {
    for (int i = 0; i < MOST_WAIT_CODES; i++) {
        uint64_t known = atomic_load_explicit(&wait_codes[i], memory_order_relaxed);
        if (!known)
            return false;
        if (known == code)
            return true;
    }
    return false;
}

bool gp_is_wait_code(uint64_t code) { return is_wait_code(code); }

static void learn_wait_code(uint64_t code) {
    if (!gp_code_is(code, "Condition.wait", "threading.py"))
        return;
    for (int i = 0; i < MOST_WAIT_CODES; i++) {
        uint64_t known = 0;
        if (atomic_compare_exchange_strong(&wait_codes[i], &known, code) || known == code)
            return;
    }
}

static _Atomic bool type_known[3];

/* Both types as soon as one lock of either is met, so that those made before their first use are seen too. */
void gp_locks_learn_types(void) {
    void *(*sys)(const char *) = (void *(*)(const char *))dlsym(RTLD_DEFAULT, "PySys_GetObject");
    void *(*attribute)(void *, const char *) =
        (void *(*)(void *, const char *))dlsym(RTLD_DEFAULT, "PyObject_GetAttrString");
    void *modules = sys ? sys("modules") : NULL, *module = modules ? gp_py.dict_get(modules, "_thread") : NULL;
    static const char *const names[] = {[GP_LOCK] = "LockType", [GP_RLOCK] = "RLock"};
    for (int kind = GP_LOCK; module && attribute && kind <= GP_RLOCK; kind++) {
        void *type = attribute(module, names[kind]);
        if (type) {
            gp_learn_lock_type((uint64_t)type); /* the reference is kept: its tp_new is ours */
            atomic_store(&type_known[kind], true);
        }
    }
    if (gp_py.err_occurred && gp_py.err_occurred())
        gp_py.err_clear();
}

static __attribute__((noinline)) void learn_type(uint64_t lock, enum LockKind kind) {
    gp_learn_lock_type(GP_AT(uint64_t, lock, gp_head_bytes - 8));
    atomic_store(&type_known[kind], true);
    gp_locks_learn_types();
}

static FAST void taken(LockThread *thread, uint64_t lock, enum LockKind kind, uint8_t ask, uint32_t count) {
    uint32_t clock = atomic_load_explicit(&gp_birth_clock, memory_order_relaxed);
    thread->touched[gp_touched_at(lock)] = lock >> 4 << 32 | clock;
    if (GP_RARE(thread->depth == GP_MOST_HELD))
        make_room(thread, GP_AT(uint64_t, lock, gp_head_bytes - 8));
    Held *held = &thread->held[thread->depth];
    held->internal = place_here(&held->taken) & INTERNAL;
    if (kind == GP_LOCK && is_wait_code(held->taken.code[0]))
        return;
    if (GP_RARE(!atomic_load_explicit(&type_known[kind], memory_order_relaxed)))
        learn_type(lock, kind);
    held->kind = (uint8_t)kind;
    held->ask = ask;
    held->count = count;
    held->clock = clock;
    /* Release: the watchdog reads an entry whose lock is set. */
    __atomic_store_n(&held->lock, lock, __ATOMIC_RELEASE);
    uint32_t tick = atomic_load_explicit(&gp_watch_tick, memory_order_relaxed);
    held->since_ns = 0;
    held->tick = tick;
    if (GP_RARE(tick != thread->timer.tick || !thread->timer.until))
        gp_hold_begin(thread, held);
    else
        thread->timer.until--;
    if (thread->depth++)
        gp_order_taken(thread, held);
}

static FAST void drop(LockThread *thread, Held *held) {
    held->lock = 0;
    trim(thread);
}

/* ---- the methods */

static FAST void ask(LockThread *thread, uint64_t lock, enum LockKind kind, uint8_t how) {
    thread->sequence++;
    thread->asked_kind = (uint8_t)kind;
    thread->asked_how = how;
    /* Release: the watchdog reads what it is when it sees that there is one. */
    __atomic_store_n(&thread->asked, lock, __ATOMIC_RELEASE);
}

static FAST void *acquire(int flags, Method original, enum LockKind kind, void *self, void *a, void *b, void *c) {
    LockThread *thread = here();
    if (GP_RARE(!thread))
        return original(self, a, b, c);
    uint64_t lock = (uint64_t)self;
    uint8_t how = ask_of(flags, a, b, c);
    Held *own = find(thread, lock);
    if (GP_RARE(own && gp_is_stale(own))) {
        own->lock = 0;
        trim(thread);
        own = NULL;
    }
    if (GP_RARE(own && kind == GP_LOCK)) {
        how |= GP_ASK_AGAIN;
        Place place;
        if (place_here(&place) & INTERNAL && !is_wait_code(place.code[0]))
            learn_wait_code(place.code[0]);
        if (how & GP_ASK_TRY)
            gp_asked_owner(lock);
    }
    ask(thread, lock, kind, how);
    void *result = GP_RARE(gp_watch.on_deadlock == GP_RAISE && !(how & ~GP_ASK_AGAIN))
                       ? gp_acquire_in_slices(kind, self, thread)
                       : original(self, a, b, c);
    thread->asked = 0;
    if (result == gp_true) {
        if (__builtin_expect(!own, 1))
            taken(thread, lock, kind, how, 1);
        else if (kind == GP_RLOCK)
            own->count++;
        else if (own->lock == lock)
            drop(thread, own); /* someone has released it: a signal that was waited for */
    }
    return result;
}

static FAST void release(void *self, enum LockKind kind, bool whole) {
    /* Not here(): os.fork() releases locks before it counts the threads. */
    LockThread *thread = gp_lock_thread;
    if (GP_RARE(!thread) || GP_RARE(!atomic_load_explicit(&watching, memory_order_relaxed)))
        return;
    uint64_t lock = (uint64_t)self;
    Held *own = find(thread, lock);
    thread->last_released = lock;
    if (GP_RARE(!own)) {
        if (kind == GP_LOCK)
            gp_released_by_another(thread, lock);
    } else if (kind == GP_RLOCK && own->count > 1 && !whole) {
        own->count--;
    } else {
        if (GP_RARE(own->since_ns || atomic_load_explicit(&gp_watch_tick, memory_order_relaxed) - own->tick > 1))
            gp_hold_end(thread, own);
        drop(thread, own);
    }
}

static void forget(void *self) {
    for (LockThread *other = gp_lock_threads(); other; other = other->next_all)
        for (uint32_t i = 0; i < GP_MOST_HELD; i++)
            if (other->held[i].lock == (uint64_t)self)
                other->held[i].lock = 0;
}

#define ACQUIRE(which, kind)                                                                      \
    static void *wrap_##which(void *self, void *a, void *b, void *c) {                            \
        return acquire(gp_swapped[which].flags, gp_swapped[which].original, kind, self, a, b, c); \
    }
#define RELEASE(which, kind, whole)                                    \
    static void *wrap_##which(void *self, void *a, void *b, void *c) { \
        release(self, kind, whole);                                    \
        return gp_swapped[which].original(self, a, b, c);              \
    }
#define REINIT(which)                                                  \
    static void *wrap_##which(void *self, void *a, void *b, void *c) { \
        if (here())                                                    \
            forget(self);                                              \
        return gp_swapped[which].original(self, a, b, c);              \
    }

static void *allocated(void *lock) {
    if (lock && gp_locks_watching()) {
        if (GP_RARE(!atomic_load_explicit(&type_known[GP_RLOCK], memory_order_relaxed)))
            learn_type((uint64_t)lock, GP_LOCK);
        gp_born((uint64_t)lock);
    }
    return lock;
}

#define ALLOCATE_BY(which)                                             \
    static void *wrap_##which(void *self, void *a, void *b, void *c) { \
        return allocated(gp_swapped[which].original(self, a, b, c));   \
    }

ALLOCATE_BY(ALLOCATE_LOCK)
ALLOCATE_BY(ALLOCATE)
ACQUIRE(LOCK_ACQUIRE_LOCK, GP_LOCK)
ACQUIRE(LOCK_ACQUIRE, GP_LOCK)
ACQUIRE(LOCK_ENTER, GP_LOCK)
ACQUIRE(RLOCK_ACQUIRE, GP_RLOCK)
ACQUIRE(RLOCK_ENTER, GP_RLOCK)
RELEASE(LOCK_RELEASE_LOCK, GP_LOCK, false)
RELEASE(LOCK_RELEASE, GP_LOCK, false)
RELEASE(LOCK_EXIT, GP_LOCK, false)
RELEASE(RLOCK_RELEASE, GP_RLOCK, false)
RELEASE(RLOCK_EXIT, GP_RLOCK, false)
RELEASE(RLOCK_RELEASE_SAVE, GP_RLOCK, true)
REINIT(LOCK_REINIT)
REINIT(RLOCK_REINIT)

static void *wrap_RLOCK_IS_OWNED(void *self, void *a, void *b, void *c) {
    if (gp_locks_watching())
        gp_asked_owner((uint64_t)self);
    return gp_swapped[RLOCK_IS_OWNED].original(self, a, b, c);
}

/* state: (count, owner), as _release_save gave it. */
static void *wrap_RLOCK_ACQUIRE_RESTORE(void *self, void *a, void *b, void *c) {
    Method original = gp_swapped[RLOCK_ACQUIRE_RESTORE].original;
    LockThread *thread = here();
    if (!thread)
        return original(self, a, b, c);
    /* METH_VARARGS: a tuple around the state; METH_O: the state itself. */
    void *state = a;
    if (!(gp_swapped[RLOCK_ACQUIRE_RESTORE].method->flags & 8) && GP_AT(uint64_t, a, gp_head_bytes) == 1)
        state = GP_AT(void *, a, gp_items_at);
    long count = state && GP_AT(uint64_t, state, gp_head_bytes) == 2 && gp_py.as_long
                     ? gp_py.as_long(GP_AT(void *, state, gp_items_at))
                     : 1;
    ask(thread, (uint64_t)self, GP_RLOCK, 0);
    void *result = original(self, a, b, c);
    thread->asked = 0;
    if (result)
        taken(thread, (uint64_t)self, GP_RLOCK, 0, count > 0 ? (uint32_t)count : 1);
    return result;
}

/* _ThreadHandle.join(timeout=None) */
static void *wrap_HANDLE_JOIN(void *self, void *a, void *b, void *c) {
    Method original = gp_swapped[HANDLE_JOIN].original;
    LockThread *thread = here();
    if (!thread)
        return original(self, a, b, c);
    static void *none;
    if (!none)
        none = dlsym(RTLD_DEFAULT, "_Py_NoneStruct");
    uint64_t count = a ? GP_AT(uint64_t, a, gp_head_bytes) : 0;
    void *timeout = count ? GP_AT(void *, a, gp_items_at) : none;
    uint8_t how = timeout == none ? 0 : gp_asked_how(NULL, timeout);
    /* PyThreadHandleObject.handle, ThreadHandle.ident (CPython Modules/_threadmodule.c, the same in 3.13 to 3.15) */
    uint64_t handle = GP_AT(uint64_t, self, gp_head_bytes);
    ask(thread, handle ? GP_AT(uint64_t, handle, 32) : 0, GP_JOIN, how);
    void *result =
        gp_watch.on_deadlock == GP_RAISE && !how && gp_is_named(&gp_swapped[HANDLE_JOIN].method[2], "is_done")
            ? gp_join_in_slices(self, original, thread)
            : original(self, a, b, c);
    thread->asked = 0;
    return result;
}

#define ENTRY(which) [which] = (void *)wrap_##which
static void *const wrappers[METHODS] = {ENTRY(LOCK_ACQUIRE_LOCK),  ENTRY(LOCK_ACQUIRE),
                                        ENTRY(LOCK_RELEASE_LOCK),  ENTRY(LOCK_RELEASE),
                                        ENTRY(LOCK_ENTER),         ENTRY(LOCK_EXIT),
                                        ENTRY(LOCK_REINIT),        ENTRY(RLOCK_ACQUIRE),
                                        ENTRY(RLOCK_RELEASE),      ENTRY(RLOCK_ACQUIRE_RESTORE),
                                        ENTRY(RLOCK_RELEASE_SAVE), ENTRY(RLOCK_ENTER),
                                        ENTRY(RLOCK_EXIT),         ENTRY(RLOCK_REINIT),
                                        ENTRY(RLOCK_IS_OWNED),     ENTRY(HANDLE_JOIN),
                                        ENTRY(ALLOCATE_LOCK),      ENTRY(ALLOCATE)};

/* False where this interpreter's tables are not as we know them. */
bool gp_locks_install(void) {
    if (!gp_python.known)
        return false;
    if (!gp_swapped[LOCK_ACQUIRE].method && !gp_methods_find())
        return false;
    gp_lock_threads_setup();
    gp_head_bytes = gp_python.object_type + 8u;
    gp_items_at = gp_head_bytes + (gp_python.minor >= 14 ? 16 : 8);
    gp_true = dlsym(RTLD_DEFAULT, "_Py_TrueStruct");
    gp_false = dlsym(RTLD_DEFAULT, "_Py_FalseStruct");
    gp_py.is_true = (int (*)(void *))dlsym(RTLD_DEFAULT, "PyObject_IsTrue");
    gp_py.as_double = (double (*)(void *))dlsym(RTLD_DEFAULT, "PyFloat_AsDouble");
    gp_py.as_long = (long (*)(void *))dlsym(RTLD_DEFAULT, "PyLong_AsLong");
    gp_py.dict_get = (void *(*)(void *, const char *))dlsym(RTLD_DEFAULT, "PyDict_GetItemString");
    gp_py.err_occurred = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyErr_Occurred");
    gp_py.err_clear = (void (*)(void))dlsym(RTLD_DEFAULT, "PyErr_Clear");
    gp_py.set_error = (void (*)(void *, const char *))dlsym(RTLD_DEFAULT, "PyErr_SetString");
    gp_py.float_of = (void *(*)(double))dlsym(RTLD_DEFAULT, "PyFloat_FromDouble");
    gp_py.tuple_of = (void *(*)(long, ...))dlsym(RTLD_DEFAULT, "PyTuple_Pack");
    gp_py.dec_ref = (void (*)(void *))dlsym(RTLD_DEFAULT, "Py_DecRef");
    attached_state = (const char *(*)(void))dlsym(RTLD_DEFAULT, "PyThreadState_GetUnchecked");
    if (!attached_state)
        attached_state = (const char *(*)(void))dlsym(RTLD_DEFAULT, "_PyThreadState_UncheckedGet");
    if (!attached_state)
        attached_state = (const char *(*)(void))gp_python.thread_state;
    if (!gp_true || !gp_py.dict_get || !gp_py.set_error || !gp_py.float_of || !gp_py.tuple_of || !gp_py.dec_ref)
        return false;
    atomic_store(&watching, ON);
    for (int which = 0; which < METHODS; which++)
        if (gp_swapped[which].method)
            atomic_store(&gp_swapped[which].method->function, wrappers[which]);
    return true;
}

/* A thread may be inside a wrapper, and 3.15's JIT may keep calling one: they pass through for ever. */
void gp_locks_uninstall(void) {
    atomic_store(&watching, OFF);
    for (int which = 0; which < METHODS; which++)
        if (gp_swapped[which].method)
            atomic_store(&gp_swapped[which].method->function, (void *)gp_swapped[which].original);
    gp_births_uninstall();
    atomic_store(&type_known[GP_LOCK], false);
    atomic_store(&type_known[GP_RLOCK], false);
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all) {
        /* What it holds now may be released unseen. */
        for (uint32_t i = 0; i < GP_MOST_HELD; i++)
            thread->held[i].lock = 0;
        thread->asked = 0;
    }
}
