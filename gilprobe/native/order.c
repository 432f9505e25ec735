/* Which lock was taken while which was held, and orders that contradict each other though they never hung (as Linux's
 * lockdep finds them): by the locks themselves, and by where they were made. */
#include "graph.h"

#include <string.h>

#include "python.h"

#define EDGE_BITS 14
#define MOST_EDGES (1u << EDGE_BITS)
#define PROBES 32
#define MOST_AROUND 8 /* locks whose order with one taken inside them is kept */
#define BUSY 1u
#define MOST_STEPS 20000

typedef struct {
    _Atomic uint64_t key; /* 0 = free, BUSY = being filled */
    uint64_t from, to;    /* nodes of the order's graph: a lock, or a class of locks */
    OrderWay way;
    uint32_t threads[2]; /* that took them in this order */
    uint64_t gates[GP_MOST_GATES];
    uint8_t gate_count;
    bool by_class;
    int32_t next_from; /* the watchdog's: another edge from the same node */
} Edge;

static Edge edges[MOST_EDGES];
static _Atomic uint32_t filled[MOST_EDGES]; /* indices of edges in order of arrival */
static _Atomic uint32_t filled_count;
static _Atomic uint32_t linked; /* of them, looked at */
_Atomic uint64_t gp_order_dropped;

/* Mixed twice: were the address and the birth only added, neighbours would be taken for each other. */
static uint64_t node_of_lock(uint64_t lock) { return gp_mix(gp_mix(0, lock), gp_birth_of(lock)) & ~1ull; }

static bool in(const uint64_t *list, uint32_t count, uint64_t value) {
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* What protects every taking seen so far protects the order. */
static bool seen_again(Edge *edge, uint64_t key, uint32_t thread, const uint64_t *gates, uint32_t gate_count) {
    uint64_t expected = key;
    if (!atomic_compare_exchange_strong(&edge->key, &expected, BUSY))
        return false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < edge->gate_count; i++)
        if (in(gates, gate_count, edge->gates[i]))
            edge->gates[kept++] = edge->gates[i];
    bool news = kept != edge->gate_count;
    edge->gate_count = (uint8_t)kept;
    if (edge->threads[0] != thread && !edge->threads[1]) {
        edge->threads[1] = thread;
        news = true;
    }
    atomic_store_explicit(&edge->key, key, memory_order_release);
    if (news) {
        uint32_t at = atomic_fetch_add(&filled_count, 1);
        if (at < MOST_EDGES)
            atomic_store(&filled[at], (uint32_t)(edge - edges) + 1);
    }
    return true;
}

/* False when it should be tried again. */
static bool add_edge(LockThread *thread, const Held *first, const Held *second, uint64_t from, uint64_t to,
                     bool by_class, const uint64_t *gates, uint32_t gate_count) {
    uint64_t key = gp_mix(gp_mix(gp_mix(0, from), to), by_class) | 2;
    for (uint32_t i = 0; i < PROBES; i++) {
        Edge *edge = &edges[(uint32_t)((key >> 20) + i) & (MOST_EDGES - 1)];
        uint64_t there = atomic_load_explicit(&edge->key, memory_order_acquire);
        if (there == key)
            return seen_again(edge, key, thread->number, gates, gate_count);
        if (there == BUSY)
            return false;
        if (there)
            continue;
        if (!atomic_compare_exchange_strong(&edge->key, &there, BUSY))
            return false;
        edge->from = from;
        edge->to = to;
        edge->by_class = by_class;
        edge->way.first = first->lock;
        edge->way.second = second->lock;
        edge->way.first_kind = first->kind;
        edge->way.second_kind = second->kind;
        edge->way.first_taken = first->taken;
        edge->way.second_taken = second->taken;
        edge->way.thread = thread;
        edge->way.thread_number = thread->number;
        edge->threads[0] = thread->number;
        memcpy(edge->gates, gates, gate_count * sizeof *gates);
        edge->gate_count = (uint8_t)gate_count;
        atomic_store_explicit(&edge->key, key, memory_order_release);
        uint32_t at = atomic_fetch_add(&filled_count, 1);
        if (at < MOST_EDGES)
            atomic_store(&filled[at], (uint32_t)(edge - edges) + 1);
        if (!thread->name[0])
            gp_thread_state_name(thread);
        strcpy(edge->way.thread_name, thread->name);
        return true;
    }
    atomic_fetch_add_explicit(&gp_order_dropped, 1, memory_order_relaxed);
    return true;
}

