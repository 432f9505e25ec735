/* The Python stack of the calling thread, read while it is in a libc call: nobody changes its frames meanwhile. */
#define _GNU_SOURCE
#include "core.h"

#include <link.h>
#include <string.h>
#include <sys/uio.h>
#include <unwind.h>

#include "python.h"

#define CODE_SLOTS (1u << 16)
#define CODE_PROBES 32
#define CODE_HEAD_BYTES 512 /* more than any PyCodeObject has before its bytecode */
#define MOST_TEXT 2000u
#define MOST_LINETABLE 20000u
#define MOST_OWN_FRAMES 8

typedef struct {
    const char *code;
    uint32_t offset;
} RawFrame;

typedef struct {
    RawFrame frames[GP_MAX_PYTHON_FRAMES];
    const char *outermost;
    int count;
    bool truncated;
    uint64_t hash;
} RawStack;

/* Written only when a code object is first seen; an id of 0 means that someone is writing. */
typedef struct {
    _Atomic uint64_t code;
    _Atomic uint64_t check;
    _Atomic uint32_t id;
} CodeEntry;

static CodeEntry codes[CODE_SLOTS];
static _Atomic uint32_t next_code, next_stack;
_Atomic uint32_t gp_generation;

static const char *bytecode_start(const char *code, const char *frame) {
    if (gp_python.code_tlbc) {
        /* Free-threaded 3.14 and later: each thread has its own copy (CPython _PyCodeArray: size, entries). */
        const char *array = GP_AT(const char *, code, gp_python.code_tlbc);
        int32_t index = GP_AT(int32_t, frame, gp_python.frame_tlbc);
        if (array && index > 0 && index < GP_AT(int64_t, array, 0)) {
            const char *own = GP_AT(const char *, array, 8 + 8 * (uint64_t)index);
            if (own)
                return own;
        }
    }
    return code + gp_python.code_bytes;
}

/* The line table tells a new code object at an old one's address from the old one; shifted so far that two functions,
 * made one after the other, do not differ by the same bits in both. */
static uint64_t mix_frame(uint64_t hash, uint64_t code, uint64_t linetable, uint32_t offset) {
    return gp_mix(hash ^ offset, code ^ linetable << 17);
}

static void walk(RawStack *stack) {
    stack->count = 0;
    stack->truncated = false;
    stack->outermost = NULL;
    stack->hash = 0;
    const char *state = gp_python.known ? gp_python.thread_state() : NULL;
    if (!state)
        return;
    gp_slot_here->state = (uint64_t)state;
    for (const char *frame = gp_current_frame(state); frame;
         frame = GP_AT(const char *, frame, gp_python.frame_previous)) {
        if (GP_AT(uint8_t, frame, gp_python.frame_owner) >= gp_python.first_hidden_owner)
            continue;
        if (stack->count == GP_MAX_PYTHON_FRAMES) {
            stack->truncated = true;
            break;
        }
        /* Up to 3 tag bits: 3.14 and later keep the code object as a tagged reference. */
        const char *code = (const char *)(GP_AT(uint64_t, frame, gp_python.frame_code) & ~7ull);
        if (!code)
            break;
        const char *instruction = GP_AT(const char *, frame, gp_python.frame_instruction);
        uint32_t offset = (uint32_t)(instruction - bytecode_start(code, frame));
        stack->frames[stack->count++] = (RawFrame){code, offset};
        stack->outermost = frame;
        stack->hash = mix_frame(stack->hash, (uint64_t)code, GP_AT(uint64_t, code, gp_python.code_linetable), offset);
    }
}

static uint64_t check_of(uint64_t linetable, uint64_t qualname) {
    return gp_mix(gp_mix(linetable, qualname), atomic_load_explicit(&gp_generation, memory_order_relaxed));
}

static CodeEntry *code_entry(uint64_t code, uint32_t i) {
    return &codes[((uint32_t)(gp_mix(0, code) >> 48) + i) & (CODE_SLOTS - 1)];
}

