/* The wait-for graph of one check: which thread waits for which, and which can never go on. Only the watchdog's thread
 * uses it. */
#ifndef GILPROBE_GRAPH_H
#define GILPROBE_GRAPH_H

#include "watch.h"

#pragma GCC visibility push(hidden)

#define GP_MOST_NODES 4096
#define GP_CHECK_NS 100000000u
#define GP_MOST_CYCLE 64

/* What a thread waits for, in the report's words. */
enum NeedKind {
    GP_NEED_NOTHING = 0, /* it runs, sleeps, does I/O, or will give up by itself */
    GP_NEED_LOCK,
    GP_NEED_RLOCK,
    GP_NEED_JOIN,
    GP_NEED_IMPORT,
    GP_NEED_GIL,
    GP_NEED_MUTEX,
    GP_NEED_WORLD,     /* stop-the-world: every other thread has to pause */
    GP_NEED_CONDITION, /* Condition, Event, Barrier */
    GP_NEED_SEMAPHORE,
    GP_NEED_QUEUE_PUT,
    GP_NEED_QUEUE_GET,
    GP_NEED_FUTURE,
    GP_NEED_SIGNAL, /* a lock used as a signal: taken by this thread, or released by others than its takers */
    GP_NEED_NATIVE  /* a wait of C code whose other side is not known */
};

/* Who can end the wait. */
enum NeedWhom {
    GP_NOBODY_NEEDED = 0,
    GP_ONE,     /* `target` */
    GP_TOUCHED, /* any thread that has ever used `condition`, and there is one besides itself */
    GP_ANYONE,
    GP_GONE /* a thread that did not survive fork() */
};

typedef struct {
    LockThread *thread; /* one of the two may be NULL */
    Slot *slot;
    uint64_t wait_id;   /* the same wait has the same id */
    uint64_t lock;      /* what is waited for: a lock object, a mutex, a thread */
    uint64_t condition; /* the lock of the Condition that is waited on */
    uint32_t holder_tid;
    int32_t target;
    uint32_t checks; /* that saw this same wait, one after the other */
    uint8_t need;    /* NeedKind */
    uint8_t whom;    /* NeedWhom */
    bool stable;     /* the same wait as at the last check */
    bool live;
    bool worker; /* of a ThreadPoolExecutor */
    bool wanted; /* another waits for something that this one holds */
    bool ghost;
} Node; /* a cache line: a thousand of them are looked at ten times a second */

typedef struct {
    Node *nodes;
    int count;
    int live[GP_MOST_NODES], live_count; /* as gp_graph_liveness found them */
    bool any_waits;                      /* that have stood since the last check */
    uint32_t same;                       /* checks for which nobody's wait has changed */
    bool unchanged;                      /* for long: what was found then still holds */
    bool listed;                         /* a thread has come or gone */
    bool handlers;                       /* the program handles signals in Python: a handler may end any wait */
} Graph;

typedef struct {
    int members[GP_MOST_CYCLE];
    int count;
    bool likely; /* by whom the condition was used so far, not by who holds what */
} Cycle;

static inline WatchSeen *gp_seen_of(const Node *node) { return node->thread ? &node->thread->seen : &node->slot->seen; }

/* code_names.c: only the watchdog's thread asks */
enum CodeName {
    GP_CODE_OTHER,
    GP_CODE_MODULE_LOCK,
    GP_CODE_JOIN,
    GP_CODE_WAIT,
    GP_CODE_SEMAPHORE,
    GP_CODE_THREADING, /* anything else in threading.py */
    GP_CODE_QUEUE_PUT,
    GP_CODE_QUEUE, /* anything else in queue.py */
    GP_CODE_FUTURE,
    GP_CODE_WORKER /* of a ThreadPoolExecutor */
};
enum CodeName gp_code_name(uint64_t code);

/* graph.c */
void gp_graph_liveness(Graph *graph);
/* Cycles among the nodes that are not live, at most `most`. */
int gp_graph_cycles(Graph *graph, Cycle *cycles, int most);

/* needs.c: the threads and their waits; then, which costs more, whom each standing wait is for */
void gp_graph_fill(Graph *graph, Node *nodes);
void gp_graph_resolve(Graph *graph);
void gp_graph_look_again(Graph *graph);        /* in the same check */
bool gp_is_attached(const LockThread *thread); /* free-threaded: its state has not been let go of */

/* story.c */
extern char gp_allowed_orders[4096]; /* where locks are made, FILE:LINE or a function, one a line */
void gp_tell_deadlock(Graph *graph, const Cycle *cycle);
void gp_tell_stall(Graph *graph, int node, uint64_t waited_ns);
void gp_tell_standstill(Graph *graph, uint64_t waited_ns);
/* The second taken while the first was held. */
#define GP_MOST_WAYS 6
#define GP_MOST_GATES 6
typedef struct {
    uint64_t first, second;
    uint8_t first_kind, second_kind;
    Place first_taken, second_taken;
    LockThread *thread;
    uint32_t thread_number;
    char thread_name[GP_NAME_BYTES];
} OrderWay;
void gp_tell_inversion(const OrderWay *const *ways, int count);
void gp_node_name(Node *node, char *out);
void gp_thread_state_name(LockThread *thread);

#pragma GCC visibility pop
#endif
