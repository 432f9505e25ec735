/* The watchdog's reports: deadlocks, stalls, lock orders. */
#define _GNU_SOURCE
#include "graph.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "python.h"
#include "tell.h"

#define MOST_FRAMES 40
#define MOST_OTHERS 32

static bool standing_still;

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
        snprintf(out, room, "the import of %s", node->thread->module);
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
    gp_put(&gp_json_out, "\"holds\":[");
    if (node->slot && node->slot->record->gil_since_ticks) {
        gp_put(&gp_text_out, "%sholds the GIL\n", indent);
        gp_put(&gp_json_out, "{\"name\":\"the GIL\",\"taken\":[]}");
        first = false;
    }
    for (int i = 0; i < graph->count; i++) {
        const Node *other = &graph->nodes[i];
        if (other->target != node - graph->nodes || other->live || !other->stable ||
            (other->need != GP_NEED_MUTEX && other->need != GP_NEED_IMPORT))
            continue;
        lock_name(other, name, sizeof name);
        gp_put(&gp_text_out, "%sholds %s\n", indent, name);
        gp_put(&gp_json_out, first ? "{\"name\":" : ",{\"name\":");
        gp_put_string(name);
        gp_put(&gp_json_out, ",\"taken\":[]}");
        first = false;
        break;
    }
    for (uint32_t h = 0; node->thread && h < node->thread->depth && h < GP_MOST_HELD; h++) {
        Held held = node->thread->held[h];
        if (!held.lock || held.internal)
            continue;
        held_name(&held, name, sizeof name);
        gp_put(&gp_text_out, "%sholds %s, taken at\n", indent, name);
        gp_put(&gp_json_out, first ? "{\"name\":" : ",{\"name\":");
        gp_put_string(name);
        gp_put(&gp_json_out, ",\"address\":%llu,\"taken\":", (unsigned long long)held.lock);
        gp_put_place(&held.taken, deeper);
        gp_put(&gp_json_out, "}");
        first = false;
    }
    gp_put(&gp_json_out, "]");
}

/* Told where nothing runs any more: a notification that came too early may be what is missing. */
static void tell_notified(const Node *node) {
    uint64_t before_ns = node->thread && node->need == GP_NEED_CONDITION && node->stable
                             ? gp_notified_before_ns(node->thread, node->condition)
                             : 0;
    if (!before_ns)
        return;
    gp_put(&gp_text_out, "    which was last notified %.3f s before that wait began: a lost wakeup?\n",
           (double)before_ns / 1e9);
    gp_put(&gp_json_out, ",\"notified_before_s\":%.6f", (double)before_ns / 1e9);
}

static void tell_thread(Graph *graph, int at, bool first) {
    Node *node = &graph->nodes[at];
    char name[GP_NAME_BYTES], what[160], by[GP_NAME_BYTES] = "";
    gp_node_name(node, name);
    lock_name(node, what, sizeof what);
    if (node->target >= 0)
        gp_node_name(&graph->nodes[node->target], by);
    gp_put(&gp_text_out, "  ");
    gp_put_printable(name);
    gp_put(&gp_text_out, node->need == GP_NEED_NOTHING ? " runs" : " waits for %s", what);
    if (*by && node->need == GP_NEED_JOIN)
        gp_put(&gp_text_out, ", %s", by);
    else if (*by)
        gp_put(&gp_text_out, ", which %s %s", by, node->whom == GP_GONE ? "held when the process was forked" : "has");
    gp_put(&gp_text_out, "\n");
    gp_put(&gp_json_out, first ? "{\"name\":" : ",{\"name\":");
    gp_put_string(name);
    gp_put(&gp_json_out, ",\"waits_for\":{\"kind\":\"%s\",\"name\":", kind_of(node));
    gp_put_string(what);
    gp_put(&gp_json_out,
           ",\"address\":%llu,\"held_by\":", (unsigned long long)(node->condition ? node->condition : node->lock));
    gp_put_string(by);
    gp_put(&gp_json_out, "},\"stack\":");
    Place places[MOST_FRAMES];
    uint64_t outermost;
    int count = gp_frames_of(state_of(node), places, MOST_FRAMES, &outermost);
    gp_put_frames(places, count, "      ");
    gp_put(&gp_json_out, ",");
    tell_holds(graph, node, "    ");
    if (standing_still)
        tell_notified(node);
    gp_put(&gp_json_out, "}");
}

