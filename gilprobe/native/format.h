/* The recording file: what the native core writes and gilprobe/recording/schema.py reads (a test compares the two).
 *
 * A recording is a folder with one file a process, named PID-STARTNS.gpr. A file is
 *
 *     [FileHeader, GP_HEADER_BYTES] [extent] [extent] ...
 *
 * An extent starts with ExtentHeader and holds chunks back to back up to `used` (clipped to `bytes`). A chunk starts
 * with ChunkHeader, is owned by one thread slot at a time and holds either self-delimiting records (GP_CHUNK_RECORDS)
 * or an array of one fixed-size struct. `length` counts the payload bytes that are whole; it is stored last (release),
 * so what lies below it can be read at any time, also after kill -9. Records of type THREAD and WAIT are updated in
 * place.
 *
 * A slot serves one thread after another. A THREAD record starts a new thread in its slot; WAIT records carry the
 * thread.
 *
 * All integers are little-endian; all times are CLOCK_MONOTONIC nanoseconds unless they end in _ticks: those are
 * time-stamp-counter ticks, to be scaled with the header's two (monotonic_ns, ticks) pairs. Strings are UTF-8 (lone
 * surrogates as three bytes), not terminated. Ids start at 1 and are unique in the file; 0 means none. */
#ifndef GILPROBE_FORMAT_H
#define GILPROBE_FORMAT_H

#include <stdint.h>

#define GP_MAGIC "gilprobe"
#define GP_FORMAT_VERSION 4u
#define GP_HEADER_BYTES 4096u
#define GP_EXTENT_MAGIC 0x58455047u /* "GPEX" */
#define GP_CHUNK_MAGIC 0x48435047u  /* "GPCH" */
#define GP_HISTOGRAM_BUCKETS 40     /* bucket i: [2^i, 2^(i+1)) ns; the last also holds everything longer */
#define GP_NAME_BYTES 96
#define GP_MAX_PYTHON_FRAMES 64
#define GP_MAX_NATIVE_FRAMES 12

enum ChunkKind {
    GP_CHUNK_RECORDS = 1,
    GP_CHUNK_EVENTS = 2,
    GP_CHUNK_SAMPLES = 3,
    GP_CHUNK_SPANS = 4,
    GP_CHUNK_GPU_WORK = 8,  /* GpuWork */
    GP_CHUNK_GPU_MARKS = 9, /* GpuMark */
    GP_CHUNK_HOLDS = 12     /* GilHoldRecord */
};

enum RecordType {
    GP_META = 1,
    GP_IMAGE = 2,
    GP_CODE = 3,
    GP_STACK = 4,
    GP_TYPE = 5,
    GP_THREAD = 6,
    GP_WAIT = 7,
    GP_SPAN = 8,
    GP_DEADLOCK = 16, /* the watchdog's: WatchRecord */
    GP_STALL = 17,
    GP_INVERSION = 18,
    GP_WATCH_STATE = 21, /* WatchRecord: what was watched, and what found no room */
    GP_LOCK_HOLD = 22,   /* LockHoldRecord */
    GP_FREEZE = 24,      /* 24 to 26: --prove */
    GP_STOP = 25,
    GP_PROGRESS = 26,
    GP_LONG_HOLD = 28,
    GP_CUDA_STATE = 32,
    GP_CUDA_CONTEXT = 33,
    GP_CUDA_USE = 34,
    GP_CUDA_RAW = 35
};

/* The libc call a thread blocked in. */
enum Op {
    GP_OP_SEM = 1,
    GP_OP_COND = 2,
    GP_OP_MUTEX = 3,
    GP_OP_RWLOCK = 4,
    GP_OP_FUTEX = 5,
    GP_OP_JOIN = 6,
    GP_OP_YIELD = 7,   /* a burst of sched_yield that ended without parking */
    GP_OP_SLEEP = 8,   /* nanosleep, clock_nanosleep, usleep */
    GP_OP_POLL = 9,    /* poll, select, epoll_wait and their variants */
    GP_OP_READ = 10,   /* read, recv, accept and their variants */
    GP_OP_WRITE = 11,  /* write, send, connect and their variants */
    GP_OP_SYNC = 12,   /* fsync, flock, lockf */
    GP_OP_CHILD = 13,  /* waitpid, waitid */
    GP_OP_SIGNAL = 14, /* sigwait, sigtimedwait, pause */
    GP_OP_OTHER = 15
};

