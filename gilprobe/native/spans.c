/* Spans of the script's own (gilprobe.span), called through ctypes: added up for each (thread, name, span around it).
 */
#include "core.h"

#include <string.h>
#include <sys/resource.h>

/* Different spans a thread is told apart by; those beyond share one record. */
#define MOST_SPANS 1024
#define MOST_NAME_BYTES 4096u
/* Run delay and faults cost three microseconds to read: a reading this young will do. */
#define READING_NS 2000000u

static const char OTHER_NAME[] = "(other spans)";

static SpanRecord *span_record(Slot *slot, uint64_t hash, uint32_t parent, const char *name, uint32_t name_bytes) {
    static _Atomic uint32_t next_span;
    uint64_t key = gp_mix(hash, parent) | 1;
    IndexEntry *entry = gp_index_find(&slot->spans.known, key);
    if (entry)
        return (SpanRecord *)entry->value;
    uint16_t flags = 0;
    if (GP_RARE(slot->spans.known.used >= MOST_SPANS)) {
        if (slot->spans.other)
            return slot->spans.other;
        flags = GP_SPAN_OVERFLOW;
        name = OTHER_NAME;
        name_bytes = sizeof OTHER_NAME - 1;
        parent = 0;
    }
    SpanRecord *record = gp_record_begin(slot, GP_SPAN, sizeof *record + name_bytes);
    if (!record)
        return NULL;
    record->head.flags = flags;
    record->span_id = atomic_fetch_add_explicit(&next_span, 1, memory_order_relaxed) + 1;
    record->thread = slot->thread;
    record->parent_span_id = parent;
    record->name_bytes = name_bytes;
    memcpy(record + 1, name, name_bytes);
    gp_record_done(slot);
    if (flags)
        return slot->spans.other = record;
    entry = gp_index_insert(&slot->spans.known, key);
    if (entry)
        entry->value = (uint64_t)record;
    return record;
}

static void read_now_and_then(Slot *slot, uint64_t now_ns) {
    ThreadRecord *record = slot->record;
    if (now_ns - slot->spans.read_ns < READING_NS)
        return;
    slot->spans.read_ns = now_ns;
    gp_read_kernel(slot, now_ns);
    slot->spans.run_delay_ns = record->run_delay_ns;
    slot->spans.faults = record->minor_faults + record->major_faults;
}

static uint64_t hash_of(const char *name, uint32_t bytes) {
    uint64_t hash = bytes;
    for (uint32_t at = 0; at < bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, name + at, bytes - at < 8 ? bytes - at : 8);
        hash = gp_mix(hash, word);
    }
    return hash | 1;
}

/* Whole UTF-8 characters only. */
static uint32_t clipped(const char *name, size_t bytes) {
    if (bytes <= MOST_NAME_BYTES)
        return (uint32_t)bytes;
    uint32_t end = MOST_NAME_BYTES;
    while (end && ((unsigned char)name[end] & 0xC0) == 0x80)
        end--;
    return end;
}

static void add_event(Slot *slot, const OpenSpan *open, uint64_t end_ns, uint64_t cpu_ns) {
    SpanEventRecord *event = gp_array_begin(slot, &slot->span_events, GP_CHUNK_SPANS, sizeof *event);
    if (!event)
        return;
    *event = (SpanEventRecord){.span_id = open->record->span_id,
                               .thread = slot->thread,
                               .start_ns = open->start_ns,
                               .duration_ns = end_ns - open->start_ns,
                               .cpu_ns = cpu_ns};
    gp_array_done(&slot->span_events, sizeof *event);
}

