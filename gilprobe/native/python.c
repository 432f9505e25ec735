/* Which CPython this is, and where it keeps what. 3.11 and 3.12: fixed offsets. 3.13 and later: _Py_DebugOffsets, the
 * table at the start of _PyRuntime (CPython Include/internal/pycore_debug_offsets.h), by word index. */
#define _GNU_SOURCE
#include "python.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/uio.h>

#include "core.h"

PythonLayout gp_python;
uint64_t gp_python_text, gp_python_text_bytes;

enum { NO_HIDDEN_OWNER = 255 };

static void layout_3_11(PythonLayout *p) {
    *p = (PythonLayout){.state_cframe = 56,
                        .cframe_frame = 8,
                        .frame_code = 32,
                        .frame_instruction = 56,
                        .frame_previous = 48,
                        .frame_owner = 69,
                        .frame_locals = 72,
                        .first_hidden_owner = NO_HIDDEN_OWNER,
                        .code_file = 112,
                        .code_qualname = 128,
                        .code_linetable = 136,
                        .code_first_line = 72,
                        .code_bytes = 184,
                        .object_type = 8,
                        .type_name = 24,
                        .type_cached_keys = 872,
                        .type_basicsize = 32,
                        .bytes_size = 16,
                        .bytes_value = 32,
                        .text_length = 16,
                        .text_state = 32,
                        .ascii_value = 48,
                        .state_interpreter = 16,
                        .interpreter_collecting = 848,
                        .managed_dict = -24};
}

static void layout_3_12(PythonLayout *p) {
    *p = (PythonLayout){.state_cframe = 56,
                        .cframe_frame = 0,
                        .frame_code = 0,
                        .frame_instruction = 56,
                        .frame_previous = 8,
                        .frame_owner = 70,
                        .frame_locals = 72,
                        .first_hidden_owner = 3,
                        .code_file = 112,
                        .code_qualname = 128,
                        .code_linetable = 136,
                        .code_first_line = 68,
                        .code_bytes = 192,
                        .object_type = 8,
                        .type_name = 24,
                        .type_cached_keys = 880,
                        .type_basicsize = 32,
                        .bytes_size = 16,
                        .bytes_value = 32,
                        .text_length = 16,
                        .text_state = 32,
                        .ascii_value = 40,
                        .state_interpreter = 16,
                        .interpreter_collecting = 312,
                        .managed_dict = -24};
}

/* Word indices into _Py_DebugOffsets, which differ by minor version only. */
typedef struct {
    uint8_t state_frame, frame_previous, frame_code, frame_instruction, frame_locals, frame_owner, frame_tlbc;
    uint8_t code_file, code_qualname, code_linetable, code_first_line, code_bytes, code_tlbc;
    uint8_t object_type, type_name, bytes_size, bytes_value, text_state, text_length, ascii_value;
    uint8_t interpreter_gc, gc_collecting, state_interpreter;
} DebugOffsetIndices;

static const DebugOffsetIndices debug_offsets[] = {
    [13] = {23, 29, 30, 31, 32, 33, 0, 35, 37, 38, 39, 43, 0, 45, 47, 65, 66, 68, 69, 70, 10, 72, 22},
    [14] = {26, 32, 33, 34, 35, 36, 38, 40, 42, 43, 44, 48, 49, 51, 53, 75, 76, 78, 79, 80, 11, 82, 25},
    [15] = {26, 40, 41, 42, 43, 44, 46, 48, 50, 51, 52, 56, 57, 59, 61, 87, 88, 90, 91, 92, 11, 95, 25},
};

/* PyInterpreterState.stoptheworld.requester of free-threaded builds: the thread state that has stopped the world. */
static const uint16_t stop_requester[] = {[13] = 10760, [14] = 10864, [15] = 10824};