/* What the address waited on is, as far as the address alone tells. */
enum Subject {
    GP_SUBJECT_UNKNOWN = 0, /* no address, or not CPython's */
    GP_SUBJECT_GIL = 1,
    GP_SUBJECT_SEMAPHORE = 2,    /* a bare semaphore: CPython's thread lock up to 3.12 and on GIL 3.13, or another's */
    GP_SUBJECT_OBJECT = 3,       /* ob_mutex of an object (type_id says which): a critical section */
    GP_SUBJECT_LOCK_OBJECT = 4,  /* the PyMutex inside a _thread.lock or _thread.RLock object */
    GP_SUBJECT_THREAD_STATE = 5, /* the waiter's own thread state: it waits for the world to start again */
    GP_SUBJECT_STOP_THE_WORLD = 6, /* the requester, waiting until all others have stopped */
    GP_SUBJECT_RUNTIME = 7,        /* another mutex or event inside _PyRuntime or the interpreter state */
    GP_SUBJECT_IMAGE = 8,          /* static data of a library */
    GP_SUBJECT_HEAP = 9            /* any other parking-lot address: an allocated PyMutex or PyEvent */
};

enum WaitFlags {
    GP_WAIT_TIMED_OUT = 1, /* every wait counted here ended by its timeout */
    GP_WAIT_TIMED = 2,     /* had a timeout */
    GP_WAIT_ADDRESSES = 4, /* more than one address was seen; `address` is the last */
    GP_WAIT_FORCED = 8,    /* GIL only: waited in drop_gil for another thread to take it (a forced switch) */
    GP_WAIT_OVERFLOW = 16  /* stands for keys that found no room: stacks and releaser are 0 */
};

enum HeaderFlags {
    GP_HEADER_FREE_THREADED = 1, /* a Py_GIL_DISABLED build (its GIL may still be on) */
    GP_HEADER_PYTHON_STACKS = 2, /* the interpreter's frame layout is known */
    GP_HEADER_EVENTS = 4,
    GP_HEADER_FORKED = 8,         /* began in fork(), not in exec() */
    GP_HEADER_TICKS_ARE_NS = 16,  /* no reliable time-stamp counter: _ticks fields hold nanoseconds */
    GP_HEADER_SAMPLED_PERF = 32,  /* sampler: perf task-clock */
    GP_HEADER_SAMPLED_TIMER = 64, /* sampler: timer on each thread's CPU clock */
    GP_HEADER_DEBUG_BUILD = 128
};

enum CounterFlags {
    GP_COUNTER_TRIED = 1,
    GP_COUNTER_UNKNOWN = 2 /* no event of this processor is known to us; the errno is that of its cycles */
};

enum EndKind {
    GP_END_NONE = 0 /* still running, or killed */,
    GP_END_EXIT = 1,
    GP_END_QUICK_EXIT = 2,
    GP_END_EXEC = 3,
    GP_END_STOP = 4 /* gilprobe.profile() ended; the process went on */
};

typedef struct {
    char magic[8];
    uint32_t format_version;
    uint32_t header_bytes;
    uint32_t pid;
    uint32_t parent_pid;
    uint32_t python_hex; /* PY_VERSION_HEX, 0 if unknown */
    uint32_t flags;      /* HeaderFlags */
    uint32_t end_kind;   /* EndKind */
    uint32_t rate_hz;    /* sampler's rate, 0 = off */
    uint64_t start_ns;
    uint64_t start_realtime_ns;
    uint64_t start_ticks;
    uint64_t end_ns; /* refreshed now and then while running, final when end_kind is set */
    uint64_t end_ticks;
    uint64_t lost_records;    /* no room: the disk was full, the file limit met, the folder gone */
    uint64_t lost_samples;    /* came while the recorder was busy in that thread */
    uint64_t lost_errno;      /* of the first failure to get room */
    uint64_t process_cpu_ns;  /* at the last refresh */
    uint64_t runtime_address; /* _PyRuntime */
    uint64_t runtime_bytes;
    uint64_t sampler_errno; /* why perf could not be had */
    uint64_t counter_type;  /* of the event counted for each thread, as perf_event_open has it */
    uint64_t counter_config;
    uint64_t counter_flags; /* CounterFlags, 0 = not tried */
    uint64_t counter_errno; /* why it could not be had */
    /* of the whole machine, at the start and at the end (0 = not read): what all programs used of its cores, and what
     * its hypervisor took from them (/proc/stat) */
    uint64_t start_busy_ns;
    uint64_t start_stolen_ns;
    uint64_t busy_ns;
    uint64_t stolen_ns;
} FileHeader;

