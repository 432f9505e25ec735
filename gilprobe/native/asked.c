/* What a lock's arguments say. */
#include "asked.h"

#include <string.h>

#include "python.h"

static int truth(void *object) {
    return object == gp_true ? 1 : object == gp_false ? 0 : gp_py.is_true ? gp_py.is_true(object) : 1;
}

bool gp_name_is(const char *text, const char *name) {
    char out[16];
    uint32_t bytes = gp_text(text, out, sizeof out);
    return bytes == strlen(name) && !memcmp(out, name, bytes);
}

uint8_t gp_asked_how(void *blocking, void *timeout) {
    if (blocking && !truth(blocking))
        return GP_ASK_TRY;
    if (!timeout)
        return 0;
    double seconds = gp_py.as_double ? gp_py.as_double(timeout) : 0;
    if (seconds == -1.0 && gp_py.err_occurred && gp_py.err_occurred())
        gp_py.err_clear();
    return seconds < 0 ? 0 : GP_ASK_TIMED;
}