static bool layout_from_debug_offsets(PythonLayout *p, const uint64_t *words, uint32_t minor) {
    if (memcmp(words, "xdebugpy", 8) || minor >= sizeof debug_offsets / sizeof debug_offsets[0])
        return false;
    const DebugOffsetIndices *at = &debug_offsets[minor];
#define WORD(field) ((uint16_t)words[at->field])
    bool free_threaded = words[2] != 0;
    *p = (PythonLayout){.free_threaded = free_threaded,
                        .state_frame = WORD(state_frame),
                        .frame_previous = WORD(frame_previous),
                        .frame_code = WORD(frame_code),
                        .frame_instruction = WORD(frame_instruction),
                        .frame_locals = WORD(frame_locals),
                        .frame_owner = WORD(frame_owner),
                        .first_hidden_owner = 3,
                        .code_file = WORD(code_file),
                        .code_qualname = WORD(code_qualname),
                        .code_linetable = WORD(code_linetable),
                        .code_first_line = WORD(code_first_line),
                        .code_bytes = WORD(code_bytes),
                        .object_type = WORD(object_type),
                        .type_name = WORD(type_name),
                        .bytes_size = WORD(bytes_size),
                        .bytes_value = WORD(bytes_value),
                        .text_state = WORD(text_state),
                        .text_length = WORD(text_length),
                        .ascii_value = WORD(ascii_value),
                        .state_interpreter = WORD(state_interpreter),
                        .interpreter_collecting = (uint16_t)(WORD(interpreter_gc) + WORD(gc_collecting)),
                        .managed_dict = free_threaded ? -8 : -24};
    if (free_threaded && at->code_tlbc) {
        p->code_tlbc = WORD(code_tlbc);
        p->frame_tlbc = WORD(frame_tlbc);
    }
#undef WORD
    if (free_threaded)
        p->interpreter_requester = stop_requester[minor];
    p->type_cached_keys = (minor <= 14 ? 880 : 888) + (free_threaded ? 16 : 0);
    p->type_basicsize = free_threaded ? 48 : 32;
    return true;
}

static int find_image(struct dl_phdr_info *image, size_t size, void *argument) {
    (void)size;
    uint64_t address = *(uint64_t *)argument;
    bool here = false;
    uint64_t text = 0, text_bytes = 0;
    for (int i = 0; i < image->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &image->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uint64_t start = image->dlpi_addr + segment->p_vaddr;
        if (address - start < segment->p_memsz)
            here = true;
        if (segment->p_flags & PF_X) {
            text = start;
            text_bytes = segment->p_memsz;
        }
    }
    if (here) {
        gp_python_text = text;
        gp_python_text_bytes = text_bytes;
    }
    return here;
}

void gp_python_setup(void) {
    const unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version");
    char *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
    void *thread_state = dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
    if (!runtime || !thread_state)
        return;
    PythonLayout layout = {0};
    uint32_t hex = version ? (uint32_t)*version : 0, minor = hex >> 16 & 0xff;
    if (hex >> 16 == 0x30b) {
        layout_3_11(&layout);
        layout.known = true;
    } else if (hex >> 16 == 0x30c) {
        layout_3_12(&layout);
        layout.known = true;
    } else if (hex >> 24 == 3 && minor >= 13) {
        layout.known = layout_from_debug_offsets(&layout, (const uint64_t *)runtime, minor);
    }
    layout.hex = hex;
    layout.minor = (uint16_t)minor;
    layout.runtime = (uint64_t)runtime;
    layout.thread_state = (void *(*)(void))thread_state;
    layout.main_interpreter = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyInterpreterState_Main");
    layout.acquire_lock = dlsym(RTLD_DEFAULT, "PyThread_acquire_lock_timed");
    layout.type_type = (uint64_t)dlsym(RTLD_DEFAULT, "PyType_Type");
    layout.code_type = (uint64_t)dlsym(RTLD_DEFAULT, "PyCode_Type");
    layout.text_type = (uint64_t)dlsym(RTLD_DEFAULT, "PyUnicode_Type");
    Dl_info where;
    ElfW(Sym) *symbol = NULL;
    if (dladdr1(runtime, &where, (void **)&symbol, RTLD_DL_SYMENT) && symbol)
        layout.runtime_bytes = symbol->st_size;
    gp_python = layout;
    uint64_t address = (uint64_t)thread_state;
    dl_iterate_phdr(find_image, &address);
}

