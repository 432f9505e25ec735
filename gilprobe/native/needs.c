/* What each thread waits for at this moment, and who could end it: told by the swapped methods, by the hooks' published
 * waits where the process is recorded, and by the waiter's innermost Python frames. */
#include "graph.h"

#include <string.h>

#include "python.h"

#define OWNER_BITS 15
#define MOST_FRAMES 48
#define ATTACHED 1
#define THREAD_STATE_STATE 40 /* PyThreadState.state, 3.13 and later (CPython Include/cpython/pystate.h) */
#define SURE_CHECKS 6
#define LOOK_AGAIN_CHECKS 50
#define NOBODY (-1)
#define SEVERAL (-2)

static struct {
    uint64_t lock;
    int32_t node;
    uint32_t check;
} owners[1 << OWNER_BITS];
static uint32_t this_check;

static uint32_t owner_at(uint64_t lock) { return (uint32_t)((lock >> 3) * 0x9E3779B97F4A7C15u >> (64 - OWNER_BITS)); }

static void add_owner(uint64_t lock, int node) {
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t at = (owner_at(lock) + i) & ((1 << OWNER_BITS) - 1);
        if (owners[at].check == this_check && owners[at].lock != lock)
            continue;
        /* Two say that they have it: one of them is out of date, and which one is not known. */
        owners[at].node = owners[at].check == this_check && owners[at].node != node ? SEVERAL : node;
        owners[at].lock = lock;
        owners[at].check = this_check;
        return;
    }
}

static int owner_of(uint64_t lock) {
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t at = (owner_at(lock) + i) & ((1 << OWNER_BITS) - 1);
        if (owners[at].check != this_check)
            return NOBODY;
        if (owners[at].lock == lock)
            return owners[at].node;
    }
    return NOBODY;
}

static void collect_owners(const Graph *graph) {
    this_check++;
    for (int i = 0; i < graph->count; i++) {
        LockThread *thread = graph->nodes[i].thread;
        for (uint32_t h = 0; thread && h < GP_MOST_HELD && h < thread->depth; h++) {
            uint64_t lock = __atomic_load_n(&thread->held[h].lock, __ATOMIC_ACQUIRE);
            if (lock && !gp_is_stale(&thread->held[h]))
                add_owner(lock, i);
        }
    }
}

static int node_of_pthread(const Graph *graph, uint64_t pthread) {
    for (int i = 0; i < graph->count; i++)
        if (graph->nodes[i].thread && !graph->nodes[i].ghost && (uint64_t)graph->nodes[i].thread->pthread == pthread)
            return i;
    return NOBODY;
}

static int node_of_tid(const Graph *graph, uint32_t tid) {
    for (int i = 0; i < graph->count; i++) {
        const Node *node = &graph->nodes[i];
        if (!node->ghost && tid == (node->slot ? node->slot->tid : node->thread->tid))
            return i;
    }
    return NOBODY;
}

/* ---- by frames */

static bool ends_with(const char *text, const char *end) {
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && !strcmp(text + bytes - end_bytes, end);
}

static bool is_in_import(const FrameText *frame) {
    return !strcmp(frame->file, "<frozen importlib._bootstrap>") || ends_with(frame->file, "importlib/_bootstrap.py");
}

/* A str that is the frame's first local. */
static bool first_local_text(uint64_t frame, char *out, uint32_t room) {
    uint64_t object, type;
    if (!gp_read_safely(&object, frame + gp_python.frame_locals, 8) || !(object &= ~7ull) ||
        !gp_read_safely(&type, object + gp_python.object_type, 8))
        return false;
    uint32_t bytes = gp_text((const char *)object, out, room - 1);
    out[bytes] = 0;
    return bytes > 0;
}

