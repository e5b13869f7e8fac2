/* Event files are TFRecords (length, its checksum, bytes, their checksum) of protobuf messages:
 * tensorflow/core/lib/io/record_writer.h, event.proto "brain.Event:2". */
#include "base/compat.h"

#include "exchange/tfevents.h"

#include "event.pb-c.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"

#define MAX_SCALARS 32

/* Castagnoli's polynomial, reflected; zlib has only the other one. Rows are few: bit by bit. */
static uint32_t crc32c(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1u ? 0x82f63b78u : 0u);
    }
    return ~crc;
}

uint32_t fk_masked_crc32c(const void *bytes, size_t n)
{
    uint32_t crc = crc32c(bytes, n);

    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* One record, newly allocated. */
static ferkd_status pack(const Ferkd__Tensorboard__Event *event, uint8_t **out, size_t *size)
{
    size_t n = ferkd__tensorboard__event__get_packed_size(event);
    uint8_t *p = NULL;

    TRY(fk_calloc(&p, 1, n + 16, "an event"));
    fk_put_u32(p, (uint32_t)n);
    fk_put_u32(p + 8, fk_masked_crc32c(p, 8));
    (void)ferkd__tensorboard__event__pack(event, p + 12);
    fk_put_u32(p + 12 + n, fk_masked_crc32c(p + 12, n));
    *out = p;
    *size = n + 16;
    return FERKD_OK;
}

ferkd_status fk_tfevents_begin(const char *path, double wall_time)
{
    Ferkd__Tensorboard__Event event;
    char version[] = "brain.Event:2";
    uint8_t *bytes = NULL;
    size_t n = 0;

    ferkd__tensorboard__event__init(&event);
    event.wall_time = wall_time;
    event.what_case = FERKD__TENSORBOARD__EVENT__WHAT_FILE_VERSION;
    event.file_version = version;
    TRY(pack(&event, &bytes, &n));
    ferkd_status st = fk_file_replace(path, bytes, n);
    free(bytes);
    return st;
}

ferkd_status fk_tfevents_add(const char *path, double wall_time, int64_t step,
                             const fk_scalar *scalars, size_t n)
{
    Ferkd__Tensorboard__Event event;
    Ferkd__Tensorboard__Summary summary;
    Ferkd__Tensorboard__Summary__Value values[MAX_SCALARS];
    Ferkd__Tensorboard__Summary__Value *list[MAX_SCALARS];
    uint8_t *bytes = NULL;
    size_t size = 0;

    assert(n <= MAX_SCALARS);
    ferkd__tensorboard__event__init(&event);
    ferkd__tensorboard__summary__init(&summary);
    for (size_t i = 0; i < n; i++) {
        ferkd__tensorboard__summary__value__init(&values[i]);
        values[i].tag = (char *)(uintptr_t)scalars[i].tag;
        values[i].value_case = FERKD__TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = (float)scalars[i].value;
        list[i] = &values[i];
    }
    summary.n_value = n;
    summary.value = list;
    event.wall_time = wall_time;
    event.step = step;
    event.what_case = FERKD__TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    TRY(pack(&event, &bytes, &size));
    ferkd_status st = fk_file_append(path, bytes, size);
    free(bytes);
    return st;
}