void gp_tell_deadlock(Graph *graph, const Cycle *cycle) {
    gp_story_begin();
    const Node *only = &graph->nodes[cycle->members[0]];
    if (cycle->count > 1)
        gp_put(&gp_text_out, "\ngilprobe: deadlock: %d threads wait for each other\n", cycle->count);
    else if (only->whom == GP_GONE)
        gp_put(&gp_text_out,
               "\ngilprobe: deadlock: a thread waits for a lock that was held when the process was forked\n");
    else
        gp_put(&gp_text_out, "\ngilprobe: deadlock: a thread waits for what only itself could give\n");
    gp_put(&gp_json_out, "\"pid\":%u,\"evidence\":\"%s\",\"threads\":[", gp_header->pid,
           cycle->likely ? "estimated" : "measured");
    for (int i = 0; i < cycle->count; i++)
        tell_thread(graph, cycle->members[i], i == 0);
    gp_put(&gp_json_out, "]");
    gp_story_end(GP_DEADLOCK);
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
                snprintf(out, room, "%s (%s)", info.dli_sname, gp_file_name(info.dli_fname));
                return;
            }
    if (pc && dladdr((void *)pc, &info) && info.dli_fname)
        snprintf(out, room, "%s (%s)", info.dli_sname ? info.dli_sname : "?", gp_file_name(info.dli_fname));
}

static void tell_gil(Graph *graph) {
    char name[GP_NAME_BYTES], function[256];
    gp_put(&gp_json_out, "\"gil\":");
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
        gp_put(&gp_text_out, "  the GIL is held by %s for %.1f s%s%s, called from\n", name, held_s,
               *function ? ", in " : "", function);
        gp_put(&gp_json_out, "{\"holder\":");
        gp_put_string(name);
        gp_put(&gp_json_out, ",\"held_s\":%.3f,\"native_function\":", held_s);
        gp_put_string(function);
        gp_put(&gp_json_out, ",\"stack\":");
        Place places[MOST_FRAMES];
        uint64_t outermost;
        gp_put_frames(places, gp_frames_of(state_of(node), places, MOST_FRAMES, &outermost), "      ");
        gp_put(&gp_json_out, "}");
        return;
    }
    gp_put(&gp_json_out, "null");
}

/* While one waits for all others to pause: those that have not. Python code pauses at once, so they are in C code. */
static void tell_unpaused(Graph *graph, int at) {
    char name[GP_NAME_BYTES], function[256];
    bool first = true;
    gp_put(&gp_json_out, "\"unpaused\":[");
    for (int i = 0; i < graph->count && graph->nodes[at].need == GP_NEED_WORLD; i++) {
        Node *node = &graph->nodes[i];
        if (i == at || node->ghost || !gp_is_attached(node->thread))
            continue;
        gp_node_name(node, name);
        native_function(node, function, sizeof function);
        gp_put(&gp_text_out, "  %s does not pause%s%s, called from\n", name, *function ? ": it is in " : "", function);
        gp_put(&gp_json_out, first ? "{\"name\":" : ",{\"name\":");
        gp_put_string(name);
        gp_put(&gp_json_out, ",\"native_function\":");
        gp_put_string(function);
        gp_put(&gp_json_out, ",\"stack\":");
        Place places[MOST_FRAMES];
        uint64_t outermost;
        gp_put_frames(places, gp_frames_of(state_of(node), places, MOST_FRAMES, &outermost), "      ");
        gp_put(&gp_json_out, "}");
        first = false;
    }
    gp_put(&gp_json_out, "],");
}

/* All others, once in a while: many threads may stall for one reason. */
static void tell_others(Graph *graph, int at, int target) {
    static uint64_t told_ns;
    uint64_t now_ns = gp_now();
    if (told_ns && now_ns - told_ns < gp_watch.limit_ns)
        return;
    told_ns = now_ns;
    for (int i = 0, count = 0; i < graph->count && count < MOST_OTHERS; i++)
        if (i != at && i != target && !graph->nodes[i].ghost) {
            tell_thread(graph, i, false);
            count++;
        }
}

