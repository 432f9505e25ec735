/* Code objects as file, function and line, read from any thread: the watchdog tells of others' frames. */
#define _GNU_SOURCE
#include "watch.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>

#include "python.h"

#define MOST_LINETABLE 60000u

static bool is_code(uint64_t code) {
    static uint64_t code_type;
    uint64_t type;
    if (!code_type)
        code_type = (uint64_t)dlsym(RTLD_DEFAULT, "PyCode_Type");
    return code >= 65536 && !(code & 7) && gp_read_safely(&type, code + gp_python.object_type, 8) && type == code_type;
}

static uint32_t text_of(uint64_t code, uint16_t offset, char *out, uint32_t room) {
    uint64_t text, type;
    if (!gp_read_safely(&text, code + offset, 8) || text < 65536 ||
        !gp_read_safely(&type, text + gp_python.object_type, 8))
        return 0;
    uint32_t bytes = gp_text((const char *)text, out, room - 1);
    out[bytes] = 0;
    return bytes;
}

/* Is it this function, in a file whose path ends so? */
bool gp_code_is(uint64_t code, const char *function, const char *file_end) {
    char name[64], file[512];
    if (!is_code(code) || !text_of(code, gp_python.code_qualname, name, sizeof name) || strcmp(name, function))
        return false;
    uint32_t bytes = text_of(code, gp_python.code_file, file, sizeof file), end = (uint32_t)strlen(file_end);
    return bytes >= end && !memcmp(file + bytes - end, file_end, end);
}

/* ---- co_linetable (CPython Objects/locations.md), the C twin of recording/linetable.py */

typedef struct {
    const uint8_t *at, *end;
} Bytes;

static uint32_t next_byte(Bytes *bytes) { return bytes->at < bytes->end ? *bytes->at++ : 0; }

static uint32_t unsigned_number(Bytes *bytes) {
    uint32_t byte = next_byte(bytes), value = byte & 63, shift = 0;
    while (byte & 64 && shift < 24) {
        byte = next_byte(bytes);
        shift += 6;
        value |= (byte & 63) << shift;
    }
    return value;
}

static int32_t signed_number(Bytes *bytes) {
    uint32_t value = unsigned_number(bytes);
    return value & 1 ? -(int32_t)(value >> 1) : (int32_t)(value >> 1);
}

static void position_at(Bytes table, int32_t first_line, uint32_t offset, FrameText *out) {
    uint32_t address = 0;
    int32_t line = first_line;
    out->line = out->end_line = first_line;
    out->column = out->end_column = -1;
    while (table.at < table.end) {
        uint32_t first = next_byte(&table), code = first >> 3 & 15;
        int32_t start = first_line, end = first_line, column = -1, end_column = -1;
        if (code == 14) {
            line += signed_number(&table);
            start = line;
            end = line + (int32_t)unsigned_number(&table);
            column = (int32_t)unsigned_number(&table) - 1;
            end_column = (int32_t)unsigned_number(&table) - 1;
        } else if (code == 13) {
            line += signed_number(&table);
            start = end = line;
        } else if (code >= 10 && code <= 12) {
            line += (int32_t)code - 10;
            start = end = line;
            column = (int32_t)next_byte(&table);
            end_column = (int32_t)next_byte(&table);
        } else if (code < 10) {
            uint32_t low = next_byte(&table);
            start = end = line;
            column = (int32_t)(code << 3 | low >> 4);
            end_column = column + (int32_t)(low & 15);
        }
        address += 2 * ((first & 7) + 1);
        if (offset < address) {
            out->line = start;
            out->end_line = end;
            out->column = column;
            out->end_column = end_column;
            return;
        }
    }
}

/* Bytes into the bytecode: the code object's own, or on free-threaded 3.14 and later one of its threads' copies. */
uint32_t gp_code_offset(uint64_t code, uint64_t instruction) {
    uint64_t best = instruction - (code + gp_python.code_bytes);
    if (gp_python.code_tlbc) {
        uint64_t array;
        int64_t size = 0;
        if (gp_read_safely(&array, code + gp_python.code_tlbc, 8) && array && gp_read_safely(&size, array, 8))
            for (int64_t i = 1; i < size && i < 4096; i++) {
                uint64_t own;
                if (gp_read_safely(&own, array + 8 + 8 * (uint64_t)i, 8) && own && instruction - own < best)
                    best = instruction - own;
            }
    }
    return best > UINT32_MAX ? 0 : (uint32_t)best;
}