/* The thread whose import of `module` goes on: it has a frame of _find_and_load(module) and is past its lock. */
static int importer_of(const Graph *graph, int waiter, const char *module) {
    for (int i = 0; i < graph->count; i++) {
        if (i == waiter || !graph->nodes[i].thread || graph->nodes[i].ghost)
            continue;
        Place places[MOST_FRAMES];
        uint64_t outermost;
        int count = gp_frames_of(graph->nodes[i].thread->state, places, MOST_FRAMES, &outermost);
        for (int f = 1; f < count; f++) {
            char name[96];
            if (gp_code_is(places[f].code[0], "_find_and_load", "") &&
                first_local_text(places[f].code[1], name, sizeof name) && !strcmp(name, module) &&
                !gp_code_is(places[f - 1].code[0], "_ModuleLockManager.__enter__", ""))
                return i;
        }
    }
    return NOBODY;
}

static void read_frames(Node *node) {
    LockThread *thread = node->thread;
    Place places[MOST_FRAMES];
    uint64_t outermost;
    int count = gp_frames_of(thread->state, places, MOST_FRAMES, &outermost);
    FrameText frames[5];
    int texts = 0;
    for (; texts < count && texts < 5; texts++)
        gp_frame_text(places[texts].code[0], places[texts].instruction[0], &frames[texts]);
    node->need = node->thread->asked_kind == GP_RLOCK ? GP_NEED_RLOCK : GP_NEED_LOCK;
    node->module[0] = 0;
    thread->condition = 0;
    thread->worker = 0;
    for (int i = 0; i < count; i++)
        thread->worker |= gp_code_is(places[i].code[0], "_worker", "concurrent/futures/thread.py");
    if (!texts)
        return;
    if (!strcmp(frames[0].function, "_ModuleLock.acquire") && is_in_import(&frames[0])) {
        node->need = GP_NEED_IMPORT;
    } else if (!strcmp(frames[0].function, "Thread._wait_for_tstate_lock") ||
               (!strcmp(frames[0].function, "_shutdown") && ends_with(frames[0].file, "threading.py"))) {
        node->need = GP_NEED_JOIN;
    } else if (!strcmp(frames[0].function, "Condition.wait") && ends_with(frames[0].file, "threading.py") &&
               thread->asked_kind == GP_LOCK) {
        node->need = GP_NEED_CONDITION;
        thread->condition = thread->last_released;
        for (int i = 1; i < texts; i++) {
            const char *function = frames[i].function;
            if (ends_with(frames[i].file, "threading.py") && !strcmp(function, "Semaphore.acquire"))
                node->need = GP_NEED_SEMAPHORE;
            else if (ends_with(frames[i].file, "/queue.py"))
                node->need = !strcmp(function, "Queue.put") ? GP_NEED_QUEUE_PUT : GP_NEED_QUEUE_GET;
            else if (ends_with(frames[i].file, "concurrent/futures/_base.py") &&
                     (!strcmp(function, "Future.result") || !strcmp(function, "Future.exception")))
                node->need = GP_NEED_FUTURE;
            else if (ends_with(frames[i].file, "threading.py"))
                continue;
            break;
        }
    }
    thread->need = node->need;
    thread->read_sequence = thread->sequence;
}

static void find_module(Node *node) {
    Place places[MOST_FRAMES];
    uint64_t outermost;
    int count = gp_frames_of(node->thread->state, places, MOST_FRAMES, &outermost);
    for (int f = 0; f < count; f++)
        if ((gp_code_is(places[f].code[0], "_find_and_load", "") ||
             gp_code_is(places[f].code[0], "_lock_unlock_module", "")) &&
            first_local_text(places[f].code[1], node->module, sizeof node->module))
            return;
}

/* ---- each thread */

static void asks(const Graph *graph, int at) {
    Node *node = &((Graph *)graph)->nodes[at];
    LockThread *thread = node->thread;
    node->wait_id = thread->sequence << 1 | 1;
    node->lock = __atomic_load_n(&thread->asked, __ATOMIC_ACQUIRE);
    if (thread->asked_how & (GP_ASK_TRY | GP_ASK_TIMED))
        return; /* it will give up */
    node->whom = GP_ONE;
    node->target = NOBODY;
    if (thread->asked_kind == GP_JOIN) {
        node->need = GP_NEED_JOIN;
        return;
    }
    node->need = thread->asked_kind == GP_RLOCK ? GP_NEED_RLOCK : GP_NEED_LOCK;
}

