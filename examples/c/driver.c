// A camera driver in the manner of GenICam: its engine fills buffers that it is given, some of which always wait in a
// queue. Here the buffers are frames of a ring, so nothing is copied on the way to the readers.
//
//     driver REFERENCE FRAMES     writes so many frames to the ring that `str(nds.ref(ring))` names
//
// Frames are uint16, of the ring's shape; frame n is full of n. Where the ring has meta, it gets the exposure, a double.

#include "check.h"

#define BUFFERS 3

typedef struct {
    nds_writing *frame;
    nds_array_info memory;
} buffer;

static buffer announce(nds_writer *writer)
{
    buffer it;
    check(nds_writer_begin(writer, -1, &it.frame));
    check(nds_writing_get_info(it.frame, &it.memory));
    return it;
}

// Stands for the camera, whose DMA writes to memory that it was given.
static void expose(const buffer *it, uint64_t number)
{
    uint16_t *pixels = (uint16_t *)it->memory.data;
    for (size_t i = 0; i < it->memory.size; i++)
        pixels[i] = (uint16_t)number;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "expected: REFERENCE FRAMES\n");
        return EXIT_FAILURE;
    }
    nds_ring *ring;
    nds_ring_format format;
    nds_writer *writer;
    check(nds_ring_open(argv[1], -1, &ring));
    check(nds_ring_get_format(ring, &format));
    check(nds_writer_make(ring, -1, &writer));

    const uint64_t frames = strtoull(argv[2], NULL, 10);
    buffer queue[BUFFERS];
    for (size_t i = 0; i < BUFFERS; i++)
        queue[i] = announce(writer);
    for (uint64_t number = 0; number < frames; number++) {
        buffer *next = &queue[number % BUFFERS];
        const double exposure = 0.5 * (double)number;
        expose(next, number);
        check(nds_writing_publish(next->frame, &exposure, format.meta ? sizeof exposure : 0, -1, NULL));
        *next = announce(writer);
    }
    for (size_t i = 0; i < BUFFERS; i++)
        check(nds_writing_discard(queue[i].frame));
    check(nds_writer_close(writer, -1));
    check(nds_ring_free(ring));
    return EXIT_SUCCESS;
}
