#include "core.h"

#include <string.h>

#define MOST_ENTRIES (1u << 18)

void gp_index_clear(Index *index) {
    if (!index->entries) {
        index->entries = index->first;
        index->capacity = sizeof index->first / sizeof index->first[0];
    }
    if (index->used)
        memset(index->entries, 0, index->capacity * sizeof(IndexEntry));
    index->used = 0;
}

static IndexEntry *probe(IndexEntry *entries, uint32_t capacity, uint64_t hash) {
    for (uint32_t i = (uint32_t)(hash >> 32);; i++) {
        IndexEntry *entry = &entries[i & (capacity - 1)];
        if (entry->hash == hash || !entry->hash)
            return entry;
    }
}

IndexEntry *gp_index_find(Index *index, uint64_t hash) {
    IndexEntry *entry = probe(index->entries, index->capacity, hash);
    return entry->hash ? entry : NULL;
}

static bool grow(Index *index) {
    uint32_t capacity = index->capacity * 4;
    if (capacity > MOST_ENTRIES)
        return false;
    IndexEntry *entries = gp_memory(capacity * sizeof *entries);
    if (!entries)
        return false;
    for (uint32_t i = 0; i < index->capacity; i++)
        if (index->entries[i].hash)
            *probe(entries, capacity, index->entries[i].hash) = index->entries[i];
    IndexEntry *old = index->entries;
    uint32_t old_capacity = index->capacity;
    index->entries = entries;
    index->capacity = capacity;
    if (old != index->first)
        gp_syscall3(SYS_munmap, old, old_capacity * sizeof *old, 0);
    return true;
}

IndexEntry *gp_index_insert(Index *index, uint64_t hash) {
    if (index->used * 4 >= index->capacity * 3 && !grow(index))
        return NULL;
    IndexEntry *entry = probe(index->entries, index->capacity, hash);
    if (!entry->hash) {
        entry->hash = hash;
        index->used++;
    }
    return entry;
}
