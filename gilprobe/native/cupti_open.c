/* Finding libcupti. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "core.h"
#include "cupti.h"

uint64_t gp_now_for_cupti(void) { return gp_now(); }

typedef struct {
    char *path;
    size_t bytes;
} Found;

static int is_cupti(struct dl_phdr_info *info, size_t bytes, void *argument) {
    (void)bytes;
    Found *found = argument;
    const char *name = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;
    /* torch's own wheels once named it libcupti-1234abcd.so.12. */
    if (!name || strncmp(name, "/libcupti", 9) || !strstr(name, ".so"))
        return 0;
    snprintf(found->path, found->bytes, "%s", info->dlpi_name);
    return 1;
}

static void *open_any(const char *wanted, char *path, size_t path_bytes) {
    /* A second copy beside one that the program has (torch brings it) would be a second subscriber. */
    Found found = {path, path_bytes};
    if (dl_iterate_phdr(is_cupti, &found))
        return dlopen(path, RTLD_NOW);
    const char *names[] = {wanted, "libcupti.so.13", "libcupti.so.12", "libcupti.so"};
    for (unsigned i = wanted[0] ? 0 : 1; i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOW);
        if (library) {
            snprintf(path, path_bytes, "%s", names[i]);
            return library;
        }
    }
    return NULL;
}

void *gp_cupti_open(CuptiFunctions *functions, const char *wanted, char *path, size_t path_bytes, bool *whole,
                    bool *replay) {
    void *library = open_any(wanted, path, path_bytes);
    if (!library)
        return NULL;
    static const char *const names[] = {
        "cuptiGetVersion",
        "cuptiSubscribe",
        "cuptiEnableCallback",
        "cuptiActivityRegisterTimestampCallback",
        "cuptiActivityRegisterCallbacks",
        "cuptiActivityEnable",
        "cuptiActivityGetNextRecord",
        "cuptiGetContextId",
        "cuptiGetDeviceId",
        "cuptiActivityFlushAll",
        "cuptiActivityGetNumDroppedRecords",
        "cuptiActivityFlushPeriod",
        "cuptiUnsubscribe",
    };
    enum { COUNT = sizeof names / sizeof names[0], NEEDED = COUNT - 3 };
    _Static_assert(sizeof *functions == COUNT * sizeof(void *), "one name a function, in their order");
    void *addresses[COUNT];
    *whole = true;
    for (int i = 0; i < COUNT; i++) {
        addresses[i] = dlsym(library, names[i]);
        *whole = *whole && (addresses[i] || i >= NEEDED);
    }
    memcpy(functions, addresses, sizeof addresses);
    *replay = dlsym(library, "gilprobe_replay") != NULL;
    return library;
}