bool gp_frame_text(uint64_t code, uint64_t instruction, FrameText *out) {
    static uint8_t table[MOST_LINETABLE];
    memset(out, 0, sizeof *out);
    if (!is_code(code))
        return false;
    text_of(code, gp_python.code_file, out->file, sizeof out->file);
    text_of(code, gp_python.code_qualname, out->function, sizeof out->function);
    uint64_t linetable, bytes = 0;
    int32_t first_line = 0;
    gp_read_safely(&first_line, code + gp_python.code_first_line, 4);
    out->line = out->end_line = first_line;
    out->column = out->end_column = -1;
    if (gp_read_safely(&linetable, code + gp_python.code_linetable, 8) &&
        gp_read_safely(&bytes, linetable + gp_python.bytes_size, 8) && bytes && bytes < sizeof table &&
        gp_read_safely(table, linetable + gp_python.bytes_value, (uint32_t)bytes))
        position_at((Bytes){table, table + bytes}, first_line, gp_code_offset(code, instruction), out);
    return true;
}

/* See locks.c. */
static bool is_shim(uint64_t code) {
    return GP_AT(uint64_t, code, gp_python.code_file) == GP_AT(uint64_t, code, gp_python.code_qualname);
}

int gp_frames_of(uint64_t state, Place *places, int most, uint64_t *outermost) {
    uint64_t frame = 0, cframe;
    int count = 0;
    *outermost = 0;
    if (!state)
        return 0;
    if (gp_python.state_cframe) {
        if (!gp_read_safely(&cframe, state + gp_python.state_cframe, 8) ||
            !gp_read_safely(&frame, cframe + gp_python.cframe_frame, 8))
            return 0;
    } else if (!gp_read_safely(&frame, state + gp_python.state_frame, 8)) {
        return 0;
    }
    for (int seen = 0; frame >= 65536 && !(frame & 7) && seen < 4 * GP_MAX_PYTHON_FRAMES; seen++) {
        char bytes[96];
        if (!gp_read_safely(bytes, frame, sizeof bytes))
            break;
        uint64_t own = frame;
        frame = GP_AT(uint64_t, bytes, gp_python.frame_previous);
        if (GP_AT(uint8_t, bytes, gp_python.frame_owner) >= gp_python.first_hidden_owner)
            continue;
        uint64_t code = GP_AT(uint64_t, bytes, gp_python.frame_code) & ~7ull;
        if (!is_code(code))
            break;
        if (is_shim(code))
            continue;
        *outermost = own;
        if (count < most) {
            places[count].code[0] = code;
            places[count].code[1] = own; /* the frame itself, for its locals */
            places[count++].instruction[0] = GP_AT(uint64_t, bytes, gp_python.frame_instruction);
        }
    }
    return count;
}

/* One line of a source file, without its indentation. */
bool gp_source_line(const char *file, int32_t line, char *out, uint32_t room) {
    static char block[65536];
    if (line < 1 || file[0] == '<')
        return false;
    long fd = gp_syscall6(SYS_openat, AT_FDCWD, (long)file, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
    if (fd < 0)
        return false;
    uint32_t written = 0;
    int32_t at_line = 1;
    bool done = false;
    for (long got; !done && (got = gp_syscall3(SYS_read, fd, block, sizeof block)) > 0;)
        for (long i = 0; i < got && !done; i++) {
            char c = block[i];
            if (c == '\n') {
                done = at_line++ == line;
            } else if (at_line == line && written + 1 < room && (written || (c != ' ' && c != '\t'))) {
                out[written++] = c;
            }
        }
    gp_syscall3(SYS_close, fd, 0, 0);
    while (written && (unsigned char)out[written - 1] <= ' ')
        written--;
    out[written] = 0;
    return written > 0;
}
