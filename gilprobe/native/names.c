/* A thread's name: threading.Thread._name, read through the first local of Thread._bootstrap, the outermost frame. */
#include "core.h"

#include <string.h>

#include "python.h"

enum { KEYS_GENERAL = 0, KEYS_SPLIT = 2 };

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

/* The value under "_name": from `values` where the keys are split, else from the entries. 0 if there is none. */
static uint64_t find_name(uint64_t keys_address, uint64_t values) {
    DictKeys keys;
    if (!gp_read_safely(&keys, keys_address, sizeof keys) || keys.kind == KEYS_GENERAL || keys.entries < 0 ||
        keys.entries > 64)
        return 0;
    uint64_t entries = keys_address + sizeof keys + (1ull << keys.log2_index_bytes);
    for (int64_t i = 0; i < keys.entries; i++) {
        uint64_t entry[2], value;
        if (!gp_read_safely(entry, entries + 16 * (uint64_t)i, sizeof entry))
            return 0;
        if (!is_name(entry[0]))
            continue;
        if (!values)
            return entry[1];
        return gp_read_safely(&value, values + 8 * (uint64_t)i, 8) ? value : 0;
    }
    return 0;
}

static uint64_t name_of_thread_object(uint64_t object) {
    uint64_t type, keys, dict, inline_values = 0;
    if (!gp_python.type_cached_keys || !gp_read_safely(&type, object + gp_python.object_type, 8) ||
        !gp_read_safely(&keys, type + gp_python.type_cached_keys, 8) ||
        !gp_read_safely(&dict, object + (uint64_t)(int64_t)gp_python.managed_dict, 8))
        return 0;
    if (gp_python.minor == 11) {
        /* The values' pointer stands before the dict's. */
        if (!gp_read_safely(&inline_values, object + (uint64_t)(int64_t)gp_python.managed_dict - 8, 8))
            return 0;
    } else if (gp_python.minor == 12) {
        /* One word for both: an odd one is the values' address less 1. */
        inline_values = dict & 1 ? dict + 1 : 0;
        dict = dict & 1 ? 0 : dict;
    } else if (!dict) {
        /* Behind the object; struct _dictvalues holds its values from byte 8. */
        int64_t basicsize;
        if (!gp_read_safely(&basicsize, type + gp_python.type_basicsize, 8))
            return 0;
        inline_values = object + (uint64_t)basicsize + 8;
    }
    if (inline_values)
        return find_name(keys, inline_values);
    uint64_t members[4]; /* PyDictObject after its head: used, version or watchers, keys, values */
    if (!dict || !gp_read_safely(members, dict + gp_python.object_type + 8, sizeof members))
        return 0;
    uint64_t values = members[3];
    if (values && gp_python.minor >= 13)
        values += 8;
    return find_name(members[2], values);
}

static void set_name(Slot *slot, const char *name, uint32_t bytes) {
    ThreadRecord *record = slot->record;
    memcpy(record->name, name, bytes);
    record->name_bytes = bytes;
    slot->named = 1;
}

/* Threads of C code, and those ending before any Python frame of theirs was seen. */
static void name_from_kernel(Slot *slot) {
    char text[GP_NAME_BYTES];
    static const char path[] = "/proc/thread-self/comm";
    long fd = gp_syscall6(SYS_openat, -100 /* AT_FDCWD */, (long)path, 02000000 /* O_RDONLY | O_CLOEXEC */, 0, 0, 0);
    if (fd < 0)
        return;
    long got = gp_syscall3(SYS_read, fd, text, sizeof text);
    gp_syscall3(SYS_close, fd, 0, 0);
    if (got > 1)
        set_name(slot, text, (uint32_t)got - 1);
}

/* `frame`: the thread's outermost Python frame, or NULL where there is none. */
void gp_name_thread(Slot *slot, const char *frame) {
    if (slot->thread == 1) {
        set_name(slot, "MainThread", 10);
        return;
    }
    if (!frame) {
        name_from_kernel(slot);
        return;
    }
    char text[GP_NAME_BYTES];
    const char *code = (const char *)(GP_AT(uint64_t, frame, gp_python.frame_code) & ~7ull);
    uint32_t bytes = gp_text(GP_AT(const char *, code, gp_python.code_qualname), text, sizeof text);
    if (bytes == 17 && !memcmp(text, "Thread._bootstrap", 17)) {
        uint64_t object = GP_AT(uint64_t, frame, gp_python.frame_locals) & ~7ull;
        uint64_t name = object ? name_of_thread_object(object) : 0;
        if (name) {
            set_name(slot, text, gp_text((const char *)name, text, sizeof text));
            return;
        }
        name_from_kernel(slot);
        return;
    }
    set_name(slot, text, bytes);
}