/* 0: not written yet, or about another code object at this address. */
static uint32_t known_id(uint64_t code, uint64_t check) {
    for (uint32_t i = 0; i < CODE_PROBES; i++) {
        const CodeEntry *entry = code_entry(code, i);
        uint64_t key = atomic_load_explicit(&entry->code, memory_order_relaxed);
        if (!key)
            return 0;
        if (key != code)
            continue;
        /* Acquire: pairs with the release in code_id; the check read after it belongs to this id or a later one. */
        uint32_t id = atomic_load_explicit(&entry->id, memory_order_acquire);
        return id && atomic_load_explicit(&entry->check, memory_order_relaxed) == check ? id : 0;
    }
    return 0;
}

#define FRAME_BYTES 96u
#define WINDOW_BYTES 2048u
#define PAGE_BYTES 4096u
#define MOST_HEADS 8

/* The frames of interrupted code, copied a window at a time: one system call reads what up to 20 frames need. */
typedef struct {
    uint64_t start, end;
    char data[WINDOW_BYTES]; /* up to `end` */
} Window;

static const char *frame_in_window(Window *window, uint64_t frame) {
    uint64_t end = frame + FRAME_BYTES, page = frame & ~(uint64_t)(PAGE_BYTES - 1);
    if (frame < window->start || end > window->end) {
        /* Callers lie below their callees on CPython's data stack. The frame's own page is an element of its own: what
         * lies before it may not be mapped, and a partial read ends with an element (process_vm_readv(2)). */
        uint64_t first = end - WINDOW_BYTES, near = page > first ? page : first;
        struct iovec to[2] = {{window->data + (near - first), end - near}, {window->data, near - first}};
        struct iovec from[2] = {{(void *)near, end - near}, {(void *)first, near - first}};
        uint64_t got = gp_read_elements(to, from, near > first ? 2 : 1);
        window->end = 0;
        if (got < end - near)
            return NULL;
        window->start = got == WINDOW_BYTES ? first : near;
        window->end = end;
    }
    return window->data + (WINDOW_BYTES - (window->end - frame));
}

static bool bytecode_start_safely(uint64_t code, int32_t index, uint64_t *start) {
    *start = code + gp_python.code_bytes;
    if (!gp_python.code_tlbc)
        return true;
    uint64_t array, own;
    if (!gp_read_safely(&array, code + gp_python.code_tlbc, 8))
        return false;
    if (array && index > 0 && gp_read_safely(&own, array + 8 + 8 * (uint64_t)index, 8) && own)
        *start = own;
    return true;
}

static bool has_type(uint64_t object, uint64_t type) {
    uint64_t own;
    return object && !(object & 7) && gp_read_safely(&own, object + gp_python.object_type, 8) && own == type;
}

/* A stack that is being changed may hold what was there before: up to 3.12 a call into the interpreter is the current
 * one before it has a frame (CPython Python/ceval.c, _PyEval_EvalFrameDefault: its _PyCFrame is not yet filled in). */
static bool is_code_head(const char *head, uint64_t code, uint64_t *linetable) {
    uint64_t bytes;
    if (GP_AT(uint64_t, head, gp_python.object_type) != gp_python.code_type)
        return false;
    *linetable = GP_AT(uint64_t, head, gp_python.code_linetable);
    uint64_t qualname = GP_AT(uint64_t, head, gp_python.code_qualname);
    if (known_id(code, check_of(*linetable, qualname)))
        return true;
    return has_type(qualname, gp_python.text_type) &&
           has_type(GP_AT(uint64_t, head, gp_python.code_file), gp_python.text_type) && !(*linetable & 7) &&
           gp_read_safely(&bytes, *linetable + gp_python.bytes_size, 8) && bytes <= MOST_LINETABLE;
}

/* What frames say, before anything is known of their code objects. */
typedef struct {
    int count;
    bool more;
    uint64_t address[GP_MAX_PYTHON_FRAMES], code[GP_MAX_PYTHON_FRAMES], instruction[GP_MAX_PYTHON_FRAMES];
    int32_t tlbc[GP_MAX_PYTHON_FRAMES];
} Claims;