typedef struct {
    uint32_t magic;
    uint32_t reserved;
    uint64_t bytes; /* of the extent, header included */
    uint64_t used;  /* header included; may exceed bytes */
    uint64_t reserved2;
} ExtentHeader;

typedef struct {
    uint32_t magic;
    uint16_t kind; /* ChunkKind */
    uint16_t reserved;
    uint32_t slot;
    uint32_t bytes;  /* of the chunk, header included */
    uint64_t length; /* payload bytes that are whole */
    uint64_t reserved2;
} ChunkHeader;

typedef struct {
    uint16_t type; /* RecordType */
    uint16_t flags;
    uint32_t bytes; /* of the record, header included; a multiple of 8 */
} RecordHeader;

/* key, then value: python_version, executable, argv (joined with NUL), cwd, ... The last record of a key counts. */
typedef struct {
    RecordHeader head;
    uint32_t key_bytes;
    uint32_t value_bytes;
} MetaRecord;

typedef struct {
    RecordHeader head;
    uint64_t bias; /* add to a file's virtual address */
    uint64_t start;
    uint64_t end;
    uint32_t path_bytes;
    uint32_t reserved;
} ImageRecord;

/* file name, then qualified name, then co_linetable as CPython has it (Objects/locations.md). */
typedef struct {
    RecordHeader head;
    uint32_t code_id;
    uint32_t first_line;
    uint32_t file_bytes;
    uint32_t qualname_bytes;
    uint32_t linetable_bytes;
    uint32_t reserved;
} CodeRecord;

typedef struct {
    uint32_t code_id;
    uint32_t offset; /* bytes into the bytecode */
} PythonFrame;

enum StackFlags { GP_STACK_TRUNCATED = 1 };

/* python_frames PythonFrames, then native_frames return addresses (uint64_t), both innermost first. */
typedef struct {
    RecordHeader head;
    uint32_t stack_id;
    uint16_t python_frames;
    uint16_t native_frames;
} StackRecord;

typedef struct {
    RecordHeader head;
    uint32_t type_id;
    uint32_t name_bytes;
    uint64_t address;
} TypeRecord;

typedef struct {
    RecordHeader head;
    uint32_t thread; /* id of this thread in the file, in order of first sight */
    uint32_t tid;
    uint32_t parent_thread;
    uint32_t name_bytes;
    uint64_t start_ns;
    uint64_t end_ns;       /* 0 = alive at the end of the recording */
    uint64_t read_ns;      /* when the kernel's figures below were last read; 0 = never */
    uint64_t start_cpu_ns; /* CPU the thread had used before start_ns */
    uint64_t cpu_ns;       /* total at read_ns, start_cpu_ns included */
    uint64_t start_run_delay_ns;
    uint64_t run_delay_ns;      /* schedstat: runnable but not running */
    uint64_t run_delay_read_ns; /* 0 = not measured (a thread too short to be worth it) */
    uint64_t minor_faults;
    uint64_t major_faults;
    uint64_t voluntary_switches;
    uint64_t involuntary_switches;
    uint64_t gil_held_ticks; /* finished holds */
    uint64_t gil_holds;
    uint64_t gil_since_ticks; /* start of the hold that goes on, 0 = not held */
    uint64_t quick_io_count;  /* hooked I/O calls too short to be given a WAIT record, or that did not block */
    uint64_t quick_io_ns;
    uint64_t io_cpu_ns; /* CPU used inside hooked I/O calls that have WAIT records, where measured */
    uint64_t samples;
    uint64_t lost;
    uint64_t counted; /* of the header's event, in counted_running_ns of counted_enabled_ns of the thread's CPU */
    uint64_t counted_enabled_ns;
    uint64_t counted_running_ns; /* 0 = nothing was counted */
    /* the wait that is open now; open_start_ns is stored last (release), 0 = none */
    uint64_t open_start_ns;
    uint64_t open_address;
    uint32_t open_stack_id;
    uint32_t open_type_id;
    uint8_t open_op;
    uint8_t open_subject;
    uint16_t open_flags; /* WaitFlags */
    uint32_t reserved2;
    char name[GP_NAME_BYTES];
} ThreadRecord;