/* `taken` is the last of thread->held, and not the only one. */
void gp_order_taken(LockThread *thread, const Held *taken) {
    /* One that gives up can be late, but no link of a deadlock. */
    if (taken->ask & (GP_ASK_TRY | GP_ASK_TIMED) || taken->internal)
        return;
    uint64_t all = 0;
    uint32_t held = thread->depth - 1;
    for (uint32_t i = 0; i < held; i++)
        all ^= gp_mix(0, thread->held[i].lock);
    uint64_t to = node_of_lock(taken->lock), class_to = gp_class_of(taken->lock);
    uint64_t cached = gp_mix(gp_mix(all, to), taken->taken.code[0]) | 1;
    if (thread->edge_cache[cached >> 58] == cached)
        return;
    bool whole = true;
    for (uint32_t i = held > MOST_AROUND ? held - MOST_AROUND : 0; i < held; i++) {
        const Held *first = &thread->held[i];
        if (!first->lock || first->internal || gp_lock_is_handed_over(first->lock) || gp_is_stale(first))
            continue;
        if (gp_birth_is_lost(first->lock) || gp_birth_is_lost(taken->lock)) {
            atomic_fetch_add_explicit(&gp_order_dropped, 1, memory_order_relaxed);
            continue;
        }
        uint64_t gates[GP_MOST_GATES];
        uint32_t gate_count = 0;
        /* Only what was there before both protects: a lock between them has orders of its own. */
        for (uint32_t g = 0; g < i && gate_count < GP_MOST_GATES; g++)
            if (thread->held[g].lock)
                gates[gate_count++] = thread->held[g].lock;
        gp_birth_used(first->lock, thread->number);
        gp_birth_used(taken->lock, thread->number);
        whole &= add_edge(thread, first, taken, node_of_lock(first->lock), to, false, gates, gate_count);
        uint64_t class_from = gp_class_of(first->lock);
        if (class_from && class_to && class_from != class_to)
            whole &= add_edge(thread, first, taken, class_from, class_to, true, gates, gate_count);
    }
    if (whole)
        thread->edge_cache[cached >> 58] = cached;
    /* Here and now, while the code of both ways is there to be named; else the watchdog's thread does it. */
    if (atomic_load(&filled_count) != linked && gp_story_try()) {
        gp_order_check();
        gp_story_done();
    }
}

/* ---- contradictions */

static int32_t heads[MOST_EDGES];
static uint64_t told[256];
static uint32_t told_count;

static bool linked_already(const Edge *edge) { return edge->next_from != 0; }

static int32_t *head_of(uint64_t node) { return &heads[(node >> 7) & (MOST_EDGES - 1)]; }

typedef struct {
    Edge *edges[GP_MOST_WAYS];
    uint32_t count;
} Path;

static bool shared(const Edge *edge) {
    return gp_birth_is_shared(edge->way.first) || gp_birth_is_shared(edge->way.second);
}

/* Can threads meet on these edges? Not if one thread did it all, nor if one lock was held around all of them. */
static bool can_deadlock(const Path *path) {
    bool several = false;
    for (uint32_t i = 0; i < path->count; i++) {
        several |= path->edges[i]->threads[1] || path->edges[i]->threads[0] != path->edges[0]->threads[0];
        if (path->edges[i]->by_class && !shared(path->edges[i]))
            return false;
    }
    if (!several)
        return false;
    const Edge *first = path->edges[0];
    for (uint32_t g = 0; g < first->gate_count; g++) {
        bool everywhere = true;
        for (uint32_t i = 1; i < path->count; i++)
            everywhere &= in(path->edges[i]->gates, path->edges[i]->gate_count, first->gates[g]);
        if (everywhere)
            return false;
    }
    return true;
}

/* One telling for a set of locks, or of classes of locks where these are known. */
static uint64_t print_of(const Path *path) {
    uint64_t print = 0;
    for (uint32_t i = 0; i < path->count; i++) {
        uint64_t class = gp_class_of(path->edges[i]->way.first);
        print += gp_mix(7, class ? class : path->edges[i]->from);
    }
    return print | 1;
}

static void tell(const Path *path) {
    uint64_t print = print_of(path);
    if (in(told, told_count < 256 ? told_count : 256, print))
        return;
    told[told_count++ % 256] = print;
    const OrderWay *ways[GP_MOST_WAYS];
    for (uint32_t i = 0; i < path->count; i++)
        ways[i] = &path->edges[i]->way;
    gp_tell_inversion(ways, (int)path->count);
}

/* Paths from `at` back to `goal`, the shortest first by the limit on their length. */
static bool search(Path *path, uint64_t at, uint64_t goal, uint32_t most, uint32_t *steps) {
    for (int32_t i = *head_of(at); i > 0 && ++*steps < MOST_STEPS; i = edges[i - 1].next_from) {
        Edge *edge = &edges[i - 1];
        if (edge->from != at || edge->by_class != path->edges[0]->by_class)
            continue;
        bool again = false;
        for (uint32_t p = 0; p < path->count; p++)
            again |= path->edges[p]->from == at && p;
        if (again)
            continue;
        path->edges[path->count++] = edge;
        if (edge->to == goal) {
            if (can_deadlock(path))
                return true;
        } else if (path->count < most && search(path, edge->to, goal, most, steps)) {
            return true;
        }
        path->count--;
    }
    return false;
}

void gp_order_check(void) {
    uint32_t count = atomic_load(&filled_count);
    for (; linked < count && linked < MOST_EDGES; linked++) {
        uint32_t at = atomic_load(&filled[linked]);
        if (!at)
            break; /* its thread has claimed the place and not yet written it */
        Edge *edge = &edges[at - 1];
        if (!linked_already(edge)) {
            int32_t *head = head_of(edge->from);
            edge->next_from = *head ? *head : -1;
            *head = (int32_t)at;
        }
        for (uint32_t most = 2; most <= GP_MOST_WAYS; most++) {
            Path path = {.edges = {edge}, .count = 1};
            uint32_t steps = 0;
            if (search(&path, edge->to, edge->from, most, &steps)) {
                tell(&path);
                break;
            }
        }
    }
    if (count > MOST_EDGES)
        atomic_store(&gp_order_dropped, count - MOST_EDGES);
}

void gp_order_reset(void) {
    memset(edges, 0, sizeof edges);
    memset(heads, 0, sizeof heads);
    memset(filled, 0, sizeof filled);
    atomic_store(&filled_count, 0);
    linked = told_count = 0;
    for (LockThread *thread = gp_lock_threads(); thread; thread = thread->next_all)
        memset(thread->edge_cache, 0, sizeof thread->edge_cache);
}