static void claimed_frames(Claims *claims, uint64_t address) {
    Window window;
    window.start = window.end = 0;
    claims->count = 0;
    claims->more = false;
    for (int seen = 0; address && seen < 2 * GP_MAX_PYTHON_FRAMES; seen++) {
        const char *frame = address >= 65536 && !(address & 7) ? frame_in_window(&window, address) : NULL;
        if (!frame)
            return;
        uint64_t own = address;
        address = GP_AT(uint64_t, frame, gp_python.frame_previous);
        if (GP_AT(uint8_t, frame, gp_python.frame_owner) >= gp_python.first_hidden_owner)
            continue;
        if (claims->count == GP_MAX_PYTHON_FRAMES) {
            claims->more = true;
            return;
        }
        int i = claims->count;
        claims->address[i] = own;
        claims->code[i] = GP_AT(uint64_t, frame, gp_python.frame_code) & ~7ull;
        claims->instruction[i] = GP_AT(uint64_t, frame, gp_python.frame_instruction);
        claims->tlbc[i] = gp_python.code_tlbc ? GP_AT(int32_t, frame, gp_python.frame_tlbc) : 0;
        if (!claims->code[i])
            return;
        claims->count++;
    }
}

/* Heads of code objects, one behind the other, in one system call; how many: up to the first that cannot be read. */
static int read_heads(char *heads, const uint64_t *codes_at, int count) {
    struct iovec to[MOST_HEADS], from[MOST_HEADS];
    for (int i = 0; i < count; i++) {
        to[i] = (struct iovec){heads + (size_t)i * gp_python.code_bytes, gp_python.code_bytes};
        from[i] = (struct iovec){(void *)codes_at[i], gp_python.code_bytes};
    }
    return (int)(gp_read_elements(to, from, count) / gp_python.code_bytes);
}

static void walk_safely(RawStack *stack) {
    char heads[MOST_HEADS * 256];
    stack->count = 0;
    stack->truncated = false;
    stack->outermost = NULL;
    stack->hash = 1;
    const char *state = gp_python.known ? gp_python.thread_state() : NULL;
    if (!state)
        return;
    Claims claims;
    claimed_frames(&claims, (uint64_t)gp_current_frame(state));
    int room = (int)(sizeof heads / gp_python.code_bytes), first = 0, read = 0;
    for (int i = 0; i < claims.count; i++) {
        if (i == first + read) {
            int left = claims.count - i, most = room < MOST_HEADS ? room : MOST_HEADS;
            first = i;
            read = read_heads(heads, claims.code + i, left < most ? left : most);
        }
        uint64_t code = claims.code[i], start, linetable;
        if (i >= first + read || !is_code_head(heads + (size_t)(i - first) * gp_python.code_bytes, code, &linetable) ||
            !bytecode_start_safely(code, claims.tlbc[i], &start))
            return;
        uint32_t offset = (uint32_t)(claims.instruction[i] - start);
        stack->frames[stack->count++] = (RawFrame){(const char *)code, offset};
        stack->outermost = (const char *)claims.address[i];
        stack->hash = mix_frame(stack->hash, code, linetable, offset);
    }
    stack->truncated = claims.more;
}

static uint32_t write_code(Slot *slot, const char *code) {
    const char *file = GP_AT(const char *, code, gp_python.code_file);
    const char *qualname = GP_AT(const char *, code, gp_python.code_qualname);
    const char *linetable = GP_AT(const char *, code, gp_python.code_linetable);
    uint64_t linetable_bytes = linetable ? GP_AT(uint64_t, linetable, gp_python.bytes_size) : 0;
    if (linetable_bytes > MOST_LINETABLE)
        linetable_bytes = 0;
    CodeRecord *record = gp_record_begin(slot, GP_CODE,
                                         sizeof *record + gp_text_bytes(file, MOST_TEXT) +
                                             gp_text_bytes(qualname, MOST_TEXT) + linetable_bytes);
    if (!record)
        return 0;
    char *out = (char *)(record + 1);
    record->code_id = atomic_fetch_add_explicit(&next_code, 1, memory_order_relaxed) + 1;
    record->first_line = GP_AT(uint32_t, code, gp_python.code_first_line);
    out += record->file_bytes = gp_text(file, out, gp_text_bytes(file, MOST_TEXT));
    out += record->qualname_bytes = gp_text(qualname, out, gp_text_bytes(qualname, MOST_TEXT));
    record->linetable_bytes = (uint32_t)linetable_bytes;
    if (linetable_bytes)
        memcpy(out, linetable + gp_python.bytes_value, linetable_bytes);
    uint32_t id = record->code_id;
    gp_record_done(slot);
    return id;
}

