/* Holders: the C functions behind _thread.lock's, RLock's and _ThreadHandle's methods, swapped for ones that note who
 * has what. The method tables are static data of the interpreter, found by the names in them: no Python code runs,
 * locks made before and after are seen alike, and undoing it leaves every table as it was. */
#define _GNU_SOURCE
#include "graph.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "python.h"

#define HANDED_BITS 10
#define FAST inline __attribute__((always_inline))

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

GP_TLS LockThread *gp_lock_thread;
static GP_TLS bool lock_thread_gone;
WatchOptions gp_watch;
_Atomic uint64_t gp_locks_dropped;

/* PAUSED: on, but the watchdog's thread must be started again before anyone can wait. */
enum Watching { OFF, ON, PAUSED };
static _Atomic int watching;
static _Atomic(LockThread *) all_threads;
static _Atomic uint32_t next_number;
static pthread_key_t end_of_thread;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static uint64_t head_bytes; /* sizeof(PyObject) */
static uint64_t items_at;   /* PyTupleObject.ob_item: after ob_size, and from 3.14 on after ob_hash */
static void *py_true, *py_false;
static const char *(*attached_state)(void);
static struct {
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
} py;

/* Locks that were once released by another thread than the one that took them: hand-overs, with no owner to wait for.
 */
static _Atomic uint64_t handed_over[1 << HANDED_BITS];

/* threading.Condition.wait's own code: the lock it makes for each waiter is a signal, not a lock. */
#define MOST_WAIT_CODES 8
static _Atomic uint64_t wait_codes[MOST_WAIT_CODES];

LockThread *gp_lock_threads(void) { return atomic_load_explicit(&all_threads, memory_order_acquire); }

/* ---- threads */

static void keep_what_it_holds(LockThread *thread, uint8_t ghost) {
    thread->ghost = ghost;
    thread->asked = 0;
}

static void thread_ended(void *argument) {
    LockThread *thread = argument;
    gp_lock_thread = NULL;
    lock_thread_gone = true;
    if (thread->slot && thread->slot->lock_thread == thread)
        thread->slot->lock_thread = NULL;
    bool holds = false;
    for (uint32_t i = 0; i < thread->depth; i++) {
        if (thread->held[i].internal)
            thread->held[i].lock = 0;
        else
            holds |= thread->held[i].lock && thread->held[i].kind == GP_LOCK;
    }
    if (holds) { /* its place is not used again, so that the report can say who took them */
        keep_what_it_holds(thread, 1);
        atomic_store_explicit(&thread->in_use, false, memory_order_release);
        return;
    }
    atomic_store_explicit(&thread->in_use, false, memory_order_release);
}

static void make_key(void) { pthread_key_create(&end_of_thread, thread_ended); }

static LockThread *reused(void) {
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all) {
        bool free = false;
        if (!atomic_load_explicit(&thread->in_use, memory_order_relaxed) && !thread->ghost &&
            atomic_compare_exchange_strong(&thread->in_use, &free, true))
            return thread;
    }
    return NULL;
}

static __attribute__((noinline)) LockThread *thread_new(void) {
    if (lock_thread_gone)
        return NULL;
    LockThread *thread = reused();
    if (thread) {
        /* All but the chain, which the watchdog may be following, and the count of waits: never one it has seen. */
        atomic_store_explicit(&thread->in_use, false, memory_order_relaxed);
        thread->sequence++;
        thread->asked = 0;
        thread->raise_error = thread->need = thread->whom = thread->worker = 0;
        thread->slot = NULL;
        memset(&thread->seen, 0, sizeof *thread - offsetof(LockThread, seen));
    } else {
        thread = gp_memory(sizeof *thread);
        if (!thread) {
            lock_thread_gone = true;
            atomic_fetch_add(&gp_locks_dropped, 1);
            return NULL;
        }
        LockThread *head = atomic_load_explicit(&all_threads, memory_order_relaxed);
        do
            thread->next_all = head;
        while (!atomic_compare_exchange_weak_explicit(&all_threads, &head, thread, memory_order_release,
                                                      memory_order_relaxed));
    }
    thread->number = atomic_fetch_add(&next_number, 1) + 1;
    thread->tid = (uint32_t)gp_syscall3(SYS_gettid, 0, 0, 0);
    thread->pthread = pthread_self();
    thread->state = (uint64_t)gp_python.thread_state();
    if (atomic_load_explicit(&gp_active, memory_order_relaxed)) {
        thread->slot = gp_slot();
        if (!thread->slot)
            thread->slot = gp_slot_here;
        if (thread->slot)
            thread->slot->lock_thread = thread;
    }
    atomic_store_explicit(&thread->in_use, true, memory_order_release);
    pthread_setspecific(end_of_thread, thread);
    return gp_lock_thread = thread;
}

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
    return GP_RARE(!thread) ? thread_new() : thread;
}