/* Aggregated over all waits of one thread with one key: (op, subject, flags, stack, releaser's stack and thread, type,
 * span). */
typedef struct {
    RecordHeader head; /* flags: WaitFlags */
    uint32_t wait_id;
    uint32_t thread;
    uint8_t op;      /* Op */
    uint8_t subject; /* Subject */
    uint16_t reserved;
    uint32_t stack_id;
    uint32_t releaser_stack_id;
    uint32_t releaser_thread;
    uint32_t type_id;
    uint32_t span_id; /* the innermost span it was in */
    uint64_t address;
    uint64_t count;
    uint64_t total_ns; /* blocked and spinning, to the return of the call */
    uint64_t max_ns;
    uint64_t wake_ns; /* within total_ns: runnable: from the releaser's post to the return, and yielding to others */
    uint64_t spin_ns; /* within total_ns: yielding before it parked */
    uint64_t yields;
    uint64_t first_ns; /* start of the first wait */
    uint64_t last_ns;  /* end of the last */
    uint64_t cpu_ns;   /* within total_ns: CPU used in the calls, from looks (looks.c); not of I/O: io_cpu_ns has it */
    int64_t looked_ns; /* to be added to wake_ns: runnable beyond it, from looks; negative where it says too much */
    uint32_t lookable; /* waits that might have been looked at */
    uint32_t looked;   /* how many waits the looks stand for: about as many, by chance */
    uint32_t histogram[GP_HISTOGRAM_BUCKETS];
} WaitRecord;

enum SpanFlags { GP_SPAN_OVERFLOW = 1 /* stands for spans that found no room */ };

/* Aggregated over all spans of one thread with one name inside one other span; the name follows. What inner spans used
 * is included. */
typedef struct {
    RecordHeader head; /* flags: SpanFlags */
    uint32_t span_id;
    uint32_t thread;
    uint32_t parent_span_id; /* the span around it */
    uint32_t name_bytes;
    uint64_t count; /* ended ones */
    uint64_t total_ns;
    uint64_t max_ns;
    uint64_t cpu_ns;
    uint64_t run_delay_ns; /* schedstat, read at most every 2 ms: what short ones had may be counted in a neighbour */
    uint64_t faults;       /* page faults, as often read */
    uint64_t first_ns;     /* start of the first */
    uint64_t last_ns;      /* end of the last */
    /* the one that is open now; open_start_ns is stored last (release), 0 = none */
    uint64_t open_start_ns;
    uint64_t open_cpu_ns; /* the thread's total at its start */
    uint64_t open_run_delay_ns;
    uint32_t histogram[GP_HISTOGRAM_BUCKETS];
} SpanRecord;

/* One span, with --events. */
typedef struct {
    uint32_t span_id; /* the SPAN record it is counted in */
    uint32_t thread;
    uint64_t start_ns;
    uint64_t duration_ns;
    uint64_t cpu_ns;
} SpanEventRecord;
enum FreezeResult {
    GP_FREEZE_WAITING = 0,
    GP_FREEZE_DONE = 1,
    GP_FREEZE_GONE = 2, /* nothing of that type is there any more */
    GP_FREEZE_WAS_IMMORTAL = 3,
    GP_FREEZE_QUEUED = 4,  /* its counts wait to be merged by their owner: it was left alone */
    GP_FREEZE_DEFERRED = 5 /* threads no longer count what they load of it; the collector frees it */
};

/* What --prove did to one object; local, shared, owner: its counts and owning thread before. */
typedef struct {
    RecordHeader head;
    uint32_t type_id;
    uint32_t result; /* FreezeResult */
    uint64_t object;
    uint64_t owner;
    uint64_t shared;
    uint32_t local;
    uint32_t reserved;
} FreezeRecord;

/* The world was stopped between these two, to freeze objects (or none: a control run). */
typedef struct {
    RecordHeader head;
    uint64_t begin_ns;
    uint64_t end_ns;
} StopRecord;

/* How far the process has got, counted from its start. */
typedef struct {
    RecordHeader head;
    uint64_t time_ns;
    uint64_t cpu_ns;
    uint64_t allocations; /* times the allocator had to look for free blocks, at each thread's last sample */
    uint64_t io_calls;    /* hooked I/O calls too short for a WAIT record */
    uint64_t spans;       /* that ended */
} ProgressRecord;

