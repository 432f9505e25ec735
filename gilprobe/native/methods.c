/* Where the methods are: static data of the interpreter, found by the names in it. */
#define _GNU_SOURCE
#include "methods.h"

#include <link.h>
#include <string.h>

#include "python.h"

Swapped gp_swapped[METHODS];

typedef struct {
    uint64_t start, end;
} Range;

static struct {
    Range read, write;
} python_image;

bool gp_is_named(const MethodDef *method, const char *name) {
    uint64_t at = (uint64_t)method->name;
    return at - python_image.read.start < python_image.read.end - python_image.read.start &&
           !strcmp(method->name, name);
}

static const char *const names[METHODS] = {
    "acquire_lock", "acquire", "release_lock",     "release",       "__enter__", "__exit__", "_at_fork_reinit",
    "acquire",      "release", "_acquire_restore", "_release_save", "__enter__", "__exit__", "_at_fork_reinit",
    "_is_owned",    "join",    "allocate_lock",    "allocate"};

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
    while ((uint64_t)(any - 1) > python_image.write.start && !gp_is_named(any, first_name) && any[-1].name)
        any--;
    for (; any->name; any++)
        for (int which = from; which < (int)to; which++)
            if (!gp_swapped[which].method && gp_is_named(any, names[which])) {
                gp_swapped[which].method = any;
                gp_swapped[which].original = (Method)any->function;
                gp_swapped[which].flags = any->flags;
            }
}

bool gp_methods_find(void) {
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
        if (first == 'a' && gp_is_named(method, "acquire_lock") && method[1].name &&
            gp_is_named(&method[1], "acquire") && !gp_swapped[LOCK_ACQUIRE].method) /* _imp has an acquire_lock, too */
            fill(method, "acquire_lock", LOCK_ACQUIRE_LOCK, RLOCK_ACQUIRE);
        else if (first == '_' && gp_is_named(method, "_acquire_restore") && !gp_swapped[RLOCK_ACQUIRE].method)
            fill(method, "acquire", RLOCK_ACQUIRE, HANDLE_JOIN);
        else if (first == 'j' && gp_is_named(method, "join") && (uint64_t)method[1].name &&
                 gp_is_named(&method[1], "_set_done") && !gp_swapped[HANDLE_JOIN].method)
            fill(method, "join", HANDLE_JOIN, ALLOCATE_LOCK);
        else if (first == 'a' && gp_is_named(method, "allocate_lock") && !gp_swapped[ALLOCATE_LOCK].method)
            fill(method, "allocate_lock", ALLOCATE_LOCK, METHODS);
    }
    return gp_swapped[LOCK_ACQUIRE].method && gp_swapped[LOCK_RELEASE].method && gp_swapped[LOCK_ENTER].method &&
           gp_swapped[LOCK_EXIT].method && gp_swapped[RLOCK_ACQUIRE].method && gp_swapped[RLOCK_RELEASE].method &&
           gp_swapped[RLOCK_ENTER].method && gp_swapped[RLOCK_EXIT].method &&
           gp_swapped[RLOCK_ACQUIRE_RESTORE].method && gp_swapped[RLOCK_RELEASE_SAVE].method;
}
