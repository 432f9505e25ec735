/* Threads that work the recorder's own tables as hard as they can, for a sanitizer to watch: tables
 * slots|file|edges|index.
 *
 * One unit with the tables' sources (-I says which copy: the real one or one with a defect planted); the rest of the
 * recorder is stubs. Ends with 3 where the driver itself finds something wrong. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int make_thread(pthread_t *thread, void *(*function)(void *), void *argument) {
    return pthread_create(thread, NULL, function, argument);
}

/* slots.c hooks pthread_create; the sanitizer has its own. */
#define pthread_create hooked_pthread_create
#include "core.h"
#include "real.h"

/* The sanitizers see the heap's bounds and its reuse, not those of mappings made past libc. */
#include <sys/mman.h>
static long heap_syscall6(long number, long a, long b, long c, long d, long e, long f) {
    if (number == SYS_munmap) {
        free((void *)a);
        return 0;
    }
    if (number != SYS_mmap || e < 0)
        return gp_syscall6(number, a, b, c, d, e, f);
    void *memory = aligned_alloc(4096, (size_t)b);
    return memory ? (long)memset(memory, 0, (size_t)b) : -ENOMEM;
}
#define gp_syscall6 heap_syscall6
#define gp_memory mapped_memory
void *mapped_memory(size_t bytes);
#include "file.c"
#undef gp_memory
void *gp_memory(size_t bytes) { return calloc(1, bytes); }
#include "index.c"
#undef gp_syscall6
/* For the twin whose posters do not take the bucket. */
#define taken(...) true
#include "edges.c"
#include "proc.c"
#include "run_delay.c"
#include "slots.c"
#undef pthread_create

/* -- the rest of the recorder */

_Atomic bool gp_active;
Options gp_options;
RealFunctions gp_real;
bool gp_ticks_are_ns;
static GP_TLS uint32_t my_stack;
uint32_t gp_stack_here(Slot *slot, void *return_address) {
    (void)slot, (void)return_address;
    return my_stack;
}
void gp_resolve_real(void) {}
void gp_got_refresh(void) {}
void gp_wait_close(Slot *slot, OpenWait *wait) { (void)slot, (void)wait; }
void gp_spin_close(Slot *slot) { (void)slot; }
void gp_spans_clear(Slot *slot) { (void)slot; }
void gp_spans_close(Slot *slot, uint64_t now_ns) { (void)slot, (void)now_ns; }
void gp_long_holds_clear(Slot *slot) { (void)slot; }
void gp_counter_stop(Slot *slot) { (void)slot; }
void gp_sampler_start(Slot *slot, bool fresh) { (void)slot, (void)fresh; }
void gp_sampler_stop(Slot *slot) { (void)slot; }
void gp_name_thread(Slot *slot, const char *frame) { (void)slot, (void)frame; }
void gp_name_other_thread(Slot *slot) { (void)slot; }
uint32_t gp_name_of_started(char text[GP_NAME_BYTES]) {
    (void)text;
    return 0;
}
uint64_t gp_gil_first(void) { return 0; }

#define THREADS 3
static _Atomic bool over;

static void wrong(const char *what) {
    fprintf(stderr, "TABLES: %s (%llu lost, errno %d)\n", what, (unsigned long long)gp_header->lost_records,
            (int)gp_header->lost_errno);
    _exit(3);
}

static void together(void *(*function)(void *), void *(*watcher)(void *)) {
    pthread_t threads[THREADS], other;
    for (uintptr_t i = 0; i < THREADS; i++)
        make_thread(&threads[i], function, (void *)i);
    if (watcher)
        make_thread(&other, watcher, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&over, true);
    if (watcher)
        pthread_join(other, NULL);
}

/* -- slots.c: threads that come and go, whose slots pass from one to another by the free list alone */

static void *short_lived(void *argument) {
    Slot *slot = gp_slot();
    if (!slot || slot->thread == 0)
        wrong("no slot");
    uint32_t mine = slot->thread;
    gp_meta(slot, "key", "value", 5);
    uint32_t count = 0;
    for (Slot *each = gp_slots_all(); each; each = each->next_all)
        count += each->index < 1000;
    if (!count || slot->thread != mine)
        wrong("a slot serves two threads");
    return argument;
}

static void *births(void *argument) {
    for (int i = 0; i < 400; i++) {
        pthread_t thread;
        make_thread(&thread, short_lived, NULL);
        pthread_join(thread, NULL);
    }
    return argument;
}

/* -- file.c: records of many sizes, read while they are written */

#define RECORDS 12000
static _Atomic uint64_t written;

