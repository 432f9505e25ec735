/* How the watchdog tells what it found: in words on stderr at once, and as JSON for the recording and the program. One
 * thread at a time. */
#define _GNU_SOURCE
#include "tell.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "python.h"

#define MOST_TEXT (64u << 10)
#define MOST_JSON (128u << 10)
#define SHOWN_FRAMES 6

static char text_data[MOST_TEXT], json_data[MOST_JSON];
Out gp_text_out = {text_data, 0, MOST_TEXT}, gp_json_out = {json_data, 0, MOST_JSON};
static Slot *own_slot;

void gp_put(Out *out, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int wrote = vsnprintf(out->data + out->used, out->room - out->used, format, list);
    va_end(list);
    if (wrote > 0)
        out->used += (uint32_t)wrote < out->room - out->used ? (uint32_t)wrote : out->room - out->used - 1;
}

void gp_put_string(const char *value) {
    gp_put(&gp_json_out, "\"");
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\')
            gp_put(&gp_json_out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            gp_put(&gp_json_out, "\\u%04x", c);
        else
            gp_put(&gp_json_out, "%c", c);
    }
    gp_put(&gp_json_out, "\"");
}

const char *gp_file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

void gp_put_printable(const char *value) {
    for (; *value; value++)
        gp_put(&gp_text_out, "%c", (unsigned char)*value < 0x20 || *value == 0x7f ? '?' : *value);
}

/* The frames by which every Thread runs its target say nothing. */
static bool is_bootstrap(const FrameText *frame) {
    return !strcmp(frame->function, "Thread.run") || !strcmp(frame->function, "Thread._bootstrap_inner") ||
           !strcmp(frame->function, "Thread._bootstrap");
}

/* One frame in words, with its source line. */
static void say_frame(const FrameText *frame, const char *indent) {
    char place[360], source[160];
    snprintf(place, sizeof place, "%s:%d in %s", gp_file_name(frame->file), frame->line, frame->function);
    gp_put(&gp_text_out, "%s", indent);
    gp_put_printable(place);
    if (gp_source_line(frame->file, frame->line, source, sizeof source)) {
        gp_put(&gp_text_out, "%*s", (int)(strlen(place) < 36 ? 38 - strlen(place) : 2), "");
        gp_put_printable(source);
    }
    gp_put(&gp_text_out, "\n");
}

static void json_frame(const FrameText *frame, bool first) {
    gp_put(&gp_json_out, first ? "{\"function\":" : ",{\"function\":");
    gp_put_string(frame->function);
    gp_put(&gp_json_out, ",\"file\":");
    gp_put_string(frame->file);
    gp_put(&gp_json_out, ",\"line\":%d,\"position\":[%d,%d,%d,%d]}", frame->line, frame->line, frame->end_line,
           frame->column, frame->end_column);
}

static bool is_library(const FrameText *frame) {
    static const char *const parts[] = {"/threading.py", "/queue.py",      "/concurrent/futures/",
                                        "/logging/",     "/contextlib.py", "<frozen "};
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(frame->file, parts[i]))
            return true;
    return false;
}

void gp_put_frames(const Place *places, int count, const char *indent) {
    FrameText frame;
    int shown = 0;
    bool first = true, own_seen = false;
    gp_put(&gp_json_out, "[");
    for (int i = 0; i < count; i++) {
        if (!gp_frame_text(places[i].code[0], places[i].instruction[0], &frame))
            break;
        own_seen |= !is_library(&frame);
        if ((shown < SHOWN_FRAMES || !own_seen) && !(own_seen && is_bootstrap(&frame))) {
            say_frame(&frame, indent);
            shown += own_seen;
        }
        json_frame(&frame, first);
        first = false;
    }
    gp_put(&gp_json_out, "]");
}

