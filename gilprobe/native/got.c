/* The import tables (GOT) of a running program's libraries: our hooks written into them, and what was there put back.
 *
 * All of it happens inside dl_iterate_phdr, whose lock keeps the loader from adding and removing libraries and our own
 * threads from doing this at once. A library may be half relocated all the same: the loader does that without the lock.
 */
#define _GNU_SOURCE
#include "core.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define PAGE 4096ull
#define MOST_IMAGES 4096
#define LOWEST_ADDRESS 65536u

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden"))); /* of this library */

typedef struct {
    uint64_t base, bytes;
    const ElfW(Dyn) * dynamic;
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Rela) * tables[2]; /* the procedure linkage table's, the others' */
    uint64_t counts[2];
    uint64_t protected_from, protected_to; /* pages that the loader makes read-only when it is done with them */
    bool unprotected;                      /* by us, now */
    bool whole;                            /* no sign that the loader is still at work on it */
} Image;

static bool patching;           /* tables are ours, or being made so */
static uint64_t adds, removals; /* of libraries, when last walked */
static Index before;            /* slot -> what it held */
static uint64_t done[MOST_IMAGES];
static uint32_t done_count;
static uint32_t refused; /* slots that could not be written */

/* ---- our own symbols */

static const uint32_t *gnu_hash;
static const ElfW(Sym) * own_symbols;
static const char *own_strings;
static uint64_t own_base;

static uint64_t absolute(uint64_t base, uint64_t pointer) { return pointer < base ? base + pointer : pointer; }

static void find_own_symbols(uint64_t base) {
    own_base = base;
    for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) {
        void *pointer = (void *)absolute(base, entry->d_un.d_ptr);
        if (entry->d_tag == DT_GNU_HASH)
            gnu_hash = pointer;
        else if (entry->d_tag == DT_SYMTAB)
            own_symbols = pointer;
        else if (entry->d_tag == DT_STRTAB)
            own_strings = pointer;
    }
}

/* The loader never calls these two for us: who calls dlsym or creates a thread may have loaded a library. */
void gp_dlsym_hook(void);

static uint64_t hook_for(const char *name) {
    if (!strcmp(name, "dlsym"))
        return (uint64_t)gp_dlsym_hook;
    uint32_t hash = 5381;
    for (const unsigned char *at = (const unsigned char *)name; *at; at++)
        hash = hash * 33 + *at;
    /* ELF's GNU hash: buckets, first symbol, bloom words, shift, then the bloom filter, buckets and chains. */
    uint32_t buckets = gnu_hash[0], first = gnu_hash[1], words = gnu_hash[2], shift = gnu_hash[3];
    const uint64_t *bloom = (const uint64_t *)(gnu_hash + 4);
    uint64_t word = bloom[hash / 64 % words], mask = 1ull << hash % 64 | 1ull << (hash >> shift) % 64;
    if ((word & mask) != mask)
        return 0;
    const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;
    for (uint32_t at = bucket[hash % buckets]; at >= first && at; at++) {
        const ElfW(Sym) *symbol = &own_symbols[at];
        if ((chain[at - first] | 1) == (hash | 1) && !strcmp(own_strings + symbol->st_name, name))
            return ELF64_ST_TYPE(symbol->st_info) == STT_FUNC ? own_base + symbol->st_value : 0;
        if (chain[at - first] & 1)
            break;
    }
    return 0;
}

/* ---- one slot */

/* Adds 0 to the word, which the kernel refuses where it may not be written. */
static bool writable(const uint64_t *slot) {
    static uint32_t nobody;
    int add_nothing = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_LT, 0);
    return gp_syscall6(SYS_futex, (long)&nobody, FUTEX_WAKE_OP_PRIVATE, 0, 0, (long)slot, add_nothing) >= 0;
}