#define GP_PROVE_MOST 32
#define GP_PROVE_NAME_BYTES 96

typedef struct {
    uint64_t object;
    uint32_t result; /* FreezeResult */
    uint32_t local;
    uint64_t shared;
    uint64_t thread;
    char type_name[GP_PROVE_NAME_BYTES]; /* as tp_name has it, cut */
} ProveObject;

/* FOLDER.control: not in the recording. The parent makes it, zeroed, fills in count and objects, then sets command. */
typedef struct {
    uint32_t pid;     /* of the process that takes orders; 0 = none yet */
    uint32_t command; /* 1: freeze these */
    uint32_t done;    /* 1: done, 2: the interpreter was ending, or there are subinterpreters */
    uint32_t count;
    ProveObject objects[GP_PROVE_MOST];
} ProveControl;

/* What the watchdog has to say: a JSON object follows, of the shape that the report's deadlocks[], stalls[] and
 * lock_order[] have. */
typedef struct {
    RecordHeader head;
    uint32_t text_bytes;
    uint32_t reserved;
    uint64_t time_ns;
} WatchRecord;

enum LockHoldFlags {
    GP_LOCK_HOLD_OVERFLOW = 1, /* stands for keys that found no room: stacks are 0 */
    GP_LOCK_HOLD_SEVERAL = 2,  /* more than one lock was held so; `address` is the last */
    GP_LOCK_HOLD_OPEN = 4      /* one hold that had not ended when the recording did; max_ns: so far */
};

/* Holds of Python's locks by one thread, as the watchdog saw them, with one key: (taking stack, releasing stack, kind
 * of lock). A thread that takes locks very often has only some of its holds timed: each stands for those between it and
 * the next. */
typedef struct {
    RecordHeader head; /* flags: LockHoldFlags */
    uint32_t thread;
    uint32_t stack_id; /* where it was taken */
    uint32_t released_stack_id;
    uint32_t kind;    /* 1: _thread.lock, 2: _thread.RLock */
    uint64_t address; /* of the lock object */
    uint64_t count;
    uint64_t timed; /* of them, by a clock at both ends */
    uint64_t total_ns;
    uint64_t max_ns;      /* of the timed ones */
    uint64_t at_least_ns; /* of the others, where one was longer than the watchdog's checks are apart; 0 = none */
    uint32_t histogram[GP_HISTOGRAM_BUCKETS];
} LockHoldRecord;

/* One wait, with --events. */
typedef struct {
    uint32_t wait_id; /* the WAIT record it is counted in */
    uint32_t thread;
    uint64_t start_ns;
    uint64_t duration_ns;
    uint64_t address;
    uint32_t wake_ns; /* clipped to 2^32 - 1 */
    uint32_t spin_ns;
} EventRecord;

/* One hold of the GIL, recorded where a sampler outside needs to know who held it when. Holds of one thread that are
 * less than some 20 us apart are one. */
typedef struct {
    uint32_t thread;
    uint32_t reserved;
    uint64_t start_ticks;
    uint64_t end_ticks;
} GilHoldRecord;

/* One of the GP_HOLDS_KEPT longest holds of the GIL of a thread, updated in place; end_ticks is stored last, 0 = being
 * written. */
typedef struct {
    RecordHeader head;
    uint32_t thread;
    uint32_t stack_id;         /* where it was given up */
    uint32_t waiters;          /* threads that waited for it then */
    uint32_t blocked_stack_id; /* of the longest sleep, I/O or wait within it; 0 = none that was worth a WAIT record */
    uint64_t blocked_ns;       /* of all those within it */
    uint64_t start_ticks;
    uint64_t end_ticks;
} LongHoldRecord;

enum SampleFlags {
    GP_SAMPLE_COLLECTING = 1, /* the thread was in a garbage collection */
    GP_SAMPLE_HELD = 2        /* it held the GIL */
};

