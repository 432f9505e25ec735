/* A libcupti of our own. It gives back the records it is handed: those of fake_launch, or the bytes of a file recorded
 * on a GPU, and fails as it is told. It exports gilprobe_replay, so that no output takes its records for measured.
 *
 * FAKE_CUPTI_VERSION   what cuptiGetVersion says [130500]
 * FAKE_CUPTI_ERRORS    function=error,... with function one of version, subscribe, clock, buffers, kernels (kind 10),
 *                      copies (kind 1), switches (kind 57), records
 * FAKE_CUPTI_REPLAY    a file of records, each after its length (4 bytes), handed out at the first flush
 * FAKE_CUPTI_DROPPED   records said to be lost, a buffer
 * FAKE_CUPTI_DISORDER  1: the records of a buffer in reverse, so that a context's is the last
 * FAKE_CUPTI_API_KIND  of contexts: 1, or 2 as under MPS [1] */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 16384, ROOM = 256 };
typedef struct {
    uint32_t bytes;
    uint8_t data[ROOM];
} Record;

int gilprobe_replay = 1;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Record records[MOST];
static uint32_t count;
static int subscribed, replayed;
static uint64_t (*now)(void);
static void (*callback)(void *, int, uint32_t, const void *);
static void (*request)(uint8_t **, size_t *, size_t *);
static void (*complete)(void *, uint32_t, uint8_t *, size_t, size_t);
static uint8_t enabled[64];
static _Atomic uint32_t correlation;

static int error_of(const char *function) {
    const char *errors = getenv("FAKE_CUPTI_ERRORS");
    for (const char *at = errors; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, function, strlen(function)) && at[strlen(function)] == '=')
            return atoi(at + strlen(function) + 1);
    return 0;
}

static long number(const char *variable, long otherwise) {
    const char *value = getenv(variable);
    return value ? atol(value) : otherwise;
}

int cuptiGetVersion(uint32_t *version) {
    *version = (uint32_t)number("FAKE_CUPTI_VERSION", 130500);
    return error_of("version");
}

#ifndef WITHOUT_SUBSCRIBE
int cuptiSubscribe(void **subscriber, void (*wanted)(void *, int, uint32_t, const void *), void *user) {
    (void)user;
    int error = error_of("subscribe");
    if (error)
        return error;
    if (subscribed)
        return 39;
    subscribed = 1;
    callback = wanted;
    *subscriber = &subscribed;
    return 0;
}
#endif

int cuptiUnsubscribe(void *subscriber) {
    (void)subscriber;
    subscribed = 0;
    return 0;
}

int cuptiEnableCallback(uint32_t enable, void *subscriber, int domain, uint32_t id) {
    (void)enable, (void)subscriber, (void)domain, (void)id;
    return 0;
}

int cuptiActivityRegisterTimestampCallback(uint64_t (*clock)(void)) {
    now = clock;
    return error_of("clock");
}

int cuptiActivityRegisterCallbacks(void (*requested)(uint8_t **, size_t *, size_t *),
                                   void (*completed)(void *, uint32_t, uint8_t *, size_t, size_t)) {
    request = requested;
    complete = completed;
    return error_of("buffers");
}

int cuptiActivityEnable(int kind) {
    int error = error_of(kind == 10 ? "kernels" : kind == 1 ? "copies" : kind == 57 ? "switches" : "others");
    if (!error && kind < 64)
        enabled[kind] = 1;
    return error;
}

int cuptiGetContextId(void *context, uint32_t *id) {
    *id = *(uint32_t *)context;
    return 0;
}

int cuptiGetDeviceId(void *context, uint32_t *id) {
    (void)context;
    *id = 0;
    return 0;
}

int cuptiActivityFlushPeriod(uint32_t ms) {
    (void)ms;
    return 0;
}

int cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *dropped) {
    (void)context, (void)stream;
    *dropped = (size_t)number("FAKE_CUPTI_DROPPED", 0);
    return 0;
}

/* In a buffer each record follows its length, on 8 bytes. */
int cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, void **record) {
    int error = error_of("records");
    if (error)
        return error;
    uint8_t *at = buffer;
    if (*record) {
        at = (uint8_t *)*record - 8;
        at += 8 + ((*(uint32_t *)at + 7) & ~7u);
    }
    if (at + 8 > buffer + valid)
        return 12;
    *record = at + 8;
    return 0;
}

static void add(const void *data, uint32_t bytes) {
    pthread_mutex_lock(&mutex);
    if (count < MOST && bytes <= ROOM) {
        records[count].bytes = bytes;
        memcpy(records[count++].data, data, bytes);
    }
    pthread_mutex_unlock(&mutex);
}