static void close_span(Slot *slot, const OpenSpan *open, uint64_t now_ns) {
    SpanRecord *record = open->record;
    uint64_t duration_ns = now_ns - open->start_ns, cpu_ns = gp_thread_cpu_ns() - open->cpu_ns;
    uint64_t off_cpu_ns = duration_ns > cpu_ns ? duration_ns - cpu_ns : 0;
    uint64_t delay_ns = slot->spans.run_delay_ns - open->run_delay_ns;
    record->count++;
    record->total_ns += duration_ns;
    if (duration_ns > record->max_ns)
        record->max_ns = duration_ns;
    record->cpu_ns += cpu_ns;
    /* The reading at its begin may be a little older than the span. */
    record->run_delay_ns += delay_ns < off_cpu_ns ? delay_ns : off_cpu_ns;
    record->faults += slot->spans.faults - open->faults;
    record->last_ns = now_ns;
    unsigned bucket = duration_ns ? 63u - (unsigned)__builtin_clzll(duration_ns) : 0;
    record->histogram[bucket < GP_HISTOGRAM_BUCKETS ? bucket : GP_HISTOGRAM_BUCKETS - 1]++;
    record->open_start_ns = 0;
    if (GP_RARE(gp_options.events))
        add_event(slot, open, now_ns, cpu_ns);
}

GP_EXPORT void gilprobe_span_begin(const char *name, size_t bytes) {
    Slot *slot = gp_slot();
    if (!slot)
        return;
    int error = errno;
    slot->busy = 1;
    Spans *spans = &slot->spans;
    gp_spin_close(slot);
    if (GP_RARE(spans->depth >= GP_SPAN_DEPTH)) {
        spans->too_deep++;
    } else {
        uint64_t now_ns = gp_now();
        uint32_t name_bytes = clipped(name, bytes);
        uint64_t hash = hash_of(name, name_bytes);
        SpanRecord *record = span_record(slot, hash, spans->current, name, name_bytes);
        if (record) {
            read_now_and_then(slot, now_ns);
            OpenSpan *open = &spans->open[spans->depth++];
            *open = (OpenSpan){.hash = hash,
                               .record = record,
                               .start_ns = now_ns,
                               .cpu_ns = gp_thread_cpu_ns(),
                               .run_delay_ns = spans->run_delay_ns,
                               .faults = spans->faults};
            if (!record->first_ns)
                record->first_ns = now_ns;
            record->open_cpu_ns = open->cpu_ns;
            record->open_run_delay_ns = open->run_delay_ns;
            /* Release: a reader that sees the start must see what belongs to it. */
            __atomic_store_n(&record->open_start_ns, now_ns, __ATOMIC_RELEASE);
            spans->current = record->span_id;
        }
    }
    slot->busy = 0;
    errno = error;
}

/* Ends the innermost open span of this name: spans of coroutines end in any order. Begun in another thread, or before a
 * fork: nothing to end. */
GP_EXPORT void gilprobe_span_end(const char *name, size_t bytes) {
    Slot *slot = gp_slot();
    if (!slot)
        return;
    int error = errno;
    slot->busy = 1;
    Spans *spans = &slot->spans;
    gp_spin_close(slot);
    uint64_t hash = hash_of(name, clipped(name, bytes)), now_ns = gp_now();
    if (GP_RARE(spans->too_deep)) {
        spans->too_deep--;
    } else {
        for (uint32_t at = spans->depth; at-- > 0;) {
            OpenSpan *open = &spans->open[at];
            if (open->hash != hash)
                continue;
            read_now_and_then(slot, now_ns);
            close_span(slot, open, now_ns);
            memmove(open, open + 1, (spans->depth - at - 1) * sizeof *open);
            spans->depth--;
            spans->current = spans->depth ? spans->open[spans->depth - 1].record->span_id : 0;
            break;
        }
    }
    slot->busy = 0;
    errno = error;
}

/* The thread begins, or goes on in the child of fork. */
void gp_spans_clear(Slot *slot) {
    gp_index_clear(&slot->spans.known);
    slot->spans.other = NULL;
    slot->spans.depth = slot->spans.current = slot->spans.too_deep = 0;
    slot->spans.read_ns = 0;
}

/* The thread ends inside spans. */
void gp_spans_close(Slot *slot, uint64_t now_ns) {
    for (uint32_t at = slot->spans.depth; at-- > 0;)
        close_span(slot, &slot->spans.open[at], now_ns);
    slot->spans.depth = slot->spans.current = 0;
}