/* Two threads that meet a code object at once may both write it, under two ids: no one waits. */
static uint32_t code_id(Slot *slot, const char *code) {
    uint64_t check =
        check_of(GP_AT(uint64_t, code, gp_python.code_linetable), GP_AT(uint64_t, code, gp_python.code_qualname));
    uint32_t known = known_id((uint64_t)code, check);
    if (known)
        return known;
    uint32_t fresh = write_code(slot, code);
    for (uint32_t i = 0; fresh && i < CODE_PROBES; i++) {
        CodeEntry *entry = code_entry((uint64_t)code, i);
        uint64_t key = atomic_load_explicit(&entry->code, memory_order_relaxed);
        if (!key && atomic_compare_exchange_strong(&entry->code, &key, (uint64_t)code))
            key = (uint64_t)code;
        if (key != (uint64_t)code)
            continue;
        uint32_t before = atomic_load_explicit(&entry->id, memory_order_relaxed);
        if (atomic_compare_exchange_strong(&entry->id, &before, 0)) {
            atomic_store_explicit(&entry->check, check, memory_order_relaxed);
            atomic_store_explicit(&entry->id, fresh, memory_order_release);
        }
        break;
    }
    return fresh;
}

typedef struct {
    uint64_t *addresses;
    int count, own;
    uint64_t caller; /* where our own frames end */
} Unwinding;

static _Unwind_Reason_Code unwound(struct _Unwind_Context *context, void *argument) {
    Unwinding *unwinding = argument;
    uint64_t address = _Unwind_GetIP(context);
    if (!address)
        return _URC_END_OF_STACK;
    if (unwinding->count == 0 && address != unwinding->caller && unwinding->own++ < MOST_OWN_FRAMES)
        return _URC_NO_REASON;
    unwinding->addresses[unwinding->count++] = address;
    return unwinding->count == GP_MAX_NATIVE_FRAMES ? _URC_END_OF_STACK : _URC_NO_REASON;
}

/* ---- images: what the native addresses belong to */

static _Atomic uint64_t images_seen;

typedef struct {
    Slot *slot;
    uint64_t adds;
} ImageWalk;

static int write_image(struct dl_phdr_info *image, size_t size, void *argument) {
    (void)size;
    ImageWalk *images = argument;
    images->adds = image->dlpi_adds;
    uint64_t start = UINT64_MAX, end = 0;
    for (int i = 0; i < image->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &image->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uint64_t from = image->dlpi_addr + segment->p_vaddr, to = from + segment->p_memsz;
        start = from < start ? from : start;
        end = to > end ? to : end;
    }
    char own[512];
    const char *path = image->dlpi_name;
    size_t path_bytes = path ? strlen(path) : 0;
    if (!path_bytes) { /* the program itself */
        long got = gp_syscall3(SYS_readlink, "/proc/self/exe", own, sizeof own);
        path = own;
        path_bytes = got > 0 ? (size_t)got : 0;
    }
    ImageRecord *record = gp_record_begin(images->slot, GP_IMAGE, sizeof *record + path_bytes);
    if (!record)
        return 1;
    record->bias = image->dlpi_addr;
    record->start = start;
    record->end = end;
    record->path_bytes = (uint32_t)path_bytes;
    memcpy(record + 1, path, path_bytes);
    gp_record_done(images->slot);
    return 0;
}

static int count_images(struct dl_phdr_info *image, size_t size, void *argument) {
    (void)size;
    *(uint64_t *)argument = image->dlpi_adds;
    return 1;
}