static void read_replay(void) {
    const char *path = getenv("FAKE_CUPTI_REPLAY");
    FILE *file = path && !replayed ? fopen(path, "rb") : NULL;
    replayed = 1;
    uint32_t bytes;
    uint8_t data[ROOM];
    while (file && fread(&bytes, 4, 1, file) == 1 && bytes <= ROOM && fread(data, bytes, 1, file) == 1)
        if (enabled[data[0] & 63])
            add(data, bytes);
    if (file)
        fclose(file);
}

int cuptiActivityFlushAll(uint32_t flag) {
    (void)flag;
    if (!complete)
        return 0;
    read_replay();
    pthread_mutex_lock(&mutex);
    for (uint32_t i = 0; i < count || !i;) {
        uint8_t *buffer = NULL;
        size_t room = 0, most = 0, used = 0;
        request(&buffer, &room, &most);
        for (; i < count; i++) {
            const Record *record = &records[number("FAKE_CUPTI_DISORDER", 0) ? count - 1 - i : i];
            size_t whole = 8 + ((record->bytes + 7) & ~7u);
            if (used + whole > room)
                break;
            *(uint32_t *)(buffer + used) = record->bytes;
            memcpy(buffer + used + 8, record->data, record->bytes);
            used += whole;
        }
        complete(NULL, 0, buffer, room, used);
        if (!count)
            break;
    }
    count = 0;
    pthread_mutex_unlock(&mutex);
    return 0;
}

/* ---- told by the fake driver */

typedef struct {
    int site;
    const char *function_name;
    const void *parameters;
    void *return_value;
    const char *symbol_name;
    void *context;
    uint32_t context_id;
    uint64_t *correlation_data;
    uint32_t correlation;
} CallbackData;

static void put(uint8_t *record, uint32_t at, uint64_t value, uint32_t bytes) { memcpy(record + at, &value, bytes); }

static __thread const void *arguments;
static __thread uint32_t answered, runtime_id;

/* Of the next calls of this thread: where their arguments are, and what they return. */
void fake_arguments(const void *at, int error) {
    arguments = at;
    answered = (uint32_t)error;
}

void fake_runtime(uint32_t site) {
    if (!callback)
        return;
    if (site == 0)
        runtime_id = __atomic_add_fetch(&correlation, 1, __ATOMIC_RELAXED);
    CallbackData data = {.site = (int)site, .correlation = runtime_id};
    callback(NULL, 2, 211, &data);
    if (site == 1)
        runtime_id = 0;
}

void fake_call(uint32_t function, uint32_t site, uint32_t context, uint64_t start_ns, uint64_t duration_ns) {
    static __thread uint32_t id;
    if (!callback)
        return;
    if (site == 0)
        id = __atomic_add_fetch(&correlation, 1, __ATOMIC_RELAXED);
    CallbackData data = {.site = (int)site,
                         .parameters = arguments,
                         .return_value = &answered,
                         .context_id = context,
                         .correlation = id};
    callback(NULL, 1, function, &data);
    if (function == 307 && site == 0 && enabled[10]) {
        uint8_t record[248] = {10};
        put(record, 16, start_ns, 8);
        put(record, 24, start_ns + duration_ns, 8);
        put(record, 44, context, 4);
        put(record, 48, 7, 4);
        put(record, 92, runtime_id ? runtime_id : id, 4);
        add(record, sizeof record);
    }
}

void fake_context(uint32_t event, void *context) {
    struct {
        void *context;
        void *more[2];
    } data = {context, {NULL, NULL}};
    if (callback)
        callback(NULL, 3, event, &data);
    if (event != 1 || !enabled[9])
        return;
    long version = number("FAKE_CUPTI_VERSION", 130500);
    uint8_t record[40] = {9};
    put(record, 4, *(uint32_t *)context, 4);
    put(record, 12, (uint64_t)number("FAKE_CUPTI_API_KIND", 1), 2);
    put(record, 32, (uint64_t)getpid(), 8);
    add(record, version >= 130100 ? 40 : version == 18 ? 16 : 32); /* as 13.1, 12.0 and those between have it */
}

/* One of the GPU's own switches: operation 1 start, 2 end. */
void fake_switch(uint32_t context, uint64_t time_ns, uint32_t operation) {
    uint8_t record[24] = {57};
    put(record, 4, context, 4);
    put(record, 8, time_ns, 8);
    put(record, 16, operation, 4);
    if (enabled[57])
        add(record, sizeof record);
}
