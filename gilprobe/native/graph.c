/* Which threads can never go on, and the cycles among them. */
#include "graph.h"

#include <string.h>

static bool anyone_live(const Graph *graph, int but) { return graph->live_count > (graph->nodes[but].live ? 1 : 0); }

static bool is_live_user(const Graph *graph, int waiter, int i) {
    const Node *other = &graph->nodes[i];
    return i != waiter && other->live && other->thread && gp_has_touched(other->thread, graph->nodes[waiter].condition);
}

static bool user_live(const Graph *graph, int waiter) {
    static int last; /* many wait for one thing, and the same thread is the one that lives */
    if (last < graph->count && is_live_user(graph, waiter, last))
        return true;
    for (int i = 0; i < graph->live_count; i++)
        if (is_live_user(graph, waiter, graph->live[i])) {
            last = graph->live[i];
            return true;
        }
    return false;
}

static bool can_go_on(const Graph *graph, int at) {
    const Node *node = &graph->nodes[at];
    switch (node->whom) {
    case GP_NOBODY_NEEDED:
        return true;
    case GP_ONE:
        return node->target >= 0 && node->target != at ? graph->nodes[node->target].live : node->target < 0;
    case GP_TOUCHED:
        return graph->handlers || user_live(graph, at);
    case GP_ANYONE:
        return graph->handlers || anyone_live(graph, at);
    default:
        return false;
    }
}

/* The greatest set of threads none of which can be helped by one outside it: start with all that wait, let those go
 * that a live one can help, until nothing changes. */
void gp_graph_liveness(Graph *graph) {
    graph->live_count = 0;
    for (int i = 0; i < graph->count; i++) {
        Node *node = &graph->nodes[i];
        node->wanted = false;
        node->live = (node->whom == GP_NOBODY_NEEDED || !node->stable) && !node->ghost;
        if (node->live)
            graph->live[graph->live_count++] = i;
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < graph->count; i++)
            if (!graph->nodes[i].live && !graph->nodes[i].ghost && can_go_on(graph, i)) {
                changed = graph->nodes[i].live = true;
                graph->live[graph->live_count++] = i;
            }
    }
    for (int i = 0; i < graph->count; i++) {
        const Node *node = &graph->nodes[i];
        if (!node->live && node->whom == GP_ONE && node->need != GP_NEED_JOIN && node->target >= 0)
            graph->nodes[node->target].wanted = true;
    }
}

/* A wait that only another thread's action on the very same thing can end. Waiting for work (an Event, a queue's get)
 * counts only where the waiter holds what others need meanwhile: idle threads are no deadlock. */
static bool is_strong(const Node *node) {
    switch (node->need) {
    case GP_NEED_SEMAPHORE:
    case GP_NEED_QUEUE_PUT:
    case GP_NEED_FUTURE:
    case GP_NEED_SIGNAL:
        return true;
    case GP_NEED_CONDITION:
    case GP_NEED_QUEUE_GET:
    case GP_NEED_NATIVE:
        return node->wanted;
    default:
        return node->whom == GP_ONE || node->whom == GP_GONE;
    }
}

static bool has_edge(const Graph *graph, int from, int to) {
    const Node *node = &graph->nodes[from], *other = &graph->nodes[to];
    if (other->live || !is_strong(node))
        return false;
    switch (node->whom) {
    case GP_ONE:
        return node->target == to;
    case GP_TOUCHED:
        return from != to && other->thread && gp_has_surely_touched(other->thread, node->condition);
    case GP_ANYONE:
        /* Any of the dead could have ended it: the cycle is closed by one that waits for this thread. */
        return from != to ? is_strong(other) : node->worker && node->need == GP_NEED_FUTURE;
    default:
        return false;
    }
}

/* The shortest cycle through `start`, by breadth first. */
static bool cycle_through(const Graph *graph, int start, Cycle *cycle) {
    static int16_t parent[GP_MOST_NODES];
    static int16_t queue[GP_MOST_NODES];
    for (int i = 0; i < graph->count; i++)
        parent[i] = -1;
    int head = 0, tail = 0;
    queue[tail++] = (int16_t)start;
    while (head < tail) {
        int at = queue[head++];
        if (has_edge(graph, at, start)) {
            int length = 0;
            for (int back = at;; back = parent[back]) {
                if (length == GP_MOST_CYCLE)
                    return false;
                cycle->members[length++] = back;
                if (back == start)
                    break;
            }
            for (int i = 0; i < length / 2; i++) {
                int other = cycle->members[i];
                cycle->members[i] = cycle->members[length - 1 - i];
                cycle->members[length - 1 - i] = other;
            }
            cycle->count = length;
            return true;
        }
        /* Who only waits for an end comes last: it says less than who wants what another holds. */
        for (int joins = 0; joins < 2; joins++)
            for (int next = 0; next < graph->count; next++)
                if (next != start && parent[next] < 0 && (graph->nodes[next].need == GP_NEED_JOIN) == joins &&
                    has_edge(graph, at, next)) {
                    parent[next] = (int16_t)at;
                    queue[tail++] = (int16_t)next;
                }
    }
    return false;
}

static void describe(const Graph *graph, Cycle *cycle) {
    cycle->likely = false;
    for (int i = 0; i < cycle->count; i++)
        if (graph->nodes[cycle->members[i]].whom == GP_TOUCHED)
            cycle->likely = true;
}

static int hard_cycle(const Graph *graph, int start, Cycle *cycle) {
    int at = start;
    cycle->count = 0;
    do {
        const Node *node = &graph->nodes[at];
        if (cycle->count == GP_MOST_CYCLE || node->live)
            return false;
        cycle->members[cycle->count++] = at;
        if (node->whom == GP_GONE)
            return true; /* not a cycle: the chain's end is no more */
        if (node->whom != GP_ONE || node->target < 0)
            return false;
        at = node->target;
    } while (at != start);
    return true;
}

int gp_graph_cycles(Graph *graph, Cycle *cycles, int most) {
    static uint8_t told[GP_MOST_NODES];
    int count = 0, live = 0, strong_alone = -1;
    memset(told, 0, sizeof told);
    /* First those in which every thread waits for one that holds what it wants: they need no guess. */
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < graph->count && count < most; i++) {
            if (told[i] || graph->nodes[i].live || graph->nodes[i].ghost || !is_strong(&graph->nodes[i]))
                continue;
            if (pass == 1 && graph->nodes[i].need == GP_NEED_JOIN)
                continue; /* better told from what is held */
            Cycle *cycle = &cycles[count];
            if (pass == 0 ? !hard_cycle(graph, i, cycle) : !cycle_through(graph, i, cycle))
                continue;
            if (pass == 0 && graph->nodes[cycle->members[cycle->count - 1]].whom == GP_GONE && cycle->count > 1)
                continue; /* told with the last of the chain alone */
            bool again = false;
            for (int m = 0; m < cycle->count; m++)
                again |= told[cycle->members[m]];
            if (again)
                continue;
            for (int m = 0; m < cycle->count; m++)
                told[cycle->members[m]] = 1;
            describe(graph, cycle);
            count++;
        }
    for (int i = 0; i < graph->count; i++) {
        const Node *node = &graph->nodes[i];
        live += node->live;
        if (strong_alone < 0 && !node->live && !node->ghost && node->whom == GP_ANYONE && is_strong(node))
            strong_alone = i;
    }
    /* Nobody is left who could help a thread that waits for something a thread must give. */
    if (!count && !live && strong_alone >= 0 && most > 0) {
        cycles[0] = (Cycle){.members = {strong_alone}, .count = 1};
        count = 1;
    }
    return count;
}
