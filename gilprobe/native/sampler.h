/* The sampler's parts: the signal and perf (sampler.c), timers (timers.c). */
#ifndef GILPROBE_SAMPLER_H
#define GILPROBE_SAMPLER_H

#include "core.h"

#pragma GCC visibility push(hidden)

#define GP_SAMPLER_SIGNAL (SIGRTMAX - 2)

/* Slot.sampler: one of these in the lowest byte; a timer's id above it. */
enum { GP_SAMPLER_NONE, GP_SAMPLER_PERF, GP_SAMPLER_TIMER, GP_SAMPLER_WAITS, GP_SAMPLER_STARTS };
static inline uint64_t gp_timer_word(int id) { return (uint64_t)id << 8 | GP_SAMPLER_TIMER; }

bool gp_timer_adopt(Slot *slot);
void gp_timer_start(Slot *slot);
bool gp_timer_later(Slot *slot);
void gp_timers_greet(void);
void gp_timers_ungreet(void);
void gp_timers_forked(void);
void gp_census_setup(void);
void gp_census_end(void);
void gp_census(void);
bool gp_is_census(const siginfo_t *info);

#pragma GCC visibility pop
#endif