static void *writes(void *argument) {
    Slot *slot = gp_slot();
    for (uint32_t i = 0; i < RECORDS; i++) {
        size_t bytes = sizeof(RecordHeader) + 8 + i * 37 % 600;
        RecordHeader *record = gp_record_begin(slot, GP_META, bytes);
        if (!record)
            wrong("no room");
        memset(record + 1, (int)(record->bytes & 0x7f), record->bytes - sizeof *record);
        gp_record_done(slot);
        atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
    }
    return argument;
}

static uint64_t read_chunk(const ChunkHeader *chunk, uint64_t length) {
    uint64_t count = 0;
    for (uint64_t at = 0; at < length;) {
        const RecordHeader *record = (const RecordHeader *)((const char *)(chunk + 1) + at);
        if (record->bytes < sizeof *record || at + record->bytes > length)
            wrong("a record without an end");
        if (record->type == GP_META) {
            const char *payload = (const char *)(record + 1);
            if (payload[0] != (char)(record->bytes & 0x7f) ||
                payload[record->bytes - sizeof *record - 1] != (char)(record->bytes & 0x7f))
                wrong("a record that is not whole");
            count++;
        }
        at += record->bytes;
    }
    return count;
}

static uint64_t read_extent(ExtentHeader *extent) {
    uint64_t count = 0, at = sizeof *extent;
    while (at + sizeof(ChunkHeader) <= extent->bytes) {
        ChunkHeader *chunk = (ChunkHeader *)((char *)extent + at);
        if (__atomic_load_n(&chunk->magic, __ATOMIC_ACQUIRE) != GP_CHUNK_MAGIC)
            break;
        if (chunk->bytes < sizeof *chunk || at + chunk->bytes > extent->bytes)
            wrong("a chunk beyond its extent");
        count += read_chunk(chunk, __atomic_load_n(&chunk->length, __ATOMIC_ACQUIRE));
        at += chunk->bytes;
    }
    return count;
}

static void *reads(void *argument) {
    ExtentHeader *known[64];
    uint32_t extents = 0;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        ExtentHeader *extent = atomic_load_explicit(&current_extent, memory_order_acquire);
        if (extent && (!extents || known[extents - 1] != extent) && extents < 64)
            known[extents++] = extent;
        uint64_t count = 0;
        for (uint32_t i = 0; i < extents; i++)
            count += read_extent(known[i]);
        if (count > (uint64_t)THREADS * RECORDS)
            wrong("more records than were written");
    }
    return argument;
}

/* -- edges.c: posters of different addresses in one bucket */

static const void *address_of[THREADS];

static void ask(void) {
    for (uintptr_t i = 0; i < THREADS; i++) {
        uint64_t posted_ns, releaser;
        if (gp_posted(address_of[i], 1, &posted_ns, &releaser) && (uint32_t)releaser != i + 1)
            wrong("a post that is not whole: the releaser of another address");
        gp_posted_after(address_of[i], 1, 2);
    }
}

/* Each asks too: the longer a thread is between the loads of one answer when it loses its core, the better. */
static void *posts(void *argument) {
    uintptr_t me = (uintptr_t)argument;
    my_stack = (uint32_t)me + 1;
    for (int i = 0; i < 250000; i++) {
        gp_post_check(address_of[me], NULL);
        ask();
    }
    return argument;
}

static void one_bucket(void) {
    uintptr_t at = 0x10000;
    for (int found = 0; found < THREADS; at += 4)
        if (gp_bucket((void *)at) == gp_bucket((void *)0x10000))
            address_of[found++] = (void *)at;
    atomic_store(&gp_bucket(address_of[0])->waiters, 1);
}

/* -- index.c: one thread's, to the last entry */

static void *indexes(void *argument) {
    Index *index = calloc(1, sizeof *index);
    gp_index_clear(index);
    for (uint64_t i = 1; i < 20000; i++) {
        uint64_t hash = gp_mix((uintptr_t)argument, i) | 1;
        IndexEntry *entry = gp_index_insert(index, hash);
        if (!entry)
            wrong("no room");
        entry->value = hash;
        IndexEntry *again = gp_index_find(index, hash);
        if (!again || again->value != hash)
            wrong("what was put in is not there");
    }
    return argument;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    snprintf(gp_options.folder, sizeof gp_options.folder, "%s", argv[2]);
    if (!gp_file_open(false))
        wrong("no file");
    gp_slots_setup();
    atomic_store(&gp_active, true);
    if (!strcmp(argv[1], "slots"))
        together(births, NULL);
    else if (!strcmp(argv[1], "file"))
        together(writes, reads);
    else if (!strcmp(argv[1], "edges"))
        one_bucket(), together(posts, NULL);
    else if (!strcmp(argv[1], "index"))
        together(indexes, NULL);
    else
        return 2;
    if (gp_header->lost_records)
        wrong("records were lost");
    puts("quiet");
    return 0;
}
