/* What the watchdog found, told twice: in words on stderr at once, and as JSON for the recording and the program. */
#define _GNU_SOURCE
#include "graph.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "python.h"

#define MOST_TEXT (64u << 10)
#define MOST_JSON (128u << 10)
#define MOST_FRAMES 40
#define SHOWN_FRAMES 6

typedef struct {
    char *data;
    uint32_t used, room;
} Out;

static char text_data[MOST_TEXT], json_data[MOST_JSON];
static Out text = {text_data, 0, MOST_TEXT}, json = {json_data, 0, MOST_JSON};
static Slot *own_slot;
static bool standing_still;

static __attribute__((format(printf, 2, 3))) void put(Out *out, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int wrote = vsnprintf(out->data + out->used, out->room - out->used, format, list);
    va_end(list);
    if (wrote > 0)
        out->used += (uint32_t)wrote < out->room - out->used ? (uint32_t)wrote : out->room - out->used - 1;
}

static void put_string(const char *value) {
    put(&json, "\"");
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\')
            put(&json, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            put(&json, "\\u%04x", c);
        else
            put(&json, "%c", c);
    }
    put(&json, "\"");
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void put_printable(const char *value) {
    for (; *value; value++)
        put(&text, "%c", (unsigned char)*value < 0x20 || *value == 0x7f ? '?' : *value);
}

/* The frames by which every Thread runs its target say nothing. */
static bool is_bootstrap(const FrameText *frame) {
    return !strcmp(frame->function, "Thread.run") || !strcmp(frame->function, "Thread._bootstrap_inner") ||
           !strcmp(frame->function, "Thread._bootstrap");
}

/* One frame in words, with its source line. */
static void say_frame(const FrameText *frame, const char *indent) {
    char place[360], source[160];
    snprintf(place, sizeof place, "%s:%d in %s", file_name(frame->file), frame->line, frame->function);
    put(&text, "%s", indent);
    put_printable(place);
    if (gp_source_line(frame->file, frame->line, source, sizeof source)) {
        put(&text, "%*s", (int)(strlen(place) < 36 ? 38 - strlen(place) : 2), "");
        put_printable(source);
    }
    put(&text, "\n");
}

static void json_frame(const FrameText *frame, bool first) {
    put(&json, first ? "{\"function\":" : ",{\"function\":");
    put_string(frame->function);
    put(&json, ",\"file\":");
    put_string(frame->file);
    put(&json, ",\"line\":%d,\"position\":[%d,%d,%d,%d]}", frame->line, frame->line, frame->end_line, frame->column,
        frame->end_column);
}

static bool is_library(const FrameText *frame) {
    static const char *const parts[] = {"/threading.py", "/queue.py",      "/concurrent/futures/",
                                        "/logging/",     "/contextlib.py", "<frozen "};
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(frame->file, parts[i]))
            return true;
    return false;
}

static void tell_frames(const Place *places, int count, const char *indent) {
    FrameText frame;
    int shown = 0;
    bool first = true, own_seen = false;
    put(&json, "[");
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
    put(&json, "]");
}

static void tell_place(const Place *place, const char *indent) {
    Place frames[GP_PLACE_FRAMES];
    int count = 0;
    while (count < GP_PLACE_FRAMES && place->code[count]) {
        frames[count].code[0] = place->code[count];
        frames[count].instruction[0] = place->instruction[count];
        count++;
    }
    FrameText frame;
    bool first = true;
    put(&json, "[");
    for (int i = 0; i < count && gp_frame_text(frames[i].code[0], frames[i].instruction[0], &frame); i++) {
        json_frame(&frame, first);
        first = false;
        say_frame(&frame, indent);
        if (!is_library(&frame))
            indent = NULL;
        if (!indent)
            break;
    }
    put(&json, "]");
}

/* ---- names */

