// Reads a ring to its end, and prints number, shape and sum of each frame of uint16.
//
//     reader REFERENCE     the text that `str(nds.ref(ring))` gives
//
// It ends with 0 when the stream ends, and with 3 when its last writer died.

#include "check.h"

static void show(const nds_frame_info *it)
{
    if (it->array.itemsize != sizeof(uint16_t) || !it->array.contiguous) {
        printf("%llu: %s\n", (unsigned long long)it->seq, it->array.dtype);
        return;
    }
    const uint16_t *items = (const uint16_t *)it->array.data;
    unsigned long long sum = 0;
    for (size_t i = 0; i < it->array.size; i++)
        sum += items[i];
    printf("%llu:", (unsigned long long)it->seq);
    for (size_t axis = 0; axis < it->array.ndim; axis++)
        printf(" %zu", it->array.shape[axis]);
    printf(" %s %llu\n", it->array.dtype, sum);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "expected: REFERENCE\n");
        return EXIT_FAILURE;
    }
    nds_ring *ring;
    nds_reader *reader;
    check(nds_ring_open(argv[1], -1, &ring));
    check(nds_reader_make(ring, false, NULL, NULL, -1, &reader));
    nds_code code;
    for (;;) {
        nds_frame *frame;
        nds_frame_info info;
        code = nds_reader_get(reader, -1, &frame);
        if (code != NDS_OK)
            break;
        check(nds_frame_get_info(frame, &info));
        show(&info);
        check(nds_frame_release(frame));
    }
    if (code != NDS_CLOSED)
        fprintf(stderr, "%s\n", nds_error());
    check(nds_reader_close(reader));
    check(nds_ring_free(ring));
    return code == NDS_CLOSED ? EXIT_SUCCESS : code == NDS_WRITER_DIED ? 3 : EXIT_FAILURE;
}
