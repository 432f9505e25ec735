#include "core.h"
void gp_sampler_setup(void){} void gp_sampler_start(Slot*s){(void)s;} void gp_sampler_stop(Slot*s){(void)s;} void gp_sampler_forked(void){}