/* One sample of a thread's registers, by CPU time. */
typedef struct {
    uint32_t thread;
    uint32_t stack_id;
    uint64_t time_ns;
    uint64_t pc;
    uint64_t object;        /* start of the object an atomic instruction at the pc touches, 0 = none found */
    uint64_t address;       /* its effective address, 0 = no atomic instruction there */
    uint32_t type_id;       /* of `object` */
    uint32_t span_id;       /* the innermost span it was in */
    uint32_t flags;         /* SampleFlags */
    uint32_t base_back;     /* bytes from the pc back to the end of the load that replaced `base` */
    uint64_t base;          /* what its base register was before a load overwrote it, 0 = no such load found */
    uint64_t registers[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8 ... r15 */
} SampleRecord;

/* ---- CUDA, with --cuda. Numbers of errors, kinds and API kinds are CUPTI's own. */

/* What failed, or how far it came. */
enum CudaStep {
    GP_CUDA_NOT_FOUND = 1, /* no libcupti could be opened */
    GP_CUDA_SYMBOLS = 2,   /* it lacks a function */
    GP_CUDA_VERSION = 3,
    GP_CUDA_SUBSCRIBE = 4,
    GP_CUDA_CLOCK = 5, /* its clock cannot be set to ours */
    GP_CUDA_BUFFERS = 6,
    GP_CUDA_ENABLE = 7, /* neither kernels nor copies */
    GP_CUDA_ON = 8
};

/* Follows what it traces, updated in place. The path of libcupti follows. */
typedef struct {
    RecordHeader head;
    uint32_t step;          /* CudaStep */
    int32_t error;          /* of that step */
    uint32_t version;       /* cuptiGetVersion: 28 is CUDA 12.9, 130100 is 13.1 */
    int32_t switches_error; /* of enabling the GPU's own context switches (kind 57); 0 = they are recorded */
    uint32_t path_bytes;
    uint32_t replay; /* 1: the library says that it replays a recording (it exports gilprobe_replay) */
    uint64_t start_ns;
    uint64_t dropped; /* records that CUPTI had no room for */
    uint64_t unread;  /* buffers that could not be read to their end */
    uint64_t lost;    /* records that came while our recorder was busy or full */
} CudaStateRecord;

enum CudaContextEvent { GP_CUDA_CREATED = 1, GP_CUDA_DESTROYED = 2, GP_CUDA_LISTED = 3 /* by CUPTI's CONTEXT kind */ };

typedef struct {
    RecordHeader head;
    uint32_t event; /* CudaContextEvent */
    uint32_t context;
    uint32_t device;
    uint32_t thread;   /* that created or destroyed it, 0 = not known */
    uint32_t api_kind; /* 1 CUDA, 2 CUDA under MPS, 0 = not known */
    uint32_t process_id;
    uint64_t time_ns;
} CudaContextRecord;

/* One thread's use of one context (0 = none), updated in place. */
typedef struct {
    RecordHeader head;
    uint32_t thread;
    uint32_t context;
    uint64_t set_current; /* calls that made it current */
    uint64_t pushed;
    uint64_t popped;   /* calls after which it was current again */
    uint64_t launches; /* kernels */
    uint64_t first_ns;
    uint64_t last_ns; /* of a change of context or of the last mark */
} CudaUseRecord;

/* One of CUPTI's own records as it came, its bytes following: for test fixtures, only where cuda_raw was asked for. */
typedef struct {
    RecordHeader head;
    uint32_t version; /* cuptiGetVersion */
    uint32_t raw_bytes;
} CudaRawRecord;

enum GpuWorkKind { GP_GPU_KERNEL = 1, GP_GPU_COPY = 2, GP_GPU_SET = 3 };

/* Times on the GPU, which CUPTI interpolates onto our clock. */
typedef struct {
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t bytes; /* of a copy or a set */
    uint32_t device;
    uint32_t context;
    uint32_t stream;
    uint32_t correlation;
    uint8_t kind;      /* GpuWorkKind */
    uint8_t copy_kind; /* CUPTI's: 1 host to device, 2 device to host, 8 device to device */
    uint16_t reserved;
    uint32_t reserved2;
} GpuWork;

enum GpuMarkKind {
    GP_GPU_SWITCH_START = 1, /* the GPU's own context switch (kind 57) */
    GP_GPU_SWITCH_END = 2,
    GP_HOST_LAUNCH = 3,      /* a kernel's launch begins: it cannot start earlier */
    GP_HOST_SYNCHRONIZED = 4 /* cuCtxSynchronize has returned: the thread's last launch cannot end later */
};

typedef struct {
    uint64_t time_ns;
    uint32_t context;
    uint32_t correlation;
    uint32_t thread; /* 0 for the GPU's own */
    uint32_t kind;   /* GpuMarkKind */
} GpuMark;

#endif
