/* What each thread waits for at this moment, and who could end it: told by the swapped methods, by the hooks' published
 * waits where the process is recorded, and by the waiter's innermost Python frames. */
#include "graph.h"

#include <string.h>

#include "python.h"

#define OWNER_BITS 15
#define MOST_FRAMES 48
#define ATTACHED 1
#define THREAD_STATE_STATE                                                                       \
    40u /* PyThreadState.state of 3.13; one int more before it in 3.14 and in 3.15 each (CPython \
           Include/cpython/pystate.h) */
#define SURE_CHECKS 6
#define LOOK_AGAIN_CHECKS 50
#define MOST_WANTED 16
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

typedef struct {
    uint64_t locks[MOST_WANTED];
    int count; /* more than MOST_WANTED: all that are held count */
} Wanted;

static bool wants_owner(const Node *node) {
    return node->stable && node->wait_id & 1 && node->whom == GP_ONE &&
           (node->need == GP_NEED_LOCK || node->need == GP_NEED_RLOCK || node->need == GP_NEED_JOIN);
}

static bool is_wanted(const Wanted *wanted, uint64_t lock) {
    for (int i = 0; i < wanted->count; i++)
        if (wanted->locks[i] == lock)
            return true;
    return false;
}

/* Most threads never took any of these, and one word of theirs says so. */
static bool may_hold(const LockThread *thread, const Wanted *wanted) {
    for (int i = 0; i < wanted->count; i++)
        if (thread->touched[gp_touched_at(wanted->locks[i])])
            return true;
    return false;
}

