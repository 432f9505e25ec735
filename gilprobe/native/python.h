/* Offsets of what we read from a CPython process. Filled once by gp_python_setup; `known` false: no Python stacks. */
#ifndef GILPROBE_PYTHON_H
#define GILPROBE_PYTHON_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

typedef struct {
    bool known;
    bool free_threaded;
    uint32_t hex;
    uint16_t minor;
    uint16_t state_cframe, cframe_frame; /* 3.11 and 3.12 reach the frame through a _PyCFrame */
    uint16_t state_frame;
    uint16_t frame_code, frame_previous, frame_instruction, frame_owner, frame_locals, frame_tlbc;
    uint8_t first_hidden_owner; /* frames whose owner is this or more are the interpreter's own; 255 = none */
    uint16_t code_file, code_qualname, code_linetable, code_first_line, code_bytes, code_tlbc;
    uint16_t object_type, type_name, type_cached_keys, type_basicsize;
    uint16_t bytes_size, bytes_value;
    uint16_t text_state, text_length, ascii_value;
    uint16_t state_interpreter, interpreter_collecting,
        interpreter_requester; /* of stoptheworld; collecting 0 = not known */
    int16_t managed_dict;      /* of an object, before it */
    uint64_t runtime, runtime_bytes;
    void *(*thread_state)(void);     /* PyGILState_GetThisThreadState: valid while the thread is detached */
    void *(*main_interpreter)(void); /* PyInterpreterState_Main: a static address */
    uint64_t type_type, code_type, text_type;
    void *acquire_lock; /* PyThread_acquire_lock_timed */
} PythonLayout;

extern PythonLayout gp_python;

/* Head of a free-threaded object, 3.13t to 3.15t (CPython Include/object.h). */
typedef struct {
    uint64_t thread;
    uint16_t flags;
    uint8_t mutex, gc_bits;
    uint32_t local;
    uint64_t shared;
    uint64_t type;
} ObjectHead;

#define GP_IMMORTAL_LOCAL UINT32_MAX /* _Py_IMMORTAL_REFCNT_LOCAL, 3.13t to 3.15t */

#define GP_AT(type, base, offset) (*(type const volatile *)((const char *)(uintptr_t)(base) + (int64_t)(offset)))

/* The innermost frame of the calling thread, whose state this is; NULL if it has none. */
static inline const char *gp_current_frame(const char *state) {
    if (!gp_python.state_cframe)
        return GP_AT(const char *, state, gp_python.state_frame);
    const char *cframe = GP_AT(const char *, state, gp_python.state_cframe);
    return cframe ? GP_AT(const char *, cframe, gp_python.cframe_frame) : (const char *)0;
}

/* UTF-8 of a str object, at most `room` bytes; returns the bytes written. */
uint32_t gp_text(const char *object, char *out, uint32_t room);
/* An upper bound for gp_text, at most `most`. */
uint32_t gp_text_bytes(const char *object, uint32_t most);

/* Memory that may be gone: false instead of a fault. */
bool gp_read_safely(void *out, uint64_t address, uint32_t bytes);
bool gp_is_readable(uint64_t address);
struct iovec;
uint64_t gp_read_elements(const struct iovec *to, const struct iovec *from, int count);

#pragma GCC visibility pop
#endif