static bool unprotect(Image *image, bool writing) {
    long result = gp_syscall3(SYS_mprotect, image->protected_from, image->protected_to - image->protected_from,
                              writing ? PROT_READ | PROT_WRITE : PROT_READ);
    image->unprotected = writing && !result;
    return !result;
}

static bool store(Image *image, uint64_t *slot, uint64_t value) {
    uint64_t page = (uint64_t)slot & ~(PAGE - 1);
    bool is_protected = page >= image->protected_from && page < image->protected_to;
    if (is_protected && !image->unprotected) {
        if (writable(slot)) {
            /* The loader is at work here and may make the page read-only at any moment: no plain store. */
            image->whole = false;
            struct iovec from = {&value, sizeof value}, to = {slot, sizeof value};
            if (gp_syscall6(SYS_process_vm_writev, gp_syscall3(SYS_getpid, 0, 0, 0), (long)&from, 1, (long)&to, 1, 0) ==
                sizeof value)
                return true;
        }
        if (!unprotect(image, true))
            return false;
    } else if (!is_protected && !writable(slot)) {
        return false;
    }
    /* Release: other threads call through it at this moment. */
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    return true;
}

static void patch(Image *image, uint64_t *slot, uint64_t hook) {
    uint64_t value = __atomic_load_n(slot, __ATOMIC_RELAXED);
    if (value == hook)
        return;
    /* Not relocated yet: 0, or an address within the file. */
    if (value < LOWEST_ADDRESS || (image->base && value < image->bytes)) {
        image->whole = false;
        return;
    }
    IndexEntry *entry = gp_index_insert(&before, gp_mix(0, (uint64_t)slot) | 1);
    if (!entry) {
        refused++;
        return;
    }
    entry->value = value;
    if (!store(image, slot, hook))
        refused++;
}

/* What is no longer our hook is another's: the loader bound it late, or a tool took it. */
static void put_back(Image *image, uint64_t *slot, uint64_t hook) {
    if (__atomic_load_n(slot, __ATOMIC_RELAXED) != hook)
        return;
    IndexEntry *entry = gp_index_find(&before, gp_mix(0, (uint64_t)slot) | 1);
    if (!entry || !store(image, slot, entry->value))
        refused++;
}

/* ---- one library */

static bool open_image(Image *image, const struct dl_phdr_info *info) {
    *image = (Image){.base = info->dlpi_addr, .whole = true};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uint64_t start = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_DYNAMIC) {
            image->dynamic = (const ElfW(Dyn) *)start;
        } else if (segment->p_type == PT_LOAD) {
            image->bytes = segment->p_vaddr + segment->p_memsz;
        } else if (segment->p_type == PT_GNU_RELRO) {
            /* As the loader rounds (glibc _dl_protect_relro). */
            image->protected_from = start & ~(PAGE - 1);
            image->protected_to = (start + segment->p_memsz) & ~(PAGE - 1);
        }
    }
    if (!image->dynamic)
        return false;
    uint64_t bytes[2] = {0, 0}, relative = 0;
    for (const ElfW(Dyn) *entry = image->dynamic; entry->d_tag != DT_NULL; entry++) {
        void *pointer = (void *)absolute(image->base, entry->d_un.d_ptr);
        switch (entry->d_tag) {
        case DT_SYMTAB:
            image->symbols = pointer;
            break;
        case DT_STRTAB:
            image->strings = pointer;
            break;
        case DT_JMPREL:
            image->tables[0] = pointer;
            break;
        case DT_PLTRELSZ:
            bytes[0] = entry->d_un.d_val;
            break;
        case DT_RELA:
            image->tables[1] = pointer;
            break;
        case DT_RELASZ:
            bytes[1] = entry->d_un.d_val;
            break;
        case DT_RELACOUNT:
            relative = entry->d_un.d_val;
            break;
        }
    }
    if (!image->symbols || !image->strings)
        return false;
    for (int i = 0; i < 2; i++)
        image->counts[i] = image->tables[i] ? bytes[i] / sizeof(ElfW(Rela)) : 0;
    if (image->tables[1] && relative <= image->counts[1]) {
        image->tables[1] += relative; /* they stand first, and name no symbol */
        image->counts[1] -= relative;
    }
    return true;
}