void gp_node_name(Node *node, char *out) {
    LockThread *thread = node->thread;
    Slot *slot = node->slot;
    char own[GP_NAME_BYTES];
    uint32_t bytes = 0;
    if (thread && thread->name[0]) {
        strcpy(out, thread->name);
        return;
    }
    uint32_t tid = slot ? slot->tid : thread->tid;
    if (tid == gp_header->pid) {
        strcpy(out, "MainThread");
        return;
    }
    if (slot && slot->named && slot->record->name_bytes) {
        bytes = slot->record->name_bytes < GP_NAME_BYTES ? slot->record->name_bytes : GP_NAME_BYTES - 1;
        memcpy(own, slot->record->name, bytes);
    } else if (thread && !thread->ghost) {
        Place places[1];
        uint64_t outermost;
        gp_frames_of(thread->state, places, 1, &outermost);
        if (outermost)
            bytes = gp_name_by_frame((const char *)outermost, own);
    }
    if (!bytes) {
        snprintf(out, GP_NAME_BYTES, "thread %u", tid);
    } else {
        bytes = bytes < GP_NAME_BYTES ? bytes : GP_NAME_BYTES - 1;
        memcpy(out, own, bytes);
        out[bytes] = 0;
    }
    if (thread && bytes)
        strcpy(thread->name, out);
}

/* While its frames can still be read. */
void gp_thread_state_name(LockThread *thread) {
    char name[GP_NAME_BYTES];
    Node node = {.thread = thread, .slot = thread->slot};
    gp_node_name(&node, name);
    strcpy(thread->name, name);
}

static const char *kind_of(const Node *node) {
    static const char *const kinds[] = {"nothing", "lock",   "lock",           "join",      "import",
                                        "gil",     "native", "stop-the-world", "condition", "semaphore",
                                        "queue",   "queue",  "future",         "lock",      "native"};
    return kinds[node->need];
}

static void lock_name(const Node *node, char *out, size_t room) {
    switch (node->need) {
    case GP_NEED_LOCK:
    case GP_NEED_SIGNAL:
        snprintf(out, room, "lock at %#llx", (unsigned long long)node->lock);
        break;
    case GP_NEED_RLOCK:
        snprintf(out, room, "RLock at %#llx", (unsigned long long)node->lock);
        break;
    case GP_NEED_JOIN:
        snprintf(out, room, "the end of a thread");
        break;
    case GP_NEED_IMPORT:
        snprintf(out, room, "the import of %s", node->module);
        break;
    case GP_NEED_GIL:
        snprintf(out, room, "the GIL");
        break;
    case GP_NEED_MUTEX:
        snprintf(out, room, "a native mutex at %#llx", (unsigned long long)node->lock);
        break;
    case GP_NEED_WORLD:
        snprintf(out, room, "all other threads to pause");
        break;
    case GP_NEED_CONDITION:
        snprintf(out, room, "a condition whose lock is at %#llx", (unsigned long long)node->condition);
        break;
    case GP_NEED_SEMAPHORE:
        snprintf(out, room, "a semaphore whose lock is at %#llx", (unsigned long long)node->condition);
        break;
    case GP_NEED_QUEUE_PUT:
        snprintf(out, room, "room in a full queue");
        break;
    case GP_NEED_QUEUE_GET:
        snprintf(out, room, "an item in an empty queue");
        break;
    case GP_NEED_FUTURE:
        snprintf(out, room, node->worker ? "a future, inside a worker of a pool" : "a future");
        break;
    default:
        snprintf(out, room, "a wait in native code");
    }
}

static void held_name(const Held *held, char *out, size_t room) {
    snprintf(out, room, held->kind == GP_RLOCK ? "RLock at %#llx" : "lock at %#llx", (unsigned long long)held->lock);
}

/* ---- one thread */

static uint64_t state_of(const Node *node) { return node->thread ? node->thread->state : node->slot->state; }

static void tell_holds(const Graph *graph, Node *node, const char *indent) {
    bool first = true;
    char name[128], deeper[16];
    snprintf(deeper, sizeof deeper, "%s  ", indent);
    put(&json, "\"holds\":[");
    if (node->slot && node->slot->record->gil_since_ticks) {
        put(&text, "%sholds the GIL\n", indent);
        put(&json, "{\"name\":\"the GIL\",\"taken\":[]}");
        first = false;
    }
    for (int i = 0; i < graph->count; i++) {
        const Node *other = &graph->nodes[i];
        if (other->target != node - graph->nodes || other->live || !other->stable ||
            (other->need != GP_NEED_MUTEX && other->need != GP_NEED_IMPORT))
            continue;
        lock_name(other, name, sizeof name);
        put(&text, "%sholds %s\n", indent, name);
        put(&json, first ? "{\"name\":" : ",{\"name\":");
        put_string(name);
        put(&json, ",\"taken\":[]}");
        first = false;
        break;
    }
    for (uint32_t h = 0; node->thread && h < node->thread->depth && h < GP_MOST_HELD; h++) {
        Held held = node->thread->held[h];
        if (!held.lock || held.internal)
            continue;
        held_name(&held, name, sizeof name);
        put(&text, "%sholds %s, taken at\n", indent, name);
        put(&json, first ? "{\"name\":" : ",{\"name\":");
        put_string(name);
        put(&json, ",\"address\":%llu,\"taken\":", (unsigned long long)held.lock);
        tell_place(&held.taken, deeper);
        put(&json, "}");
        first = false;
    }
    put(&json, "]");
}

