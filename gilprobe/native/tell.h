/* The two texts of one report, and their way out. */
#ifndef GILPROBE_TELL_H
#define GILPROBE_TELL_H

#include "watch.h"

#pragma GCC visibility push(hidden)

typedef struct {
    char *data;
    uint32_t used, room;
} Out;

extern Out gp_text_out, gp_json_out;

__attribute__((format(printf, 2, 3))) void gp_put(Out *out, const char *format, ...);
void gp_put_string(const char *value);    /* in JSON */
void gp_put_printable(const char *value); /* in words */
const char *gp_file_name(const char *path);
/* Into both. */
void gp_put_frames(const Place *places, int count, const char *indent);
void gp_put_place(const Place *place, const char *indent);

void gp_story_begin(void);
void gp_story_end(enum RecordType type);

#pragma GCC visibility pop
#endif