/* The costly part, only for waits that stand. */
static void finds_whom(Graph *graph, int at) {
    Node *node = &graph->nodes[at];
    LockThread *thread = node->thread;
    if (node->need == GP_NEED_JOIN) {
        node->target = node_of_pthread(graph, node->lock);
        return;
    }
    if (thread->read_sequence != thread->sequence || thread->need == GP_NEED_IMPORT)
        read_frames(node);
    node->need = thread->need;
    node->condition = thread->condition;
    node->worker = thread->worker;
    if (node->need == GP_NEED_IMPORT) {
        find_module(node);
        node->target = importer_of(graph, at, node->module);
        return;
    }
    if (node->condition) {
        /* Who will set a future has not touched it yet; it may be any thread of any pool. */
        node->whom = GP_ANYONE;
        for (int i = 0; i < graph->count && node->need != GP_NEED_FUTURE; i++) {
            const Node *other = &graph->nodes[i];
            if (i != at && other->thread && !other->ghost && gp_has_surely_touched(other->thread, node->condition)) {
                node->whom = GP_TOUCHED;
                break;
            }
        }
        return;
    }
    int owner = owner_of(node->lock);
    if (owner >= 0 && owner != at && !gp_lock_is_handed_over(node->lock)) {
        uint8_t ghost = graph->nodes[owner].ghost ? graph->nodes[owner].thread->ghost : 0;
        node->target = owner;
        node->whom = ghost == 2 ? GP_GONE : ghost ? GP_ANYONE : GP_ONE;
        if (ghost == 1)
            node->need = GP_NEED_SIGNAL;
        return;
    }
    if (node->need == GP_NEED_LOCK) {
        node->need = GP_NEED_SIGNAL;
        node->whom = GP_ANYONE;
    } else {
        node->whom = GP_NOBODY_NEEDED; /* an RLock that someone is just taking or letting go */
    }
}

static void holds_gil(const Graph *graph, Node *node) {
    node->target = NOBODY;
    for (int i = 0; i < graph->count; i++) {
        const Slot *slot = graph->nodes[i].slot;
        if (slot && slot != node->slot && slot->record->gil_since_ticks &&
            (!node->slot->gil_condition || slot->gil_condition == node->slot->gil_condition))
            node->target = i;
    }
}

bool gp_is_attached(const LockThread *thread) {
    int32_t state = 0;
    return thread && gp_read_safely(&state, thread->state + THREAD_STATE_STATE, 4) && state == ATTACHED;
}

/* Published by the hooks. */
static bool is_open(const Graph *graph, int at) {
    Node *node = &((Graph *)graph)->nodes[at];
    ThreadRecord *record = node->slot->record;
    uint64_t start_ns = __atomic_load_n(&record->open_start_ns, __ATOMIC_ACQUIRE);
    if (!start_ns)
        return false;
    uint8_t op = record->open_op, subject = record->open_subject;
    if (subject == GP_SUBJECT_GIL && op == GP_OP_COND) {
        node->need = GP_NEED_GIL;
    } else if (subject == GP_SUBJECT_STOP_THE_WORLD) {
        node->need = GP_NEED_WORLD;
        start_ns = 2; /* it waits by the millisecond, again and again */
    } else if (op == GP_OP_MUTEX) {
        node->need = GP_NEED_MUTEX;
    } else if (op >= GP_OP_SLEEP || op == GP_OP_YIELD || record->open_flags & GP_WAIT_TIMED) {
        return false;
    } else {
        node->need = GP_NEED_NATIVE;
    }
    node->wait_id = start_ns << 1;
    node->lock = record->open_address;
    node->target = NOBODY;
    node->whom = node->need == GP_NEED_NATIVE ? GP_ANYONE : GP_ONE;
    return true;
}