/* Told where nothing runs any more: a notification that came too early may be what is missing. */
static void tell_notified(const Node *node) {
    uint64_t before_ns = node->thread && node->need == GP_NEED_CONDITION && node->stable
                             ? gp_notified_before_ns(node->thread, node->condition)
                             : 0;
    if (!before_ns)
        return;
    put(&text, "    which was last notified %.3f s before that wait began: a lost wakeup?\n", (double)before_ns / 1e9);
    put(&json, ",\"notified_before_s\":%.6f", (double)before_ns / 1e9);
}

static void tell_thread(Graph *graph, int at, bool first) {
    Node *node = &graph->nodes[at];
    char name[GP_NAME_BYTES], what[160], by[GP_NAME_BYTES] = "";
    gp_node_name(node, name);
    lock_name(node, what, sizeof what);
    if (node->target >= 0)
        gp_node_name(&graph->nodes[node->target], by);
    put(&text, "  ");
    put_printable(name);
    put(&text, node->need == GP_NEED_NOTHING ? " runs" : " waits for %s", what);
    if (*by && node->need == GP_NEED_JOIN)
        put(&text, ", %s", by);
    else if (*by)
        put(&text, ", which %s %s", by, node->whom == GP_GONE ? "held when the process was forked" : "has");
    put(&text, "\n");
    put(&json, first ? "{\"name\":" : ",{\"name\":");
    put_string(name);
    put(&json, ",\"waits_for\":{\"kind\":\"%s\",\"name\":", kind_of(node));
    put_string(what);
    put(&json, ",\"address\":%llu,\"held_by\":", (unsigned long long)(node->condition ? node->condition : node->lock));
    put_string(by);
    put(&json, "},\"stack\":");
    Place places[MOST_FRAMES];
    uint64_t outermost;
    int count = gp_frames_of(state_of(node), places, MOST_FRAMES, &outermost);
    tell_frames(places, count, "      ");
    put(&json, ",");
    tell_holds(graph, node, "    ");
    if (standing_still)
        tell_notified(node);
    put(&json, "}");
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
    char *copy = remembered_count < MOST_REMEMBERED ? gp_memory(json.used + 1) : NULL;
    if (!copy)
        return;
    memcpy(copy, json.data, json.used);
    remembered[remembered_count].text = copy;
    /* Release: who sees the type sees the text. */
    atomic_store_explicit(&remembered[remembered_count++].type, type, memory_order_release);
}

/* The at-th of all that was told, oldest first; NULL when there are no more. */
GP_EXPORT const char *gilprobe_watch_told(unsigned at, int *type) {
    *type = at < MOST_REMEMBERED ? atomic_load_explicit(&remembered[at].type, memory_order_acquire) : 0;
    return *type ? remembered[at].text : NULL;
}

static void begin(void) {
    text.used = json.used = 0;
    text.data[0] = json.data[0] = 0;
    put(&json, "{\"after_s\":%.3f,", (double)(gp_now() - gp_header->start_ns) / 1e9);
}

static void write_record(enum RecordType type) {
    if (!atomic_load_explicit(&gp_active, memory_order_relaxed))
        return;
    if (!own_slot)
        own_slot = gp_slot_unlisted();
    WatchRecord *record = own_slot ? gp_record_begin(own_slot, type, sizeof *record + json.used) : NULL;
    if (!record)
        return;
    record->text_bytes = json.used;
    record->time_ns = gp_now();
    memcpy(record + 1, json.data, json.used);
    gp_record_done(own_slot);
}

/* The recording first: who reads of it on stderr may kill the process. */
static void end(enum RecordType type) {
    put(&json, "}");
    write_record(type);
    remember(type);
    for (uint32_t at = 0; at < text.used;) {
        long wrote = gp_syscall3(SYS_write, 2, text.data + at, text.used - at);
        if (wrote <= 0)
            break;
        at += (uint32_t)wrote;
    }
}