/* ---- what a thread has */

/* The frame that 3.12 and later put under a specialised call of a class: it has no file of its own. */
static FAST bool is_shim(uint64_t code) {
    return GP_AT(uint64_t, code, gp_python.code_file) == GP_AT(uint64_t, code, gp_python.code_qualname);
}

static FAST const char *frame_here(void) {
    const char *state = attached_state(); /* a method runs: it is attached, and dearer ways need not be taken */
    if (!state)
        return NULL;
    if (!gp_python.state_cframe)
        return GP_AT(const char *, state, gp_python.state_frame);
    const char *cframe = GP_AT(const char *, state, gp_python.state_cframe);
    return cframe ? GP_AT(const char *, cframe, gp_python.cframe_frame) : NULL;
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
    if (!gp_read_safely(words, lock, (uint32_t)head_bytes + 16) || words[head_bytes / 8 - 1] != type)
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
    void *modules = sys ? sys("modules") : NULL, *module = modules ? py.dict_get(modules, "_thread") : NULL;
    static const char *const names[] = {[GP_LOCK] = "LockType", [GP_RLOCK] = "RLock"};
    for (int kind = GP_LOCK; module && attribute && kind <= GP_RLOCK; kind++) {
        void *type = attribute(module, names[kind]);
        if (type) {
            gp_learn_lock_type((uint64_t)type); /* the reference is kept: its tp_new is ours */
            atomic_store(&type_known[kind], true);
        }
    }
    if (py.err_occurred && py.err_occurred())
        py.err_clear();
}

static __attribute__((noinline)) void learn_type(uint64_t lock, enum LockKind kind) {
    gp_learn_lock_type(GP_AT(uint64_t, lock, head_bytes - 8));
    atomic_store(&type_known[kind], true);
    gp_locks_learn_types();
}

static FAST void taken(LockThread *thread, uint64_t lock, enum LockKind kind, uint8_t ask, uint32_t count) {
    uint32_t clock = atomic_load_explicit(&gp_birth_clock, memory_order_relaxed);
    thread->touched[gp_touched_at(lock)] = clock;
    if (GP_RARE(thread->depth == GP_MOST_HELD))
        make_room(thread, GP_AT(uint64_t, lock, head_bytes - 8));
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
    if (thread->depth++)
        gp_order_taken(thread, held);
}

static FAST void drop(LockThread *thread, Held *held) {
    held->lock = 0;
    trim(thread);
}

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

/* ---- hand-overs */

static uint32_t handed_slot(uint64_t lock) {
    return (uint32_t)((lock >> 4) * 0x9E3779B97F4A7C15u >> (64 - HANDED_BITS));
}

bool gp_lock_is_handed_over(uint64_t lock) {
    return atomic_load_explicit(&handed_over[handed_slot(lock)], memory_order_relaxed) == lock;
}

bool gp_has_touched(const LockThread *thread, uint64_t lock) {
    uint32_t birth = gp_birth_of(lock);
    return birth && thread->touched[gp_touched_at(lock)] >= birth;
}

/* Released by a thread that did not take it. Condition.notify and the import system do so by design, with locks that
 * nobody else ever waits for; of all others the taker's entry must go. */
