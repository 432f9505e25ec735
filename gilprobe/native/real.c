#define _GNU_SOURCE
#include "real.h"

#include <dlfcn.h>
#include <stddef.h>

__attribute__((visibility("hidden"))) RealFunctions gp_real;

/* pthread_cond_* have two versions on x86-64; without asking for the newer, dlsym may give the one from before NPTL. */
static void *next(const char *name, const char *version) {
    void *function = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return function ? function : dlsym(RTLD_NEXT, name);
}

void gp_resolve_real(void) {
#define GP_RESOLVE(name, version, result, parameters) gp_real.name = (result(*) parameters)next(#name, version);
    GP_REAL_FUNCTIONS(GP_RESOLVE)
#undef GP_RESOLVE
}