static void each_slot(Image *image, void (*act)(Image *, uint64_t *, uint64_t)) {
    for (int table = 0; table < 2; table++)
        for (uint64_t i = 0; i < image->counts[table]; i++) {
            const ElfW(Rela) *entry = &image->tables[table][i];
            uint64_t type = ELF64_R_TYPE(entry->r_info);
            if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT)
                continue;
            const ElfW(Sym) *symbol = &image->symbols[ELF64_R_SYM(entry->r_info)];
            uint64_t hook = symbol->st_name ? hook_for(image->strings + symbol->st_name) : 0;
            if (hook)
                act(image, (uint64_t *)(image->base + entry->r_offset), hook);
        }
    if (image->unprotected)
        unprotect(image, false);
}

static bool is_done(const Image *image) {
    for (uint32_t i = 0; i < done_count; i++)
        if (done[i] == (uint64_t)image->dynamic)
            return true;
    return false;
}

static int patch_image(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size;
    (void)argument;
    Image image;
    adds = info->dlpi_adds;
    if (removals != info->dlpi_subs) {
        /* Another library may lie where one was. */
        removals = info->dlpi_subs;
        done_count = 0;
    }
    if (!open_image(&image, info) || image.dynamic == _DYNAMIC || is_done(&image))
        return 0;
    each_slot(&image, patch);
    if (image.whole && done_count < MOST_IMAGES)
        done[done_count++] = (uint64_t)image.dynamic;
    if (!image.whole)
        adds = 0; /* walk again */
    return 0;
}

static int put_back_image(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size;
    (void)argument;
    Image image;
    if (open_image(&image, info) && image.dynamic != _DYNAMIC)
        each_slot(&image, put_back);
    return 0;
}

/* ---- all of them */

static int look(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size;
    uint64_t *seen = argument;
    seen[0] = info->dlpi_adds;
    seen[1] = info->dlpi_subs;
    return 1;
}

static int find_self(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size;
    (void)argument;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC &&
            (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr) == _DYNAMIC) {
            find_own_symbols(info->dlpi_addr);
            return 1;
        }
    return 0;
}

/* Number of slots that could not be written. */
uint32_t gp_got_patch(void) {
    if (!gnu_hash)
        dl_iterate_phdr(find_self, NULL);
    if (!gnu_hash)
        return UINT32_MAX;
    gp_index_clear(&before);
    done_count = refused = 0;
    __atomic_store_n(&patching, true, __ATOMIC_RELEASE);
    dl_iterate_phdr(patch_image, NULL);
    return refused;
}

uint32_t gp_got_restore(void) {
    refused = 0;
    __atomic_store_n(&patching, false, __ATOMIC_RELEASE);
    dl_iterate_phdr(put_back_image, NULL);
    return refused;
}

/* Libraries loaded since. Leaves errno alone. */
__attribute__((used)) void gp_got_refresh(void) {
    if (__builtin_expect(!__atomic_load_n(&patching, __ATOMIC_ACQUIRE), 1))
        return;
    uint64_t seen[2];
    dl_iterate_phdr(look, seen);
    if (seen[0] != adds || seen[1] != removals)
        dl_iterate_phdr(patch_image, NULL);
}

/* A jump, not a call: dlsym looks at who called it. */
__attribute__((naked)) void gp_dlsym_hook(void) {
    __asm__ volatile("pushq %rdi\n"
                     "pushq %rsi\n"
                     "subq $8, %rsp\n"
                     "call gp_got_refresh\n"
                     "addq $8, %rsp\n"
                     "popq %rsi\n"
                     "popq %rdi\n"
                     "jmpq *dlsym@GOTPCREL(%rip)\n");
}
