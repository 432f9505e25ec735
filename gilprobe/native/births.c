/* Where locks are made: what tells one from a later one at the same address, and to which class it belongs. The
 * functions that make locks are swapped as their methods are (locks.c). */
#include "watch.h"

#include <string.h>

#include "python.h"

#define BIRTH_BITS 15
#define WINDOW 4
#define TYPE_NEW 312  /* PyTypeObject.tp_new with a PyObject of 16 bytes (CPython Include/cpython/object.h) */
#define TYPE_BASE 256 /* PyTypeObject.tp_base, likewise */
#define MOST_TYPES 16

typedef struct {
    _Atomic uint64_t lock; /* 0 = free; being written: 1 */
    uint32_t clock;
    uint32_t user; /* the first thread that took it with others; UINT32_MAX = several did */
    Place made;
} Birth;

static Birth births[1 << BIRTH_BITS];
static _Atomic bool
    lost[1 << BIRTH_BITS]; /* at a window's home: the birth of a lock that may live is no longer there */
_Atomic uint32_t gp_birth_clock = 1;
_Atomic uint64_t gp_births_dropped;

typedef void *(*New)(void *type, void *args, void *kwargs);
static struct {
    _Atomic uint64_t type;
    New original;
} types[MOST_TYPES];

static uint32_t home_of(uint64_t lock) {
    return (uint32_t)((lock >> 4) * 0x9E3779B97F4A7C15u >> (64 - BIRTH_BITS)) & ~(uint32_t)(WINDOW - 1);
}

/* The oldest gives way. */
void gp_born(uint64_t lock) {
    Place made;
    gp_place_here(&made);
    if (gp_is_wait_code(made.code[0]))
        return;
    Birth *window = &births[home_of(lock)], *chosen = window;
    for (int i = 0; i < WINDOW; i++) {
        uint64_t there = atomic_load_explicit(&window[i].lock, memory_order_relaxed);
        if (there == lock || !there) {
            chosen = &window[i];
            break;
        }
        if (window[i].clock < chosen->clock)
            chosen = &window[i];
    }
    uint64_t before = atomic_load_explicit(&chosen->lock, memory_order_relaxed);
    bool ours = before != 1 && atomic_compare_exchange_strong(&chosen->lock, &before, 1);
    if (!ours || (before && before != lock)) {
        atomic_store_explicit(&lost[home_of(lock)], true, memory_order_relaxed);
        atomic_fetch_add_explicit(&gp_births_dropped, 1, memory_order_relaxed);
    }
    if (!ours)
        return;
    chosen->clock = atomic_fetch_add_explicit(&gp_birth_clock, 1, memory_order_relaxed) + 1;
    chosen->user = 0;
    chosen->made = made;
    /* Release: a reader that finds the lock must see when and where it was made. */
    atomic_store_explicit(&chosen->lock, lock, memory_order_release);
}

static Birth *birth_of(uint64_t lock) {
    Birth *window = &births[home_of(lock)];
    for (int i = 0; i < WINDOW; i++)
        if (atomic_load_explicit(&window[i].lock, memory_order_acquire) == lock)
            return &window[i];
    return NULL;
}

/* 0 = not known. */
uint32_t gp_birth_of(uint64_t lock) {
    const Birth *birth = birth_of(lock);
    return birth ? birth->clock : 0;
}

/* One made before the watchdog began is not known either, but nothing was lost where it would be. */
bool gp_birth_is_lost(uint64_t lock) {
    return atomic_load_explicit(&lost[home_of(lock)], memory_order_relaxed) && !birth_of(lock);
}

/* One number for all locks made at one place; 0 = not known. */
uint64_t gp_class_of(uint64_t lock) {
    const Birth *birth = birth_of(lock);
    uint64_t hash = 0;
    for (int i = 0; birth && i < GP_PLACE_FRAMES; i++)
        hash = gp_mix(gp_mix(hash, birth->made.code[i]), birth->made.instruction[i]);
    return birth ? hash | 1 : 0;
}

void gp_birth_used(uint64_t lock, uint32_t thread_number) {
    Birth *birth = birth_of(lock);
    if (birth && birth->user != thread_number)
        birth->user = birth->user ? UINT32_MAX : thread_number;
}

bool gp_birth_is_shared(uint64_t lock) {
    const Birth *birth = birth_of(lock);
    return birth && birth->user == UINT32_MAX;
}

bool gp_made_at(uint64_t lock, Place *place) {
    const Birth *birth = birth_of(lock);
    if (birth)
        *place = birth->made;
    return birth;
}

static void *make(void *type, void *args, void *kwargs) {
    /* A subclass's tp_new is its base's. */
    for (uint64_t base = (uint64_t)type; base; base = GP_AT(uint64_t, base, TYPE_BASE + gp_python.object_type - 8u))
        for (int i = 0; i < MOST_TYPES; i++) {
            if (atomic_load_explicit(&types[i].type, memory_order_acquire) != base)
                continue;
            void *lock = types[i].original(type, args, kwargs);
            if (lock && gp_locks_watching())
                gp_born((uint64_t)lock);
            return lock;
        }
    return NULL;
}

static _Atomic uint64_t *new_of(uint64_t type) {
    return (_Atomic uint64_t *)(type + TYPE_NEW + (gp_python.object_type + 8u - 16u));
}

/* Called when a lock of a type is first met. A type without its own tp_new has none to swap. */
void gp_learn_lock_type(uint64_t type) {
    uint64_t original = atomic_load(new_of(type));
    for (int i = 0; i < MOST_TYPES; i++) {
        uint64_t known = atomic_load(&types[i].type);
        if (known && known != type)
            continue;
        if (original - gp_python_text >= gp_python_text_bytes)
            return;
        types[i].original = (New)original;
        if (known == type || atomic_compare_exchange_strong(&types[i].type, &known, type)) {
            atomic_store(new_of(type), (uint64_t)make);
            return;
        }
    }
}

void gp_births_uninstall(void) {
    for (int i = 0; i < MOST_TYPES; i++) {
        uint64_t type = atomic_load(&types[i].type);
        if (type && atomic_load(new_of(type)) == (uint64_t)make)
            atomic_store(new_of(type), (uint64_t)types[i].original);
    }
    memset(births, 0, sizeof births);
    memset(lost, 0, sizeof lost);
}
