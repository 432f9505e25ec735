/* One file a process: extents reserved on the disk before they are mapped, chunks carved from them without a lock. */
#define _GNU_SOURCE
#include "core.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* A page that is mapped for writing costs some 3 us: extents grow with the file. */
#define FIRST_EXTENT_BYTES (256u << 10)
#define EXTENT_BYTES (1u << 20)
#define FIRST_CHUNK_BYTES (8u << 10)
#define CHUNK_BYTES (32u << 10)
#define FIRST_ARRAY_CHUNK_BYTES (16u << 10)
#define ARRAY_CHUNK_BYTES (128u << 10)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define RETRY_NS 1000000000u

FileHeader *gp_header;

/* Stands in when the file cannot be made, so that no writer needs to ask. */
static FileHeader no_header;
static char path[sizeof gp_options.folder + 64];
static _Atomic(ExtentHeader *) current_extent;
static _Atomic uint64_t file_bytes;

void *gp_memory(size_t bytes) {
    long address = gp_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return address < 0 && address > -4096 ? NULL : (void *)address;
}

/* Reserve on the disk, then map: a full disk would otherwise be a SIGBUS at some later store. The file is opened anew
 * each time, so that a script that closes every descriptor can neither break us nor be hurt by us. */
static void *map_unmasked(uint64_t offset, uint64_t bytes, bool create, int *error) {
    struct rlimit limit;
    if (!gp_syscall6(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0) && limit.rlim_cur < offset + bytes) {
        *error = EFBIG; /* the kernel would send SIGXFSZ */
        return NULL;
    }
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)path,
                          O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0), 0644, 0, 0);
    if (fd < 0) {
        *error = (int)-fd;
        return NULL;
    }
    long result = gp_syscall6(SYS_fallocate, fd, 0, (long)offset, (long)bytes, 0, 0);
    if (result == -EOPNOTSUPP) {
        static const char zeros[4096];
        for (uint64_t at = offset; at < offset + bytes; at += sizeof zeros)
            if ((result = gp_syscall6(SYS_pwrite64, fd, (long)zeros, sizeof zeros, (long)at, 0, 0)) < 0)
                break;
    }
    void *memory = NULL;
    if (result < 0) {
        *error = (int)-result;
    } else {
        long address = gp_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (long)offset);
        if (address < 0 && address > -4096)
            *error = (int)-address;
        else {
            memory = (void *)address;
            /* One call now is cheaper than a fault for each page later; kernels before 5.14 refuse, which is no harm.
             */
            gp_syscall3(SYS_madvise, memory, bytes, MADV_POPULATE_WRITE);
        }
    }
    gp_syscall3(SYS_close, fd, 0, 0);
    return memory;
}

/* With every signal held back: one that is pending may end fallocate (EINTR), on a tmpfs of older kernels for one. */
static void *map_range(uint64_t offset, uint64_t bytes, bool create, int *error) {
    uint64_t all = ~0ull, before;
    gp_syscall6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, sizeof all, 0, 0);
    void *memory = map_unmasked(offset, bytes, create, error);
    gp_syscall6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof before, 0, 0);
    return memory;
}

static ExtentHeader *extent_new(uint32_t bytes, int *error) {
    uint64_t offset = atomic_fetch_add_explicit(&file_bytes, bytes, memory_order_relaxed);
    ExtentHeader *extent = map_range(offset, bytes, false, error);
    if (!extent)
        return NULL;
    extent->bytes = bytes;
    extent->used = sizeof *extent;
    extent->magic = GP_EXTENT_MAGIC;
    return extent;
}

static uint32_t next_extent_bytes(uint32_t chunk_bytes) {
    uint64_t half = atomic_load_explicit(&file_bytes, memory_order_relaxed) / 2;
    uint32_t bytes = FIRST_EXTENT_BYTES;
    while (bytes < EXTENT_BYTES && (bytes * 2 <= half || bytes < 2 * chunk_bytes))
        bytes *= 2;
    return bytes;
}

bool gp_file_open(bool forked) {
    uint64_t start_ns = gp_now();
    uint32_t pid = (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0);
    snprintf(path, sizeof path, "%s/%u-%llu.gpr", gp_options.folder, pid, (unsigned long long)start_ns);
    atomic_store(&current_extent, NULL);
    int error = 0;
    FileHeader *header = map_range(0, GP_HEADER_BYTES, true, &error);
    gp_header = header ? header : &no_header;
    memset(gp_header, 0, sizeof *gp_header);
    gp_header->lost_errno = header ? 0 : (uint64_t)error;
    atomic_store(&file_bytes, GP_HEADER_BYTES);
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    header = gp_header;
    header->format_version = GP_FORMAT_VERSION;
    header->header_bytes = GP_HEADER_BYTES;
    header->pid = pid;
    header->parent_pid = (uint32_t)gp_syscall3(SYS_getppid, 0, 0, 0);
    gp_clock_pair(&header->start_ns, &header->start_ticks);
    header->start_realtime_ns = (uint64_t)real.tv_sec * 1000000000u + (uint64_t)real.tv_nsec;
    header->end_ns = header->start_ns;
    header->end_ticks = header->start_ticks;
    header->flags = (gp_options.events ? GP_HEADER_EVENTS : 0u) | (forked ? GP_HEADER_FORKED : 0u) |
                    (gp_ticks_are_ns ? GP_HEADER_TICKS_ARE_NS : 0u);
    memcpy(header->magic, GP_MAGIC, sizeof header->magic);
    return header != &no_header;
}

