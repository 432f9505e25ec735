/* Code objects of the standard library that wait for something, told by their names; kept by address, as reading the
 * names of all frames of a thousand threads would take too long. */
#include "graph.h"

#include <string.h>

#include "python.h"

#define KNOWN_BITS 10
#define HEAD_BYTES 256

static struct {
    uint64_t code, qualname, file; /* the two tell it from a later one at its address */
    uint8_t name;
} known[1 << KNOWN_BITS];

static bool ends_with(const char *text, const char *end) {
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && !strcmp(text + bytes - end_bytes, end);
}

static enum CodeName name_of(const FrameText *text) {
    const char *function = text->function, *file = text->file;
    if (!strcmp(function, "Thread._wait_for_tstate_lock"))
        return GP_CODE_JOIN;
    if (!strcmp(file, "<frozen importlib._bootstrap>") || ends_with(file, "importlib/_bootstrap.py"))
        return strcmp(function, "_ModuleLock.acquire") ? GP_CODE_OTHER : GP_CODE_MODULE_LOCK;
    if (ends_with(file, "threading.py"))
        return !strcmp(function, "_shutdown")           ? GP_CODE_JOIN
               : !strcmp(function, "Condition.wait")    ? GP_CODE_WAIT
               : !strcmp(function, "Semaphore.acquire") ? GP_CODE_SEMAPHORE
                                                        : GP_CODE_THREADING;
    if (ends_with(file, "/queue.py"))
        return strcmp(function, "Queue.put") ? GP_CODE_QUEUE : GP_CODE_QUEUE_PUT;
    if (ends_with(file, "concurrent/futures/_base.py") &&
        (!strcmp(function, "Future.result") || !strcmp(function, "Future.exception")))
        return GP_CODE_FUTURE;
    if (ends_with(file, "concurrent/futures/thread.py") && !strcmp(function, "_worker"))
        return GP_CODE_WORKER;
    return GP_CODE_OTHER;
}

enum CodeName gp_code_name(uint64_t code) {
    char head[HEAD_BYTES];
    uint32_t last = gp_python.code_qualname > gp_python.code_file ? gp_python.code_qualname : gp_python.code_file;
    if (last + 8 > sizeof head || !gp_read_safely(head, code, last + 8))
        return GP_CODE_OTHER;
    uint64_t qualname = GP_AT(uint64_t, head, gp_python.code_qualname);
    uint64_t file = GP_AT(uint64_t, head, gp_python.code_file);
    uint32_t at = (uint32_t)((code >> 4) * 0x9E3779B97F4A7C15u >> (64 - KNOWN_BITS));
    if (known[at].code != code || known[at].qualname != qualname || known[at].file != file) {
        static FrameText text;
        if (!gp_frame_text(code, 0, &text))
            return GP_CODE_OTHER;
        known[at].code = code;
        known[at].qualname = qualname;
        known[at].file = file;
        known[at].name = (uint8_t)name_of(&text);
    }
    return (enum CodeName)known[at].name;
}