static __attribute__((noinline)) void released_by_another(LockThread *thread, uint64_t lock) {
    Place place;
    place_here(&place);
    if (place.code[0] == thread->plain_code)
        return;
    if (gp_code_is(place.code[0], "Condition.notify", "threading.py") ||
        gp_code_is(place.code[0], "_ModuleLock.release", "")) {
        thread->plain_code = place.code[0];
        return;
    }
    for (LockThread *other = gp_lock_threads(); other; other = other->next_all) {
        for (uint32_t i = 0; i < GP_MOST_HELD; i++) {
            uint64_t expected = lock;
            if (other->held[i].lock == lock && other->held[i].kind == GP_LOCK &&
                __atomic_compare_exchange_n(&other->held[i].lock, &expected, 0, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
                uint64_t before = atomic_exchange(&handed_over[handed_slot(lock)], lock);
                if (before && before != lock)
                    atomic_fetch_add_explicit(&gp_locks_dropped, 1, memory_order_relaxed);
            }
        }
    }
}

/* ---- how a lock is asked for: acquire(blocking=True, timeout=-1) in either calling convention */

static int truth(void *object) {
    return object == py_true ? 1 : object == py_false ? 0 : py.is_true ? py.is_true(object) : 1;
}

static bool name_is(const char *text, const char *name) {
    char out[16];
    uint32_t bytes = gp_text(text, out, sizeof out);
    return bytes == strlen(name) && !memcmp(out, name, bytes);
}

static __attribute__((noinline)) uint8_t asked_how(void *blocking, void *timeout) {
    if (blocking && !truth(blocking))
        return GP_ASK_TRY;
    if (!timeout)
        return 0;
    double seconds = py.as_double ? py.as_double(timeout) : 0;
    if (seconds == -1.0 && py.err_occurred && py.err_occurred())
        py.err_clear();
    return seconds < 0 ? 0 : GP_ASK_TIMED;
}

static FAST uint8_t ask_of(int flags, void *a, void *b, void *c) {
    void *blocking = NULL, *timeout = NULL;
    if (flags & METH_FASTCALL) {
        void **arguments = a;
        uint64_t count = (uint64_t)b & ~(1ull << 63);
        if (__builtin_expect(!count && (!c || !(flags & METH_KEYWORDS)), 1))
            return 0;
        blocking = count > 0 ? arguments[0] : NULL;
        timeout = count > 1 ? arguments[1] : NULL;
        uint64_t names = c && flags & METH_KEYWORDS ? GP_AT(uint64_t, c, head_bytes) : 0;
        for (uint64_t i = 0; i < names && i < 2; i++) {
            const char *name = GP_AT(const char *, c, items_at + 8 * i);
            if (name_is(name, "blocking"))
                blocking = arguments[count + i];
            else if (name_is(name, "timeout"))
                timeout = arguments[count + i];
        }
        return asked_how(blocking, timeout);
    }
    if (!a || !(flags & 3)) /* METH_NOARGS */
        return 0;
    uint64_t count = GP_AT(uint64_t, a, head_bytes);
    void *names = flags & METH_KEYWORDS ? b : NULL;
    if (__builtin_expect(!count && !names, 1))
        return 0;
    blocking = count > 0 ? GP_AT(void *, a, items_at) : names ? py.dict_get(names, "blocking") : NULL;
    timeout = count > 1 ? GP_AT(void *, a, items_at + 8) : names ? py.dict_get(names, "timeout") : NULL;
    return asked_how(blocking, timeout);
}

typedef struct {
    uint64_t start, end;
} Range;

static struct {
    Range read, write;
} python_image;

static bool is_named(const MethodDef *method, const char *name) {
    uint64_t at = (uint64_t)method->name;
    return at - python_image.read.start < python_image.read.end - python_image.read.start &&
           !strcmp(method->name, name);
}

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

static struct {
    MethodDef *method;
    Method original;
    int flags;
} swapped[METHODS];

/* ---- waits that the watchdog may end by an error */

#define SLICE_S 0.05

/* _PyThread_AsyncExc would not wake a blocked acquire, so it waits in slices: acquire(True, SLICE_S), again and again.
 */
static __attribute__((noinline)) void *acquire_in_slices(enum LockKind kind, void *self, LockThread *thread) {
    static void *arguments[2];
    static void *tuple;
    int which = kind == GP_RLOCK ? RLOCK_ACQUIRE : LOCK_ACQUIRE;
    if (!tuple) {
        arguments[0] = py_true;
        arguments[1] = py.float_of(SLICE_S);
        tuple = py.tuple_of(2, arguments[0], arguments[1]);
    }
    thread->raise_error = 0;
    for (;;) {
        void *result = swapped[which].flags & METH_FASTCALL ? swapped[which].original(self, arguments, (void *)2, NULL)
                                                            : swapped[which].original(self, tuple, NULL, NULL);
        if (result != py_false)
            return result;
        py.dec_ref(result);
        if (__atomic_exchange_n(&thread->raise_error, 0, __ATOMIC_ACQUIRE)) {
            py.set_error(gilprobe_deadlock_error(), "this thread and others wait for each other: see stderr");
            return NULL;
        }
    }
}

static void *join_in_slices(void *self, Method original, LockThread *thread) {
    static void *tuple;
    /* The table is join, _set_done, is_done. */
    Method is_done = (Method)swapped[HANDLE_JOIN].method[2].function;
    if (!tuple)
        tuple = py.tuple_of(1, py.float_of(SLICE_S));
    thread->raise_error = 0;
    for (;;) {
        void *result = original(self, tuple, NULL, NULL);
        if (!result)
            return NULL;
        void *done = is_done(self, NULL, NULL, NULL);
        bool over = done != py_false;
        if (done)
            py.dec_ref(done);
        if (over)
            return result;
        py.dec_ref(result);
        if (__atomic_exchange_n(&thread->raise_error, 0, __ATOMIC_ACQUIRE)) {
            py.set_error(gilprobe_deadlock_error(), "this thread and others wait for each other: see stderr");
            return NULL;
        }
    }
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
                       ? acquire_in_slices(kind, self, thread)
                       : original(self, a, b, c);
    thread->asked = 0;
    if (result == py_true) {
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
            released_by_another(thread, lock);
    } else if (kind == GP_RLOCK && own->count > 1 && !whole) {
        own->count--;
    } else {
        drop(thread, own);
    }
}

static void forget(void *self) {
    for (LockThread *other = gp_lock_threads(); other; other = other->next_all)
        for (uint32_t i = 0; i < GP_MOST_HELD; i++)
            if (other->held[i].lock == (uint64_t)self)
                other->held[i].lock = 0;
}

#define ACQUIRE(which, kind)                                                                \
    static void *wrap_##which(void *self, void *a, void *b, void *c) {                      \
        return acquire(swapped[which].flags, swapped[which].original, kind, self, a, b, c); \
    }
