/* How a lock is asked for: acquire(blocking=True, timeout=-1) in either calling convention. */
#ifndef GILPROBE_ASKED_H
#define GILPROBE_ASKED_H

#include "methods.h"
#include "python.h"

#define FAST inline __attribute__((always_inline))

#pragma GCC visibility push(hidden)

uint8_t gp_asked_how(void *blocking, void *timeout);
bool gp_name_is(const char *text, const char *name);

#pragma GCC visibility pop

static FAST uint8_t ask_of(int flags, void *a, void *b, void *c) {
    void *blocking = NULL, *timeout = NULL;
    if (flags & METH_FASTCALL) {
        void **arguments = a;
        uint64_t count = (uint64_t)b & ~(1ull << 63);
        if (__builtin_expect(!count && (!c || !(flags & METH_KEYWORDS)), 1))
            return 0;
        blocking = count > 0 ? arguments[0] : NULL;
        timeout = count > 1 ? arguments[1] : NULL;
        uint64_t names = c && flags & METH_KEYWORDS ? GP_AT(uint64_t, c, gp_head_bytes) : 0;
        for (uint64_t i = 0; i < names && i < 2; i++) {
            const char *name = GP_AT(const char *, c, gp_items_at + 8 * i);
            if (gp_name_is(name, "blocking"))
                blocking = arguments[count + i];
            else if (gp_name_is(name, "timeout"))
                timeout = arguments[count + i];
        }
        return gp_asked_how(blocking, timeout);
    }
    if (!a || !(flags & 3)) /* METH_NOARGS */
        return 0;
    uint64_t count = GP_AT(uint64_t, a, gp_head_bytes);
    void *names = flags & METH_KEYWORDS ? b : NULL;
    if (__builtin_expect(!count && !names, 1))
        return 0;
    blocking = count > 0 ? GP_AT(void *, a, gp_items_at) : names ? gp_py.dict_get(names, "blocking") : NULL;
    timeout = count > 1 ? GP_AT(void *, a, gp_items_at + 8) : names ? gp_py.dict_get(names, "timeout") : NULL;
    return gp_asked_how(blocking, timeout);
}

#endif