/* Bytes read, up to the first page that cannot be. */
uint64_t gp_read_elements(const struct iovec *to, const struct iovec *from, int count) {
    long got = gp_syscall6(SYS_process_vm_readv, (long)gp_header->pid, (long)to, count, (long)from, count, 0);
    return got > 0 ? (uint64_t)got : 0;
}

bool gp_read_safely(void *out, uint64_t address, uint32_t bytes) {
    struct iovec to = {out, bytes}, from = {(void *)address, bytes};
    return gp_syscall6(SYS_process_vm_readv, (long)gp_header->pid, (long)&to, 1, (long)&from, 1, 0) == (long)bytes;
}

/* The cheapest call that reads the 8 bytes around an address, and fails for its first argument only then. */
bool gp_is_readable(uint64_t address) {
    return gp_syscall6(SYS_rt_sigprocmask, -1, (long)(address & ~7ull), 0, sizeof(uint64_t), 0, 0) != -EFAULT;
}

/* Bytes a character, ASCII or not. The width of `interned` before these bits differs: 2 bits, or 8, or 16. */
static uint32_t text_kind(uint32_t state, bool *ascii) {
    static const uint8_t shifts[] = {2, 8, 16};
    for (unsigned i = 0; i < sizeof shifts; i++) {
        uint32_t kind = state >> shifts[i] & 7, compact = state >> (shifts[i] + 3) & 1;
        if ((kind == 1 || kind == 2 || kind == 4) && compact) {
            *ascii = state >> (shifts[i] + 4) & 1;
            return kind;
        }
    }
    return 0;
}

uint32_t gp_text_bytes(const char *object, uint32_t most) {
    if (!object)
        return 0;
    uint64_t length = GP_AT(uint64_t, object, gp_python.text_length);
    bool ascii = false;
    uint32_t kind = text_kind(GP_AT(uint32_t, object, gp_python.text_state), &ascii);
    uint64_t bytes = !kind ? 0 : ascii ? length : length * (kind == 1 ? 2 : kind == 2 ? 3 : 4);
    return bytes > most ? most : (uint32_t)bytes;
}

uint32_t gp_text(const char *object, char *out, uint32_t room) {
    if (!object)
        return 0;
    uint64_t length = GP_AT(uint64_t, object, gp_python.text_length);
    bool ascii = false;
    uint32_t kind = text_kind(GP_AT(uint32_t, object, gp_python.text_state), &ascii), written = 0;
    /* A compact str that is not ASCII also holds utf8_length and utf8, and wstr_length up to 3.11. */
    const char *data = object + gp_python.ascii_value + (ascii ? 0 : gp_python.minor <= 11 ? 24 : 16);
    if (kind == 1 && ascii) {
        written = length < room ? (uint32_t)length : room;
        memcpy(out, data, written);
        return written;
    }
    for (uint64_t i = 0; kind && i < length; i++) {
        uint32_t c = kind == 1   ? GP_AT(uint8_t, data, i)
                     : kind == 2 ? GP_AT(uint16_t, data, 2 * i)
                                 : GP_AT(uint32_t, data, 4 * i);
        uint32_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (written + bytes > room)
            break;
        if (bytes == 1) {
            out[written] = (char)c;
        } else {
            static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
            for (uint32_t b = bytes; b-- > 1; c >>= 6)
                out[written + b] = (char)(0x80 | (c & 0x3f));
            out[written] = (char)(lead[bytes] | c);
        }
        written += bytes;
    }
    return written;
}