#define RELEASE(which, kind, whole)                                    \
    static void *wrap_##which(void *self, void *a, void *b, void *c) { \
        release(self, kind, whole);                                    \
        return swapped[which].original(self, a, b, c);                 \
    }
#define REINIT(which)                                                  \
    static void *wrap_##which(void *self, void *a, void *b, void *c) { \
        if (here())                                                    \
            forget(self);                                              \
        return swapped[which].original(self, a, b, c);                 \
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
        return allocated(swapped[which].original(self, a, b, c));      \
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
    return swapped[RLOCK_IS_OWNED].original(self, a, b, c);
}

/* state: (count, owner), as _release_save gave it. */
static void *wrap_RLOCK_ACQUIRE_RESTORE(void *self, void *a, void *b, void *c) {
    Method original = swapped[RLOCK_ACQUIRE_RESTORE].original;
    LockThread *thread = here();
    if (!thread)
        return original(self, a, b, c);
    /* METH_VARARGS: a tuple around the state; METH_O: the state itself. */
    void *state = a;
    if (!(swapped[RLOCK_ACQUIRE_RESTORE].method->flags & 8) && GP_AT(uint64_t, a, head_bytes) == 1)
        state = GP_AT(void *, a, items_at);
    long count =
        state && GP_AT(uint64_t, state, head_bytes) == 2 && py.as_long ? py.as_long(GP_AT(void *, state, items_at)) : 1;
    ask(thread, (uint64_t)self, GP_RLOCK, 0);
    void *result = original(self, a, b, c);
    thread->asked = 0;
    if (result)
        taken(thread, (uint64_t)self, GP_RLOCK, 0, count > 0 ? (uint32_t)count : 1);
    return result;
}

