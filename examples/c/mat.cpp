// OpenCV on the frames of a ring, without a copy: each is a cv::Mat over the shared memory.
//
//     mat REFERENCE     prints number, rows, columns and mean of each frame of uint16 until the stream ends

#include "check.h"

#include <opencv2/core.hpp>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "expected: REFERENCE\n");
        return EXIT_FAILURE;
    }
    nds_ring *ring;
    nds_reader *reader;
    check(nds_ring_open(argv[1], -1, &ring));
    check(nds_reader_make(ring, false, nullptr, nullptr, -1, &reader));
    nds_code code;
    nds_frame *frame;
    while ((code = nds_reader_get(reader, -1, &frame)) == NDS_OK) {
        nds_frame_info info;
        check(nds_frame_get_info(frame, &info));
        // Read only, and only until the frame is released.
        const nds_array_info &it = info.array;
        const cv::Mat image(static_cast<int>(it.shape[0]), static_cast<int>(it.shape[1]), CV_16UC1, it.data,
                            static_cast<size_t>(it.strides[0]));
        printf("%d: %d %d %g\n", static_cast<int>(info.seq), image.rows, image.cols, cv::mean(image)[0]);
        check(nds_frame_release(frame));
    }
    if (code != NDS_CLOSED)
        check(code);
    check(nds_reader_close(reader));
    check(nds_ring_free(ring));
    return EXIT_SUCCESS;
}