void gp_put_place(const Place *place, const char *indent) {
    Place frames[GP_PLACE_FRAMES];
    int count = 0;
    while (count < GP_PLACE_FRAMES && place->code[count]) {
        frames[count].code[0] = place->code[count];
        frames[count].instruction[0] = place->instruction[count];
        count++;
    }
    FrameText frame;
    bool first = true;
    gp_put(&gp_json_out, "[");
    for (int i = 0; i < count && gp_frame_text(frames[i].code[0], frames[i].instruction[0], &frame); i++) {
        json_frame(&frame, first);
        first = false;
        say_frame(&frame, indent);
        if (!is_library(&frame))
            indent = NULL;
        if (!indent)
            break;
    }
    gp_put(&gp_json_out, "]");
}

/* ---- out */

/* For the program itself, until it asks. */
#define MOST_REMEMBERED 1024
static struct {
    _Atomic int type;
    char *text;
} remembered[MOST_REMEMBERED];
static uint32_t remembered_count;

static void remember(enum RecordType type) {
    char *copy = remembered_count < MOST_REMEMBERED ? gp_memory(gp_json_out.used + 1) : NULL;
    if (!copy)
        return;
    memcpy(copy, gp_json_out.data, gp_json_out.used);
    remembered[remembered_count].text = copy;
    /* Release: who sees the type sees the text. */
    atomic_store_explicit(&remembered[remembered_count++].type, type, memory_order_release);
}

/* The at-th of all that was told, oldest first; NULL when there are no more. */
GP_EXPORT const char *gilprobe_watch_told(unsigned at, int *type) {
    *type = at < MOST_REMEMBERED ? atomic_load_explicit(&remembered[at].type, memory_order_acquire) : 0;
    return *type ? remembered[at].text : NULL;
}

void gp_story_begin(void) {
    gp_text_out.used = gp_json_out.used = 0;
    gp_text_out.data[0] = gp_json_out.data[0] = 0;
    gp_put(&gp_json_out, "{\"after_s\":%.3f,", (double)(gp_now() - gp_header->start_ns) / 1e9);
}

static void write_record(enum RecordType type) {
    if (!atomic_load_explicit(&gp_active, memory_order_relaxed))
        return;
    if (!own_slot)
        own_slot = gp_slot_unlisted();
    WatchRecord *record = own_slot ? gp_record_begin(own_slot, type, sizeof *record + gp_json_out.used) : NULL;
    if (!record)
        return;
    record->text_bytes = gp_json_out.used;
    record->time_ns = gp_now();
    memcpy(record + 1, gp_json_out.data, gp_json_out.used);
    gp_record_done(own_slot);
}

/* The recording first: who reads of it on stderr may kill the process. */
void gp_story_end(enum RecordType type) {
    gp_put(&gp_json_out, "}");
    write_record(type);
    remember(type);
    for (uint32_t at = 0; at < gp_text_out.used;) {
        long wrote = gp_syscall3(SYS_write, 2, gp_text_out.data + at, gp_text_out.used - at);
        if (wrote <= 0)
            break;
        at += (uint32_t)wrote;
    }
}

/* How much was left out, when the recording ends. */
void gp_tell_state(void) {
    gp_text_out.used = gp_json_out.used = 0;
    gp_put(&gp_json_out, "{\"holds_dropped\":%llu,\"births_dropped\":%llu,\"orders_dropped\":%llu}",
           (unsigned long long)atomic_load(&gp_locks_dropped), (unsigned long long)atomic_load(&gp_births_dropped),
           (unsigned long long)atomic_load(&gp_order_dropped));
    write_record(GP_WATCH_STATE);
    if (own_slot)
        gp_holds_finish(own_slot);
}

static _Atomic bool telling;

bool gp_story_try(void) {
    bool free = false;
    return atomic_compare_exchange_strong(&telling, &free, true);
}

void gp_story_done(void) { atomic_store(&telling, false); }

void gp_story_forked(void) {
    own_slot = NULL;
    atomic_store(&telling, false);
}
