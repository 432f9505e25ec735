#define _GNU_SOURCE
#include "real.h"

#include "core.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>

__attribute__((visibility("hidden"))) RealFunctions gp_real;

/* pthread_cond_* have two versions on x86-64; without asking for the newer, dlsym may give the one from before NPTL. */
static void *find(void *where, const char *name, const char *version) {
    void *function = version ? dlvsym(where, name, version) : NULL;
    return function ? function : dlsym(where, name);
}

static int program(struct dl_phdr_info *image, size_t size, void *argument) {
    (void)size;
    uint64_t *range = argument;
    for (int i = 0; i < image->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &image->dlpi_phdr[i];
        uint64_t start = image->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;
        if (segment->p_type != PT_LOAD)
            continue;
        range[0] = start < range[0] ? start : range[0];
        range[1] = end > range[1] ? end : range[1];
    }
    return 1; /* it comes first */
}

/* Preloaded: whoever stands behind us. Loaded later: whoever the program calls, be it libc or another preloaded
 * library; but not the program's own jump to it, which will lead to our hook. */
static void *next(const char *name, const char *version, void *scope, const uint64_t *own) {
    if (scope) {
        uint64_t function = (uint64_t)find(scope, name, version);
        if (function && (function < own[0] || function >= own[1]))
            return (void *)function;
    }
    return find(RTLD_NEXT, name, version);
}

void gp_resolve_real(void) {
    uint64_t own[2] = {UINT64_MAX, 0};
    /* Not RTLD_DEFAULT, where a library linked with -Bsymbolic finds itself first. */
    void *scope = gp_is_preloaded() ? NULL : dlopen(NULL, RTLD_LAZY);
    if (scope)
        dl_iterate_phdr(program, own);
#define GP_RESOLVE(name, version, result, parameters) \
    gp_real.name = (result(*) parameters)next(#name, version, scope, own);
    GP_REAL_FUNCTIONS(GP_RESOLVE)
#undef GP_RESOLVE
}