/* All images again when the loader has added one since. */
void gp_images_write(Slot *slot) {
    uint64_t adds = 0, seen = atomic_load_explicit(&images_seen, memory_order_relaxed);
    dl_iterate_phdr(count_images, &adds);
    if (adds == seen || !atomic_compare_exchange_strong(&images_seen, &seen, adds))
        return;
    ImageWalk images = {slot, 0};
    dl_iterate_phdr(write_image, &images);
}

void gp_frames_forked(void) {
    atomic_fetch_add(&gp_generation, 1);
    atomic_store(&next_code, 0);
    atomic_store(&next_stack, 0);
    atomic_store(&images_seen, 0);
}

static __attribute__((noinline)) uint32_t write_stack(Slot *slot, const RawStack *stack, void *caller) {
    PythonFrame frames[GP_MAX_PYTHON_FRAMES];
    uint64_t addresses[GP_MAX_NATIVE_FRAMES];
    for (int i = 0; i < stack->count; i++)
        frames[i] = (PythonFrame){code_id(slot, stack->frames[i].code), stack->frames[i].offset};
    Unwinding unwinding = {addresses, 0, 0, (uint64_t)caller};
    if (caller) {
        _Unwind_Backtrace(unwound, &unwinding);
        gp_images_write(slot);
    }
    StackRecord *record = gp_record_begin(slot, GP_STACK,
                                          sizeof *record + (size_t)stack->count * sizeof(PythonFrame) +
                                              (size_t)unwinding.count * sizeof(uint64_t));
    if (!record)
        return 0;
    record->head.flags = stack->truncated ? GP_STACK_TRUNCATED : 0;
    record->python_frames = (uint16_t)stack->count;
    record->native_frames = (uint16_t)unwinding.count;
    record->stack_id = atomic_fetch_add_explicit(&next_stack, 1, memory_order_relaxed) + 1;
    char *out = (char *)(record + 1);
    memcpy(out, frames, (size_t)stack->count * sizeof(PythonFrame));
    memcpy(out + (size_t)stack->count * sizeof(PythonFrame), addresses, (size_t)unwinding.count * sizeof(uint64_t));
    uint32_t id = record->stack_id;
    gp_record_done(slot);
    return id;
}

static uint32_t stack_id(Slot *slot, const RawStack *stack, void *caller) {
    uint64_t hash = gp_mix(stack->hash, (uint64_t)caller) | 1;
    IndexEntry *entry = gp_index_find(&slot->stacks, hash);
    if (entry)
        return (uint32_t)entry->value;
    uint32_t id = write_stack(slot, stack, caller);
    if (id && (entry = gp_index_insert(&slot->stacks, hash)))
        entry->value = id;
    return id;
}

/* The native frames are taken when a Python stack is first seen with this return address: unwinding each time would
 * cost more than the wait. */
__attribute__((noinline)) uint32_t gp_stack_here(Slot *slot, void *return_address) {
    RawStack stack;
    walk(&stack);
    if (GP_RARE(!slot->named) && stack.outermost && !stack.truncated)
        gp_name_thread(slot, stack.outermost);
    return stack_id(slot, &stack, return_address);
}

/* No native frames: the unwinder is not safe in a signal handler. */
uint32_t gp_stack_in_signal(Slot *slot) {
    RawStack stack;
    walk_safely(&stack);
    /* An outermost frame that has called another is whole; the innermost may be being made or taken down. */
    if (GP_RARE(!slot->named) && stack.count > 1 && !stack.truncated)
        gp_name_thread(slot, stack.outermost);
    return stack.count ? stack_id(slot, &stack, NULL) : 0;
}

uint32_t gp_stack_of_frame(Slot *slot, uint64_t code, uint32_t offset) {
    char head[CODE_HEAD_BYTES];
    uint64_t linetable;
    if (!gp_read_safely(head, code, gp_python.code_bytes) || !is_code_head(head, code, &linetable))
        return 0;
    RawStack stack = {.count = 1};
    stack.frames[0] = (RawFrame){(const char *)code, offset};
    stack.hash = mix_frame(1, code, linetable, offset);
    return stack_id(slot, &stack, NULL);
}