/* How much was left out, when the recording ends. */
void gp_tell_state(void) {
    text.used = json.used = 0;
    put(&json, "{\"holds_dropped\":%llu,\"births_dropped\":%llu,\"orders_dropped\":%llu}",
        (unsigned long long)atomic_load(&gp_locks_dropped), (unsigned long long)atomic_load(&gp_births_dropped),
        (unsigned long long)atomic_load(&gp_order_dropped));
    write_record(GP_WATCH_STATE);
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

void gp_tell_deadlock(Graph *graph, const Cycle *cycle) {
    begin();
    const Node *only = &graph->nodes[cycle->members[0]];
    if (cycle->count > 1)
        put(&text, "\ngilprobe: deadlock: %d threads wait for each other\n", cycle->count);
    else if (only->whom == GP_GONE)
        put(&text, "\ngilprobe: deadlock: a thread waits for a lock that was held when the process was forked\n");
    else
        put(&text, "\ngilprobe: deadlock: a thread waits for what only itself could give\n");
    put(&json, "\"pid\":%u,\"evidence\":\"%s\",\"threads\":[", gp_header->pid,
        cycle->likely ? "estimated" : "measured");
    for (int i = 0; i < cycle->count; i++)
        tell_thread(graph, cycle->members[i], i == 0);
    put(&json, "]");
    end(GP_DEADLOCK);
}

/* The function that native code is in, by the last sample or by where its system call came from. */
static void native_function(const Node *node, char *out, size_t room) {
    char path[64], line[256] = "";
    uint32_t tid = node->slot ? node->slot->tid : node->thread->tid;
    uint64_t pc = 0, words[512];
    unsigned long long sp = 0, from = 0;
    out[0] = 0;
    snprintf(path, sizeof path, "/proc/self/task/%u/syscall", tid);
    long fd = gp_syscall6(SYS_openat, -100, (long)path, 0, 0, 0, 0);
    if (fd >= 0) {
        gp_syscall3(SYS_read, fd, line, sizeof line - 1);
        gp_syscall3(SYS_close, fd, 0, 0);
    }
    char *last = strrchr(line, ' '), *before = last;
    if (last && last != line)
        while (--before > line && *before != ' ')
            ;
    if (last && before && sscanf(before, " %llx %llx", &sp, &from) == 2)
        pc = from;
    else if (node->slot)
        pc = node->slot->last_pc;
    Dl_info info;
    /* A blocked thread's return addresses lie on its stack: the first outside of libc and the interpreter is the one.
     */
    if (sp && gp_read_safely(words, sp, sizeof words))
        for (unsigned i = 0; i < 512; i++)
            if (words[i] - gp_python_text >= gp_python_text_bytes && words[i] > 65536 &&
                dladdr((void *)words[i], &info) && info.dli_sname && info.dli_fname &&
                !strstr(info.dli_fname, "libc.so") && !strstr(info.dli_fname, "libpthread") &&
                !strstr(info.dli_fname, "libgilprobe") && !strstr(info.dli_fname, "ld-linux")) {
                snprintf(out, room, "%s (%s)", info.dli_sname, file_name(info.dli_fname));
                return;
            }
    if (pc && dladdr((void *)pc, &info) && info.dli_fname)
        snprintf(out, room, "%s (%s)", info.dli_sname ? info.dli_sname : "?", file_name(info.dli_fname));
}

static void tell_gil(Graph *graph) {
    char name[GP_NAME_BYTES], function[256];
    put(&json, "\"gil\":");
    for (int i = 0; i < graph->count; i++) {
        Node *node = &graph->nodes[i];
        uint64_t since = node->slot ? node->slot->record->gil_since_ticks : 0;
        if (!since)
            continue;
        uint64_t elapsed_ns = gp_now() - gp_header->start_ns, elapsed_ticks = gp_ticks() - gp_header->start_ticks;
        double held_s =
            elapsed_ticks ? (double)(gp_ticks() - since) * (double)elapsed_ns / (double)elapsed_ticks / 1e9 : 0;
        gp_node_name(node, name);
        native_function(node, function, sizeof function);
        put(&text, "  the GIL is held by %s for %.1f s%s%s, called from\n", name, held_s, *function ? ", in " : "",
            function);
        put(&json, "{\"holder\":");
        put_string(name);
        put(&json, ",\"held_s\":%.3f,\"native_function\":", held_s);
        put_string(function);
        put(&json, ",\"stack\":");
        Place places[MOST_FRAMES];
        uint64_t outermost;
        tell_frames(places, gp_frames_of(state_of(node), places, MOST_FRAMES, &outermost), "      ");
        put(&json, "}");
        return;
    }
    put(&json, "null");
}

void gp_tell_stall(Graph *graph, int at, uint64_t waited_ns) {
    char name[GP_NAME_BYTES];
    begin();
    gp_node_name(&graph->nodes[at], name);
    put(&text, "\ngilprobe: stall: %s has waited for %.1f s\n", name, (double)waited_ns / 1e9);
    put(&json, "\"pid\":%u,\"waited_s\":%.3f,\"threads\":[", gp_header->pid, (double)waited_ns / 1e9);
    tell_thread(graph, at, true);
    int target = graph->nodes[at].target;
    if (target >= 0 && target != at)
        tell_thread(graph, target, false);
    put(&json, "],");
    tell_gil(graph);
    end(GP_STALL);
}

void gp_tell_standstill(Graph *graph, uint64_t waited_ns) {
    begin();
    put(&text, "\ngilprobe: stall: nothing has run for %.1f s; all threads wait\n", (double)waited_ns / 1e9);
    put(&json, "\"pid\":%u,\"waited_s\":%.3f,\"threads\":[", gp_header->pid, (double)waited_ns / 1e9);
    bool first = true;
    for (int i = 0, count = 0; i < graph->count && count < 32; i++) {
        if (graph->nodes[i].ghost)
            continue;
        standing_still = true;
        tell_thread(graph, i, first);
        standing_still = false;
        first = false;
        count++;
    }
    put(&json, "],");
    tell_gil(graph);
    end(GP_STALL);
}

char gp_allowed_orders[4096];

/* Is this place named in the list of those whose order the program's author vouches for? */
static bool is_allowed(const Place *made) {
    FrameText frame;
    char place[400];
    for (int i = 0; i < GP_PLACE_FRAMES && gp_frame_text(made->code[i], made->instruction[i], &frame); i++) {
        snprintf(place, sizeof place, "%s:%d", file_name(frame.file), frame.line);
        for (const char *at = gp_allowed_orders; *at;) {
            size_t bytes = strcspn(at, "\n");
            if ((bytes == strlen(place) && !strncmp(at, place, bytes)) ||
                (bytes == strlen(frame.function) && !strncmp(at, frame.function, bytes)))
                return true;
            at += bytes + (at[bytes] != 0);
        }
    }
    return false;
}

static void tell_lock(const char *word, uint64_t lock, uint8_t kind, const Place *place, const char *indent) {
    Held held = {.lock = lock, .kind = kind};
    char name[128];
    held_name(&held, name, sizeof name);
    put(&text, "%s %s, at\n", word, name);
    put(&json, "{\"name\":");
    put_string(name);
    put(&json, ",\"address\":%llu,\"taken\":", (unsigned long long)lock);
    tell_place(place, indent);
    put(&json, "}");
}

void gp_tell_inversion(const OrderWay *const *ways, int count) {
    Place made;
    bool allowed = gp_allowed_orders[0];
    for (int i = 0; allowed && i < count; i++)
        allowed = gp_made_at(ways[i]->first, &made) && is_allowed(&made);
    if (allowed)
        return;
    begin();
    put(&text, "\ngilprobe: lock order: %d threads that meet here would deadlock\n", count);
    put(&json, "\"pid\":%u,\"ways\":[", gp_header->pid);
    for (int i = 0; i < count; i++) {
        put(&text, "  ");
        put_printable(ways[i]->thread_name);
        put(&json, i ? ",{\"thread\":" : "{\"thread\":");
        put_string(ways[i]->thread_name);
        put(&json, ",\"takes\":");
        tell_lock(" takes", ways[i]->second, ways[i]->second_kind, &ways[i]->second_taken, "      ");
        put(&json, ",\"holds\":");
        tell_lock("    while it holds", ways[i]->first, ways[i]->first_kind, &ways[i]->first_taken, "      ");
        put(&json, ",\"made\":");
        Out kept = text; /* where it was made is for the recording */
        if (gp_made_at(ways[i]->first, &made))
            tell_place(&made, "");
        else
            put(&json, "[]");
        text = kept;
        put(&json, "}");
    }
    put(&json, "]");
    end(GP_INVERSION);
}