void gp_tell_stall(Graph *graph, int at, uint64_t waited_ns) {
    char name[GP_NAME_BYTES];
    gp_story_begin();
    gp_node_name(&graph->nodes[at], name);
    gp_put(&gp_text_out, "\ngilprobe: stall: %s has waited for %.1f s\n", name, (double)waited_ns / 1e9);
    gp_put(&gp_json_out, "\"pid\":%u,\"waited_s\":%.3f,\"threads\":[", gp_header->pid, (double)waited_ns / 1e9);
    tell_thread(graph, at, true);
    int target = graph->nodes[at].target;
    if (target >= 0 && target != at)
        tell_thread(graph, target, false);
    tell_others(graph, at, target);
    gp_put(&gp_json_out, "],");
    tell_unpaused(graph, at);
    tell_gil(graph);
    gp_story_end(GP_STALL);
}

void gp_tell_standstill(Graph *graph, uint64_t waited_ns) {
    gp_story_begin();
    gp_put(&gp_text_out, "\ngilprobe: stall: nothing has run for %.1f s; all threads wait\n", (double)waited_ns / 1e9);
    gp_put(&gp_json_out, "\"pid\":%u,\"waited_s\":%.3f,\"threads\":[", gp_header->pid, (double)waited_ns / 1e9);
    bool first = true;
    for (int i = 0, count = 0; i < graph->count && count < MOST_OTHERS; i++) {
        if (graph->nodes[i].ghost)
            continue;
        standing_still = true;
        tell_thread(graph, i, first);
        standing_still = false;
        first = false;
        count++;
    }
    gp_put(&gp_json_out, "],");
    tell_gil(graph);
    gp_story_end(GP_STALL);
}

char gp_allowed_orders[4096];

/* Is this place named in the list of those whose order the program's author vouches for? */
static bool is_allowed(const Place *made) {
    FrameText frame;
    char place[400];
    for (int i = 0; i < GP_PLACE_FRAMES && gp_frame_text(made->code[i], made->instruction[i], &frame); i++) {
        snprintf(place, sizeof place, "%s:%d", gp_file_name(frame.file), frame.line);
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
    gp_put(&gp_text_out, "%s %s, at\n", word, name);
    gp_put(&gp_json_out, "{\"name\":");
    gp_put_string(name);
    gp_put(&gp_json_out, ",\"address\":%llu,\"taken\":", (unsigned long long)lock);
    gp_put_place(place, indent);
    gp_put(&gp_json_out, "}");
}

void gp_tell_inversion(const OrderWay *const *ways, int count) {
    Place made;
    bool allowed = gp_allowed_orders[0];
    for (int i = 0; allowed && i < count; i++)
        allowed = gp_made_at(ways[i]->first, &made) && is_allowed(&made);
    if (allowed)
        return;
    gp_story_begin();
    gp_put(&gp_text_out, "\ngilprobe: lock order: %d threads that meet here would deadlock\n", count);
    gp_put(&gp_json_out, "\"pid\":%u,\"ways\":[", gp_header->pid);
    for (int i = 0; i < count; i++) {
        gp_put(&gp_text_out, "  ");
        gp_put_printable(ways[i]->thread_name);
        gp_put(&gp_json_out, i ? ",{\"thread\":" : "{\"thread\":");
        gp_put_string(ways[i]->thread_name);
        gp_put(&gp_json_out, ",\"takes\":");
        tell_lock(" takes", ways[i]->second, ways[i]->second_kind, &ways[i]->second_taken, "      ");
        gp_put(&gp_json_out, ",\"holds\":");
        tell_lock("    while it holds", ways[i]->first, ways[i]->first_kind, &ways[i]->first_taken, "      ");
        gp_put(&gp_json_out, ",\"made\":");
        Out kept = gp_text_out; /* where it was made is for the recording */
        if (gp_made_at(ways[i]->first, &made))
            gp_put_place(&made, "");
        else
            gp_put(&gp_json_out, "[]");
        gp_text_out = kept;
        gp_put(&gp_json_out, "}");
    }
    gp_put(&gp_json_out, "]");
    gp_story_end(GP_INVERSION);
}
