/* A thread's name: threading.Thread._name, read through the first local of Thread._bootstrap, the outermost frame. */
#include "core.h"

#include <string.h>
#include <sys/prctl.h>

#include "python.h"

enum { KEYS_GENERAL = 0 };

/* CPython struct _dictkeysobject, the same from 3.11 to 3.15 but for a mutex byte in what was padding. */
typedef struct {
    int64_t references;
    uint8_t log2_size, log2_index_bytes, kind, mutex;
    uint32_t version;
    int64_t usable, entries;
} DictKeys;

static bool is_name(uint64_t key) {
    char text[8];
    return key && gp_text((const char *)key, text, sizeof text) == 5 && !memcmp(text, "_name", 5);
}

/* Where "_name" stands among a type's shared keys: found once a type. */
static _Atomic uint64_t known_keys;
static _Atomic int32_t known_index;

static int64_t index_of_name(const DictKeys *keys) {
    if (atomic_load_explicit(&known_keys, memory_order_acquire) == (uint64_t)keys) {
        int64_t index = atomic_load_explicit(&known_index, memory_order_relaxed);
        const uint64_t *entry =
            (const uint64_t *)((const char *)(keys + 1) + (1ull << keys->log2_index_bytes)) + 2 * index;
        if (index < keys->entries && is_name(entry[0]))
            return index;
    }
    if (keys->kind == KEYS_GENERAL || keys->entries < 0 || keys->entries > 64)
        return -1;
    const uint64_t *entries = (const uint64_t *)((const char *)(keys + 1) + (1ull << keys->log2_index_bytes));
    for (int64_t i = 0; i < keys->entries; i++)
        if (is_name(entries[2 * i])) {
            atomic_store_explicit(&known_index, (int32_t)i, memory_order_relaxed);
            atomic_store_explicit(&known_keys, (uint64_t)keys, memory_order_release);
            return i;
        }
    return -1;
}

/* A dict of its own may be replaced while we look: every read of it is a safe one. */
static uint64_t name_in_dict(uint64_t dict) {
    uint64_t members[4]; /* PyDictObject after its head: used, version or watchers, keys, values */
    DictKeys keys;
    if (!gp_read_safely(members, dict + gp_python.object_type + 8, sizeof members) ||
        !gp_read_safely(&keys, members[2], sizeof keys) || keys.kind == KEYS_GENERAL || keys.entries < 0 ||
        keys.entries > 64)
        return 0;
    uint64_t entries[2 * 64], values = members[3], value;
    if (!gp_read_safely(entries, members[2] + sizeof keys + (1ull << keys.log2_index_bytes),
                        16 * (uint32_t)keys.entries))
        return 0;
    for (int64_t i = 0; i < keys.entries; i++) {
        if (!is_name(entries[2 * i]))
            continue;
        if (!values)
            return entries[2 * i + 1];
        values += gp_python.minor >= 13 ? 8 : 0; /* struct _dictvalues holds its values from byte 8 */
        return gp_read_safely(&value, values + 8 * (uint64_t)i, 8) ? value : 0;
    }
    return 0;
}

/* The thread itself keeps its Thread object, the object its type, the type its keys. */
static uint64_t name_of_thread_object(uint64_t object) {
    if (!gp_python.type_cached_keys)
        return 0;
    const char *type = GP_AT(const char *, object, gp_python.object_type);
    const DictKeys *keys = GP_AT(const DictKeys *, type, gp_python.type_cached_keys);
    uint64_t dict = GP_AT(uint64_t, object, gp_python.managed_dict), values = 0;
    if (gp_python.minor == 11) {
        /* The values' pointer stands before the dict's. */
        values = GP_AT(uint64_t, object, gp_python.managed_dict - 8);
    } else if (gp_python.minor == 12) {
        /* One word for both: an odd one is the values' address less 1. */
        values = dict & 1 ? dict + 1 : 0;
        dict = dict & 1 ? 0 : dict;
    } else if (!dict) {
        values = object + GP_AT(uint64_t, type, gp_python.type_basicsize) + 8;
    }
    if (!values)
        return dict ? name_in_dict(dict) : 0;
    int64_t index = keys ? index_of_name(keys) : -1;
    return index < 0 ? 0 : GP_AT(uint64_t, values, 8 * index);
}

static void set_name(Slot *slot, const char *name, uint32_t bytes) {
    ThreadRecord *record = slot->record;
    memcpy(record->name, name, bytes);
    record->name_bytes = bytes;
    slot->named = 1;
}

/* Threads of C code, and those ending before any Python frame of theirs was seen. */
static void name_from_kernel(Slot *slot) {
    char text[16];
    if (!gp_syscall3(SYS_prctl, PR_GET_NAME, text, 0))
        set_name(slot, text, (uint32_t)strnlen(text, sizeof text));
}

/* One that has not come to it before the recording ends. */
void gp_name_other_thread(Slot *slot) {
    char text[18];
    size_t bytes;
    if (slot->tid == gp_header->pid)
        set_name(slot, "MainThread", 10);
    else if (!slot->record->name_bytes && (bytes = gp_read_task(slot->tid, "/comm", text, sizeof text)) > 1)
        set_name(slot, text, (uint32_t)bytes - 1); /* without its line's end */
}

static uint32_t name_of_self(const char *frame, char text[GP_NAME_BYTES]) {
    uint64_t object = GP_AT(uint64_t, frame, gp_python.frame_locals) & ~7ull;
    uint64_t name = object ? name_of_thread_object(object) : 0;
    return name ? gp_text((const char *)name, text, GP_NAME_BYTES) : 0;
}

static uint32_t qualname_of(const char *frame, char text[GP_NAME_BYTES]) {
    const char *code = (const char *)(GP_AT(uint64_t, frame, gp_python.frame_code) & ~7ull);
    return code ? gp_text(GP_AT(const char *, code, gp_python.code_qualname), text, GP_NAME_BYTES) : 0;
}

/* By a thread's outermost Python frame: its Thread's name, else the function; 0 where a Thread's name is not found. */
uint32_t gp_name_by_frame(const char *frame, char text[GP_NAME_BYTES]) {
    uint32_t bytes = qualname_of(frame, text);
    bool is_thread = bytes == 17 && !memcmp(text, "Thread._bootstrap", 17);
    return is_thread ? name_of_self(frame, text) : bytes;
}

/* Of the thread that the calling one is about to make, if by Thread.start; else 0. It may get another name before it
 * first waits, which counts; one that never waits has none but this. */
uint32_t gp_name_of_started(char text[GP_NAME_BYTES]) {
    const char *state = gp_python.known ? gp_python.thread_state() : NULL;
    const char *frame = state ? gp_current_frame(state) : NULL;
    if (!frame || GP_AT(uint8_t, frame, gp_python.frame_owner) >= gp_python.first_hidden_owner)
        return 0;
    bool starts = qualname_of(frame, text) == 12 && !memcmp(text, "Thread.start", 12);
    return starts ? name_of_self(frame, text) : 0;
}

/* `frame`: the thread's outermost Python frame, or NULL where there is none. */
void gp_name_thread(Slot *slot, const char *frame) {
    if (slot->tid == gp_header->pid) {
        set_name(slot, "MainThread", 10);
        return;
    }
    if (!frame && slot->record->name_bytes)
        return; /* by its start */
    if (!frame) {
        name_from_kernel(slot);
        return;
    }
    char text[GP_NAME_BYTES];
    uint32_t bytes = gp_name_by_frame(frame, text);
    if (bytes)
        set_name(slot, text, bytes);
    else if (!slot->record->name_bytes)
        name_from_kernel(slot);
}