static void collect_owners(const Graph *graph) {
    Wanted wanted = {.count = 0};
    for (int i = 0; i < graph->count && wanted.count <= MOST_WANTED; i++) {
        const Node *node = &graph->nodes[i];
        if (!wants_owner(node) || is_wanted(&wanted, node->lock))
            continue;
        if (wanted.count < MOST_WANTED)
            wanted.locks[wanted.count] = node->lock;
        wanted.count++;
    }
    this_check++;
    bool all = wanted.count > MOST_WANTED;
    for (int i = 0; i < graph->count && wanted.count; i++) {
        LockThread *thread = graph->nodes[i].thread;
        if (!thread || !thread->depth || (!all && !may_hold(thread, &wanted)))
            continue;
        for (uint32_t h = 0; h < GP_MOST_HELD && h < thread->depth; h++) {
            uint64_t lock = __atomic_load_n(&thread->held[h].lock, __ATOMIC_ACQUIRE);
            if (lock && (all || is_wanted(&wanted, lock)) && !gp_is_stale(&thread->held[h]))
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

/* What a Condition's waiter waits for in the end, by who called Condition.wait. */
static enum NeedKind need_of_caller(const Place *places, int count) {
    for (int i = 1; i < count && i < 5; i++)
        switch (gp_code_name(places[i].code[0])) {
        case GP_CODE_SEMAPHORE:
            return GP_NEED_SEMAPHORE;
        case GP_CODE_QUEUE_PUT:
            return GP_NEED_QUEUE_PUT;
        case GP_CODE_QUEUE:
            return GP_NEED_QUEUE_GET;
        case GP_CODE_FUTURE:
            return GP_NEED_FUTURE;
        case GP_CODE_THREADING:
        case GP_CODE_JOIN:
        case GP_CODE_WAIT:
            continue;
        default:
            return GP_NEED_CONDITION;
        }
    return GP_NEED_CONDITION;
}

static void read_frames(Node *node) {
    LockThread *thread = node->thread;
    Place places[MOST_FRAMES];
    uint64_t outermost;
    int count = gp_frames_of(thread->state, places, MOST_FRAMES, &outermost);
    node->need = thread->asked_kind == GP_RLOCK ? GP_NEED_RLOCK : GP_NEED_LOCK;
    thread->module[0] = 0;
    thread->condition = 0;
    thread->worker = 0;
    for (int i = 0; i < count; i++)
        thread->worker |= gp_code_name(places[i].code[0]) == GP_CODE_WORKER;
    if (!count)
        return;
    enum CodeName name = gp_code_name(places[0].code[0]);
    if (name == GP_CODE_MODULE_LOCK) {
        node->need = GP_NEED_IMPORT;
    } else if (name == GP_CODE_JOIN) {
        node->need = GP_NEED_JOIN;
    } else if (name == GP_CODE_WAIT && thread->asked_kind == GP_LOCK) {
        node->need = need_of_caller(places, count);
        thread->condition = thread->last_released;
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
            first_local_text(places[f].code[1], node->thread->module, sizeof node->thread->module))
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

/* The costly part, only for waits that stand, and once for each. */
static void finds_need(Node *node) {
    LockThread *thread = node->thread;
    if (thread->asked_kind == GP_JOIN)
        return;
    if (thread->read_sequence != thread->sequence || thread->need == GP_NEED_IMPORT)
        read_frames(node);
    else
        node->need = thread->need;
    node->condition = thread->condition;
    node->worker = thread->worker;
}

static void finds_whom(Graph *graph, int at) {
    Node *node = &graph->nodes[at];
    LockThread *thread = node->thread;
    if (thread->asked_kind == GP_JOIN) {
        node->target = node_of_pthread(graph, node->lock);
        return;
    }
    if (node->need == GP_NEED_IMPORT) {
        find_module(node);
        node->target = importer_of(graph, at, thread->module);
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

/* Who asks for a Python lock or for the GIL itself lets go of it before it blocks: such a one has only just got it. */
static bool gave_gil_away(const Node *node) { return node->stable && (node->wait_id & 1 || node->need == GP_NEED_GIL); }

static void holds_gil(const Graph *graph, Node *node) {
    node->target = NOBODY;
    for (int i = 0; i < graph->count; i++) {
        const Slot *slot = gave_gil_away(&graph->nodes[i]) ? NULL : graph->nodes[i].slot;
        if (slot && slot != node->slot && slot->record->gil_since_ticks &&
            (!node->slot->gil_condition || slot->gil_condition == node->slot->gil_condition))
            node->target = i;
    }
}

bool gp_is_attached(const LockThread *thread) {
    int32_t state = 0;
    uint32_t at = THREAD_STATE_STATE + 4u * (gp_python.minor - 13u);
    return thread && gp_python.minor >= 13 && gp_read_safely(&state, thread->state + at, 4) && state == ATTACHED;
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
            node->holder_tid = (uint32_t)mutex.__data.__owner;
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

static void add(Graph *graph, LockThread *thread, Slot *slot) {
    if (graph->count == GP_MOST_NODES)
        return;
    Node *node = &graph->nodes[graph->count++];
    node->thread = thread;
    node->slot = slot;
    node->ghost = thread && thread->ghost;
}

/* Walking both chains costs more than all the rest, so it is done when a thread has come or gone; once more after that,
 * as a slot is counted before it is in use, and now and then. */
static void list_threads(Graph *graph) {
    static uint64_t last_slots;
    static uint32_t last_threads, again;
    bool active = atomic_load_explicit(&gp_active, memory_order_relaxed);
    uint32_t threads = atomic_load(&gp_lock_threads_changed);
    uint64_t slots = gp_slots_changed() << 1 | active;
    graph->listed = threads != last_threads || slots != last_slots;
    if (graph->listed)
        again = 1;
    else if (again++ != 1 && again < LOOK_AGAIN_CHECKS)
        return;
    else if (again >= LOOK_AGAIN_CHECKS)
        again = 2;
    last_threads = threads;
    last_slots = slots;
    graph->count = 0;
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all)
        if (thread->ghost || atomic_load_explicit(&thread->in_use, memory_order_acquire))
            add(graph, thread, thread->slot && thread->slot->lock_thread == thread ? thread->slot : NULL);
    for (Slot *slot = active ? gp_slots_all() : NULL; slot; slot = slot->next_all)
        if (atomic_load_explicit(&slot->in_use, memory_order_acquire) && !slot->lock_thread && !slot->over)
            add(graph, NULL, slot);
}

static uint32_t check; /* their number */

static void look(const Graph *graph, int at) {
    Node *node = &graph->nodes[at];
    memset(&node->wait_id, 0, offsetof(Node, ghost) - offsetof(Node, wait_id));
    node->target = NOBODY;
    if (node->ghost)
        return;
    if (node->thread && node->thread->asked)
        asks(graph, at);
    /* A timed wait may be over, and one for the GIL have begun. */
    if (node->slot && node->whom == GP_NOBODY_NEEDED && atomic_load_explicit(&node->slot->in_use, memory_order_acquire))
        is_open(graph, at);
    WatchSeen *seen = gp_seen_of(node);
    if (node->wait_id && node->wait_id == seen->wait_id) {
        node->checks = check - seen->since;
        node->stable = true;
    } else if (node->wait_id || seen->wait_id) { /* no store where nothing has changed: the line stays the thread's */
        seen->wait_id = node->wait_id;
        seen->since = check;
        seen->stall_told = 0;
    }
}

void gp_graph_look_again(Graph *graph) {
    for (int i = 0; i < graph->count; i++)
        look(graph, i);
}

void gp_graph_fill(Graph *graph, Node *nodes) {
    static uint64_t last_print;
    static uint32_t same_prints, no_news;
    graph->nodes = nodes;
    list_threads(graph);
    bool news = graph->listed;
    uint64_t print = 0;
    check++;
    graph->any_waits = false;
    for (int i = 0; i < graph->count; i++) {
        look(graph, i);
        const Node *node = &nodes[i];
        bool waits = node->stable && node->whom != GP_NOBODY_NEEDED;
        graph->any_waits |= waits;
        news |= waits && node->checks == 1;
        print = gp_mix(print, node->stable ? node->wait_id : 1);
    }
    same_prints = print == last_print ? same_prints + 1 : 0;
    last_print = print;
    graph->same = same_prints;
    /* No wait has come to stand and no thread has ended: nobody is worse off than when it was last looked. */
    no_news = news ? 0 : no_news + 1;
    graph->unchanged = no_news > SURE_CHECKS && no_news % LOOK_AGAIN_CHECKS;
}

/* What it asked for, it may have, and now wait for the GIL; since when then counts, not since when it asked. */
static void looks_further(const Graph *graph, int at, uint64_t now_ns) {
    Node *node = &graph->nodes[at];
    ThreadRecord *record = node->slot && node->wait_id & 1 ? node->slot->record : NULL;
    if (!record)
        return;
    uint64_t since_ns = record->open_start_ns;
    if (!since_ns) {
        node->stable = false; /* it has what it asked for, and is on its way back from C */
    } else if (record->open_subject == GP_SUBJECT_GIL && is_open(graph, at)) {
        uint64_t checks = now_ns > since_ns ? (now_ns - since_ns) / GP_CHECK_NS : 0;
        node->checks = checks < node->checks ? (uint32_t)checks : node->checks;
    }
}

void gp_graph_resolve(Graph *graph) {
    uint64_t now_ns = gp_now();
    for (int i = 0; i < graph->count; i++) {
        Node *node = &graph->nodes[i];
        if (!node->stable || node->whom == GP_NOBODY_NEEDED)
            continue;
        looks_further(graph, i, now_ns);
        if (node->stable && node->wait_id & 1)
            finds_need(node);
    }
    collect_owners(graph);
    for (int i = 0; i < graph->count; i++) {
        Node *node = &graph->nodes[i];
        if (!node->stable || node->whom == GP_NOBODY_NEEDED)
            continue;
        if (node->need == GP_NEED_GIL || node->need == GP_NEED_MUTEX)
            finds_native(graph, i);
        else if (node->wait_id & 1)
            finds_whom(graph, i);
    }
    for (int i = 0; i < graph->count; i++)
        if (graph->nodes[i].need == GP_NEED_WORLD && graph->nodes[i].stable)
            finds_native(graph, i);
}