void gp_file_none(void) {
    gp_header = &no_header;
    gp_header->pid = (uint32_t)gp_syscall3(SYS_getpid, 0, 0, 0);
    gp_clock_pair(&gp_header->start_ns, &gp_header->start_ticks);
}

/* After fork: the parent's mappings stay, nobody writes to them. */
void gp_file_forget(void) { atomic_store(&current_extent, NULL); }

void gp_lose(Slot *slot, int error) {
    __atomic_fetch_add(&gp_header->lost_records, 1, __ATOMIC_RELAXED);
    if (error && !gp_header->lost_errno)
        gp_header->lost_errno = (uint64_t)error;
    if (slot && slot->record)
        slot->record->lost++;
}

ChunkHeader *gp_chunk_new(uint32_t slot, enum ChunkKind kind, uint32_t bytes) {
    if (gp_header == &no_header)
        return NULL;
    /* Ends: each round that does not return finds that another thread has put a new extent in place. */
    for (;;) {
        ExtentHeader *extent = atomic_load_explicit(&current_extent, memory_order_acquire);
        if (extent) {
            uint64_t at = __atomic_fetch_add(&extent->used, bytes, __ATOMIC_RELAXED);
            if (at + bytes <= extent->bytes) {
                ChunkHeader *chunk = (ChunkHeader *)((char *)extent + at);
                chunk->kind = (uint16_t)kind;
                chunk->slot = slot;
                chunk->bytes = bytes;
                chunk->length = 0;
                __atomic_store_n(&chunk->magic, GP_CHUNK_MAGIC, __ATOMIC_RELEASE);
                return chunk;
            }
        }
        int error = 0;
        ExtentHeader *fresh = extent_new(next_extent_bytes(bytes), &error);
        if (!fresh) {
            gp_lose(NULL, error);
            return NULL;
        }
        /* The loser's extent stays empty in the file: two threads rarely run out at once. */
        atomic_compare_exchange_strong(&current_extent, &extent, fresh);
    }
}

static bool cursor_room(Slot *slot, Cursor *cursor, enum ChunkKind kind, uint32_t bytes, uint32_t chunk_bytes) {
    if (cursor->chunk && cursor->used + bytes <= cursor->capacity)
        return true;
    if (cursor->retry_ns && gp_now() < cursor->retry_ns)
        return false;
    while (chunk_bytes < bytes + sizeof(ChunkHeader))
        chunk_bytes *= 2;
    if (chunk_bytes > EXTENT_BYTES / 2)
        return false;
    ChunkHeader *chunk = gp_chunk_new(slot->index, kind, chunk_bytes);
    if (!chunk) {
        cursor->retry_ns = gp_now() + RETRY_NS;
        return false;
    }
    cursor->chunk = chunk;
    cursor->used = 0;
    cursor->capacity = chunk_bytes - (uint32_t)sizeof(ChunkHeader);
    cursor->retry_ns = 0;
    return true;
}

void *gp_record_begin(Slot *slot, enum RecordType type, size_t bytes) {
    Cursor *cursor = &slot->records;
    uint32_t whole = (uint32_t)((bytes + 7) & ~(size_t)7);
    if (!cursor_room(slot, cursor, GP_CHUNK_RECORDS, whole, cursor->chunk ? CHUNK_BYTES : FIRST_CHUNK_BYTES)) {
        gp_lose(slot, 0);
        return NULL;
    }
    RecordHeader *record = (RecordHeader *)((char *)(cursor->chunk + 1) + cursor->used);
    memset(record, 0, whole);
    record->type = (uint16_t)type;
    record->bytes = whole;
    return record;
}

void gp_record_done(Slot *slot) {
    Cursor *cursor = &slot->records;
    RecordHeader *record = (RecordHeader *)((char *)(cursor->chunk + 1) + cursor->used);
    cursor->used += record->bytes;
    /* Release: a reader that sees the length must see the record before it. */
    __atomic_store_n(&cursor->chunk->length, cursor->used, __ATOMIC_RELEASE);
}

void *gp_array_begin(Slot *slot, Cursor *cursor, enum ChunkKind kind, uint32_t bytes) {
    if (!cursor_room(slot, cursor, kind, bytes, cursor->chunk ? ARRAY_CHUNK_BYTES : FIRST_ARRAY_CHUNK_BYTES)) {
        gp_lose(slot, 0);
        return NULL;
    }
    return (char *)(cursor->chunk + 1) + cursor->used;
}

void gp_array_done(Cursor *cursor, uint32_t bytes) {
    cursor->used += bytes;
    /* Release: as in gp_record_done. */
    __atomic_store_n(&cursor->chunk->length, cursor->used, __ATOMIC_RELEASE);
}

void gp_meta(Slot *slot, const char *key, const char *value, size_t value_bytes) {
    size_t key_bytes = strlen(key);
    if (value_bytes > 65536)
        value_bytes = 65536;
    MetaRecord *record = gp_record_begin(slot, GP_META, sizeof *record + key_bytes + value_bytes);
    if (!record)
        return;
    record->key_bytes = (uint32_t)key_bytes;
    record->value_bytes = (uint32_t)value_bytes;
    memcpy(record + 1, key, key_bytes);
    memcpy((char *)(record + 1) + key_bytes, value, value_bytes);
    gp_record_done(slot);
}