/* _ThreadHandle.join(timeout=None) */
static void *wrap_HANDLE_JOIN(void *self, void *a, void *b, void *c) {
    Method original = swapped[HANDLE_JOIN].original;
    LockThread *thread = here();
    if (!thread)
        return original(self, a, b, c);
    static void *none;
    if (!none)
        none = dlsym(RTLD_DEFAULT, "_Py_NoneStruct");
    uint64_t count = a ? GP_AT(uint64_t, a, head_bytes) : 0;
    void *timeout = count ? GP_AT(void *, a, items_at) : none;
    uint8_t how = timeout == none ? 0 : asked_how(NULL, timeout);
    /* PyThreadHandleObject.handle, ThreadHandle.ident (CPython Modules/_threadmodule.c, the same in 3.13 to 3.15) */
    uint64_t handle = GP_AT(uint64_t, self, head_bytes);
    ask(thread, handle ? GP_AT(uint64_t, handle, 32) : 0, GP_JOIN, how);
    void *result = gp_watch.on_deadlock == GP_RAISE && !how && is_named(&swapped[HANDLE_JOIN].method[2], "is_done")
                       ? join_in_slices(self, original, thread)
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

static const char *const names[METHODS] = {
    "acquire_lock", "acquire", "release_lock",     "release",       "__enter__", "__exit__", "_at_fork_reinit",
    "acquire",      "release", "_acquire_restore", "_release_save", "__enter__", "__exit__", "_at_fork_reinit",
    "_is_owned",    "join",    "allocate_lock",    "allocate"};

/* ---- the tables */

static int find_ranges(struct dl_phdr_info *image, size_t size, void *argument) {
    (void)size;
    uint64_t address = *(uint64_t *)argument;
    Range read = {UINT64_MAX, 0}, write = {0, 0};
    bool here = false;
    for (int i = 0; i < image->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &image->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uint64_t start = image->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;
        here |= address - start < segment->p_memsz;
        read.start = start < read.start ? start : read.start;
        read.end = end > read.end ? end : read.end;
        if (segment->p_flags & PF_W)
            write = (Range){start, start + segment->p_filesz};
    }
    if (!here)
        return 0;
    python_image.read = read;
    python_image.write = write;
    return 1;
}

/* The entries around `any`, which is one of the table's. */
static void fill(MethodDef *any, const char *first_name, enum Which from, enum Which to) {
    while ((uint64_t)(any - 1) > python_image.write.start && !is_named(any, first_name) && any[-1].name)
        any--;
    for (; any->name; any++)
        for (int which = from; which < (int)to; which++)
            if (!swapped[which].method && is_named(any, names[which])) {
                swapped[which].method = any;
                swapped[which].original = (Method)any->function;
                swapped[which].flags = any->flags;
            }
}

static bool find_tables(void) {
    uint64_t runtime = gp_python.runtime;
    if (!dl_iterate_phdr(find_ranges, &runtime))
        return false;
    uint64_t end = python_image.write.end - 4 * sizeof(MethodDef);
    for (uint64_t at = (python_image.write.start + 7) & ~7ull; at < end; at += 8) {
        MethodDef *method = (MethodDef *)at;
        uint64_t name = (uint64_t)method->name;
        if (name - python_image.read.start >= python_image.read.end - python_image.read.start)
            continue;
        char first = method->name[0];
        if (first == 'a' && is_named(method, "acquire_lock") && method[1].name && is_named(&method[1], "acquire") &&
            !swapped[LOCK_ACQUIRE].method) /* _imp has an acquire_lock, too */
            fill(method, "acquire_lock", LOCK_ACQUIRE_LOCK, RLOCK_ACQUIRE);
        else if (first == '_' && is_named(method, "_acquire_restore") && !swapped[RLOCK_ACQUIRE].method)
            fill(method, "acquire", RLOCK_ACQUIRE, HANDLE_JOIN);
        else if (first == 'j' && is_named(method, "join") && (uint64_t)method[1].name &&
                 is_named(&method[1], "_set_done") && !swapped[HANDLE_JOIN].method)
            fill(method, "join", HANDLE_JOIN, ALLOCATE_LOCK);
        else if (first == 'a' && is_named(method, "allocate_lock") && !swapped[ALLOCATE_LOCK].method)
            fill(method, "allocate_lock", ALLOCATE_LOCK, METHODS);
    }
    return swapped[LOCK_ACQUIRE].method && swapped[LOCK_RELEASE].method && swapped[LOCK_ENTER].method &&
           swapped[LOCK_EXIT].method && swapped[RLOCK_ACQUIRE].method && swapped[RLOCK_RELEASE].method &&
           swapped[RLOCK_ENTER].method && swapped[RLOCK_EXIT].method && swapped[RLOCK_ACQUIRE_RESTORE].method &&
           swapped[RLOCK_RELEASE_SAVE].method;
}

/* False where this interpreter's tables are not as we know them. */
bool gp_locks_install(void) {
    if (!gp_python.known)
        return false;
    if (!swapped[LOCK_ACQUIRE].method && !find_tables())
        return false;
    pthread_once(&key_once, make_key);
    head_bytes = gp_python.object_type + 8u;
    items_at = head_bytes + (gp_python.minor >= 14 ? 16 : 8);
    py_true = dlsym(RTLD_DEFAULT, "_Py_TrueStruct");
    py_false = dlsym(RTLD_DEFAULT, "_Py_FalseStruct");
    py.is_true = (int (*)(void *))dlsym(RTLD_DEFAULT, "PyObject_IsTrue");
    py.as_double = (double (*)(void *))dlsym(RTLD_DEFAULT, "PyFloat_AsDouble");
    py.as_long = (long (*)(void *))dlsym(RTLD_DEFAULT, "PyLong_AsLong");
    py.dict_get = (void *(*)(void *, const char *))dlsym(RTLD_DEFAULT, "PyDict_GetItemString");
    py.err_occurred = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyErr_Occurred");
    py.err_clear = (void (*)(void))dlsym(RTLD_DEFAULT, "PyErr_Clear");
    py.set_error = (void (*)(void *, const char *))dlsym(RTLD_DEFAULT, "PyErr_SetString");
    py.float_of = (void *(*)(double))dlsym(RTLD_DEFAULT, "PyFloat_FromDouble");
    py.tuple_of = (void *(*)(long, ...))dlsym(RTLD_DEFAULT, "PyTuple_Pack");
    py.dec_ref = (void (*)(void *))dlsym(RTLD_DEFAULT, "Py_DecRef");
    attached_state = (const char *(*)(void))dlsym(RTLD_DEFAULT, "PyThreadState_GetUnchecked");
    if (!attached_state)
        attached_state = (const char *(*)(void))dlsym(RTLD_DEFAULT, "_PyThreadState_UncheckedGet");
    if (!attached_state)
        attached_state = (const char *(*)(void))gp_python.thread_state;
    if (!py_true || !py.dict_get || !py.set_error || !py.float_of || !py.tuple_of || !py.dec_ref)
        return false;
    atomic_store(&watching, ON);
    for (int which = 0; which < METHODS; which++)
        if (swapped[which].method)
            atomic_store(&swapped[which].method->function, wrappers[which]);
    return true;
}

/* A thread may be inside a wrapper, and 3.15's JIT may keep calling one: they pass through for ever. */
void gp_locks_uninstall(void) {
    atomic_store(&watching, OFF);
    for (int which = 0; which < METHODS; which++)
        if (swapped[which].method)
            atomic_store(&swapped[which].method->function, (void *)swapped[which].original);
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

/* In the child of fork only the calling thread lives; what the others held stays locked for ever. */
void gp_locks_forked(void) {
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all) {
        if (thread == gp_lock_thread) {
            thread->tid = (uint32_t)gp_syscall3(SYS_gettid, 0, 0, 0);
            thread->slot = gp_slot_here;
            if (thread->slot)
                thread->slot->lock_thread = thread;
        } else if (atomic_load(&thread->in_use)) {
            if (thread->depth)
                gp_thread_state_name(thread);
            keep_what_it_holds(thread, 2);
            atomic_store(&thread->in_use, false);
            thread->slot = NULL;
        }
    }
}
