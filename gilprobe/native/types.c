/* What a parking-lot address is, told from the address and the memory around it. */
#define _GNU_SOURCE
#include "core.h"

#include <string.h>
#include <unwind.h>

#include "python.h"

#define OBJECT_MUTEX_OFFSET 10 /* PyObject.ob_mutex, free-threaded builds 3.13 to 3.15 */
#define MOST_TYPE_NAME 120
#define THREAD_STATE_BYTES 1024 /* at least sizeof(PyThreadState); nothing else lies this close behind it */

static bool plausible(uint64_t pointer) { return pointer >= 65536 && !(pointer & 7) && !(pointer >> 47); }

/* A type object: its own type is `type`, or a metaclass whose type is `type`. */
static bool is_type(uint64_t type) {
    uint64_t meta, meta_meta;
    if (!plausible(type) || !gp_read_safely(&meta, type + gp_python.object_type, 8))
        return false;
    if (meta == gp_python.type_type)
        return true;
    return plausible(meta) && gp_read_safely(&meta_meta, meta + gp_python.object_type, 8) &&
           meta_meta == gp_python.type_type;
}

static uint32_t write_type(Slot *slot, uint64_t type, uint64_t name_address) {
    static _Atomic uint32_t next_type;
    char name[MOST_TYPE_NAME];
    uint32_t bytes = MOST_TYPE_NAME;
    /* A name close to the end of a mapping: take what can be read. */
    while (bytes && !gp_read_safely(name, name_address, bytes))
        bytes /= 2;
    bytes = (uint32_t)strnlen(name, bytes);
    TypeRecord *record = gp_record_begin(slot, GP_TYPE, sizeof *record + bytes);
    if (!record)
        return 0;
    uint32_t id = atomic_fetch_add_explicit(&next_type, 1, memory_order_relaxed) + 1;
    record->type_id = id;
    record->name_bytes = bytes;
    record->address = type;
    memcpy(record + 1, name, bytes);
    gp_record_done(slot);
    return id;
}

/* A safe read is a system call; on the page of `known`, which is known to be mapped, none is needed. */
static bool read_near(uint64_t known, uint64_t *out, uint64_t address) {
    if ((known ^ address) >> 12)
        return gp_read_safely(out, address, 8);
    *out = *(const volatile uint64_t *)address;
    return true;
}

/* Id of the type of what may be an object; 0 if it is none. `known` is an address that can be read, or 0. */
uint32_t gp_type_of(Slot *slot, uint64_t object, uint64_t known) {
    uint64_t type, name;
    if (!gp_python.known || !plausible(object) || !read_near(known, &type, object + gp_python.object_type) ||
        !plausible(type))
        return 0;
    uint64_t hash = gp_mix(1, type) | 1;
    IndexEntry *entry = gp_index_find(&slot->types, hash);
    if (entry)
        return (uint32_t)entry->value;
    if (!is_type(type) || !gp_read_safely(&name, type + gp_python.type_name, 8) || name < 65536)
        return 0;
    uint32_t id = write_type(slot, type, name);
    if (id && (entry = gp_index_insert(&slot->types, hash)))
        entry->value = id;
    return id;
}

static bool in_runtime(uint64_t address) {
    return gp_python.runtime_bytes && address - gp_python.runtime < gp_python.runtime_bytes;
}

/* PyThread_acquire_lock_timed waits on a lock's own semaphore, all others of the interpreter on the parking lot's. Told
 * by the unwind tables, once for each caller; the cache is a hint that may be written by two threads at once. */
bool gp_is_thread_lock(void *caller) {
    static _Atomic uint64_t lock_caller, other_caller;
    if (atomic_load_explicit(&lock_caller, memory_order_relaxed) == (uint64_t)caller)
        return true;
    if (atomic_load_explicit(&other_caller, memory_order_relaxed) == (uint64_t)caller)
        return false;
    bool lock = _Unwind_FindEnclosingFunction(caller) == gp_python.acquire_lock;
    atomic_store_explicit(lock ? &lock_caller : &other_caller, (uint64_t)caller, memory_order_relaxed);
    return lock;
}

enum Subject gp_parked_on(Slot *slot, uint64_t address, bool timed, uint32_t *type_id) {
    *type_id = 0;
    if (address < 65536 || address >> 47)
        return GP_SUBJECT_HEAP; /* a bucket's own mutex (CPython Python/lock.c, struct raw_mutex_entry) */
    uint64_t state = gp_python.known ? (uint64_t)gp_python.thread_state() : 0;
    if (state && address - state < THREAD_STATE_BYTES)
        return GP_SUBJECT_THREAD_STATE;
    if (in_runtime(address))
        /* PyEvent_WaitTimed <- stop_the_world waits by the millisecond; a PyMutex there waits without limit. */
        return timed ? GP_SUBJECT_STOP_THE_WORLD : GP_SUBJECT_RUNTIME;
    if (gp_python.free_threaded && (address & 7) == (OBJECT_MUTEX_OFFSET & 7)) {
        *type_id = gp_type_of(slot, address - OBJECT_MUTEX_OFFSET, address);
        if (*type_id)
            return GP_SUBJECT_OBJECT;
    }
    uint64_t head = gp_python.object_type + 8u; /* sizeof(PyObject): ob_type is its last member */
    if (!(address & 7)) {
        *type_id = gp_type_of(slot, address - head, address);
        if (*type_id)
            return GP_SUBJECT_LOCK_OBJECT;
    }
    return GP_SUBJECT_HEAP;
}