static void finds_native(Graph *graph, int at) {
    Node *node = &graph->nodes[at];
    if (node->need == GP_NEED_GIL) {
        holds_gil(graph, node);
    } else if (node->need == GP_NEED_MUTEX) {
        pthread_mutex_t mutex;
        node->target = NOBODY;
        if (gp_read_safely(&mutex, node->lock, sizeof mutex) && mutex.__data.__owner > 0) {
            node->holder_tid = (uint64_t)mutex.__data.__owner;
            node->target = node_of_tid(graph, (uint32_t)mutex.__data.__owner);
        }
    } else if (node->need == GP_NEED_WORLD) {
        for (int i = 0; i < graph->count; i++) {
            const Node *other = &graph->nodes[i];
            if (i != at && other->whom != GP_NOBODY_NEEDED && other->stable && gp_is_attached(other->thread))
                node->target = i;
        }
    }
}

static WatchSeen *seen_of(const Node *node) { return node->thread ? &node->thread->seen : &node->slot->seen; }

static void add(Graph *graph, LockThread *thread, Slot *slot) {
    if (graph->count == GP_MOST_NODES)
        return;
    Node *node = &graph->nodes[graph->count++];
    memset(node, 0, offsetof(Node, module));
    node->thread = thread;
    node->slot = slot;
    node->target = NOBODY;
    node->ghost = thread && thread->ghost;
}

void gp_graph_fill(Graph *graph, Node *nodes) {
    static uint64_t last_print;
    static uint32_t same_prints;
    graph->nodes = nodes;
    graph->count = 0;
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all)
        if (thread->ghost || atomic_load_explicit(&thread->in_use, memory_order_acquire))
            add(graph, thread, thread->slot && thread->slot->lock_thread == thread ? thread->slot : NULL);
    if (atomic_load_explicit(&gp_active, memory_order_relaxed))
        for (Slot *slot = gp_slots_all(); slot; slot = slot->next_all)
            if (atomic_load_explicit(&slot->in_use, memory_order_acquire) && !slot->lock_thread && !slot->over)
                add(graph, NULL, slot);
    bool any = false;
    uint64_t print = 0;
    for (int i = 0; i < graph->count; i++) {
        Node *node = &graph->nodes[i];
        if (node->ghost)
            continue;
        if (node->thread && node->thread->asked)
            asks(graph, i);
        if (node->slot && node->whom == GP_NOBODY_NEEDED) /* a timed wait may be over, and one for the GIL have begun */
            is_open(graph, i);
        WatchSeen *seen = seen_of(node);
        if (node->wait_id && node->wait_id == seen->wait_id) {
            seen->checks++;
            node->stable = true;
        } else {
            seen->wait_id = node->wait_id;
            seen->checks = 0;
            seen->stall_told = 0;
        }
        any |= node->stable && node->whom != GP_NOBODY_NEEDED;
        print = gp_mix(print, node->stable ? node->wait_id : 1);
    }
    /* The same waits as at the last check: what was found then still holds, and so does what was not. */
    same_prints = print == last_print ? same_prints + 1 : 0;
    graph->same = same_prints;
    graph->unchanged = same_prints > SURE_CHECKS && same_prints % LOOK_AGAIN_CHECKS;
    last_print = print;
    graph->any_waits = any;
}

void gp_graph_resolve(Graph *graph) {
    collect_owners(graph);
    for (int i = 0; i < graph->count; i++) {
        Node *node = &graph->nodes[i];
        if (!node->stable || node->whom == GP_NOBODY_NEEDED)
            continue;
        /* What it asked for, it may have, and now wait for the GIL. */
        ThreadRecord *record = node->slot && node->wait_id & 1 ? node->slot->record : NULL;
        if (record && record->open_start_ns && record->open_subject == GP_SUBJECT_GIL)
            is_open(graph, i);
        else if (record && !record->open_start_ns) {
            node->stable = false; /* it has what it asked for, and is on its way back from C */
            continue;
        }
        if (node->need == GP_NEED_GIL || node->need == GP_NEED_MUTEX)
            finds_native(graph, i);
        else if (node->wait_id & 1)
            finds_whom(graph, i);
    }
    for (int i = 0; i < graph->count; i++)
        if (graph->nodes[i].need == GP_NEED_WORLD && graph->nodes[i].stable)
            finds_native(graph, i);
}
