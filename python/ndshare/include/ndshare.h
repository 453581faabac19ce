// ndshare: arrays and rings that processes share, in C and C++. docs/c.md has a program to begin with.
//
// - A function gives NDS_OK or what went wrong; nds_error() has the sentence. On an error no result is written.
// - Handles (nds_array * and the like) are to be freed once. One that is NULL, was freed or is of another type is an
//   error; only free, release and discard take NULL for nothing.
// - Any other pointer is NULL, which is an error unless it is said to be none, or leads to what its type says while the
//   call lasts; a text ends with a zero byte and is UTF-8.
// - Timeouts are in seconds; below 0 there is none.
// - Threads may share handles. What a function tells by pointers stays as long as the handle that it was asked of.

#ifndef NDSHARE_H
#define NDSHARE_H

/* Made from crates/ndshare-c by `make header`: change it there. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The kind of a note that is none.
#define NDS_NO_NOTE 0

// The kind of a text, in UTF-8.
#define NDS_NOTE_TEXT 1

// The kind of a value as JSON, in UTF-8. Nobody has looked whether it is one.
#define NDS_NOTE_JSON 2

// The kind of bytes.
#define NDS_NOTE_BYTES 3

// What stands for the number of a frame that was dropped, because the ring is full and drops the newest.
#define NDS_DROPPED UINT64_MAX

// What a function says of how it went. The numbers stay what they are; later versions may add some.
typedef enum {
    // It is done.
    NDS_OK = 0,
    // The arena, or a limit under it, has no room.
    NDS_ARENA_FULL = 1,
    // What a reference names is gone.
    NDS_STALE = 2,
    // This process cannot take part in the arena.
    NDS_ATTACH = 3,
    // Nobody that this process may look into has the arena.
    NDS_UNREACHABLE = 4,
    // The arena is another user's.
    NDS_FOREIGN = 5,
    // A wait reached its timeout.
    NDS_TIMEOUT = 6,
    // A wait was ended early.
    NDS_INTERRUPTED = 7,
    // The holder of a lock died in it, and nobody has put things in order since.
    NDS_OWNER_DIED = 8,
    // No frame came before the timeout.
    NDS_EMPTY = 9,
    // No frame could be written before the timeout.
    NDS_FULL = 10,
    // The ring was closed, and all frames were read.
    NDS_CLOSED = 11,
    // The last writer of a ring died without closing it.
    NDS_WRITER_DIED = 12,
    // Another process failed to load a value.
    NDS_LOAD_FAILED = 13,
    // The call cannot work in this state: a handle that was freed, a lock that this thread has already.
    NDS_MISUSE = 14,
    // Something wrote over the arena's tables; it is not used any more.
    NDS_POISONED = 15,
    // An argument has a value that cannot work, such as NULL.
    NDS_INVALID_VALUE = 16,
    // An argument is of a type that cannot work.
    NDS_INVALID_TYPE = 17,
    // The operating system refused.
    NDS_OS = 18,
    // This process has the object to read only.
    NDS_READ_ONLY = 19,
    // Another user offers the object, and does not let this one read it.
    NDS_REFUSED = 20,
    // Something that this version has no number for.
    NDS_OTHER = 99,
} nds_code;

// An array in shared memory. Its bytes stay as long as anybody has it.
typedef struct nds_array nds_array;

// A frame that was got. Its bytes do not change until it is released.
typedef struct nds_frame nds_frame;

// The locks of some arrays, held.
typedef struct nds_lock nds_lock;

// A reader of a ring: one place in the stream.
typedef struct nds_reader nds_reader;

// A ring: frames from any number of writers to any number of readers, in one order.
typedef struct nds_ring nds_ring;

// A writer of a ring. The stream does not end before it was closed; if its process dies, readers are told.
typedef struct nds_writer nds_writer;

// A frame that is being filled. A process may fill several at once.
typedef struct nds_writing nds_writing;

// Where the items of an array are, and what. It stays as long as what it was asked of.
typedef struct {
    // The address of the first item in this process.
    void *data;
    // What an item is, as NumPy writes it: "<u2" for `uint16_t`, "<f4" for `float`, "|u1" for `uint8_t`.
    const char *dtype;
    // Bytes of one item.
    size_t itemsize;
    // How many items there are.
    size_t size;
    // How many axes.
    size_t ndim;
    // Items along each axis.
    const size_t *shape;
    // Bytes from item to item along each axis.
    const ptrdiff_t *strides;
    // Whether the items follow each other without gaps, the last axis first.
    bool contiguous;
    // Whether they may only be read.
    bool readonly;
} nds_array_info;

// What a ring is. Begin with zeros (`nds_ring_format format = {0};`) and set what you want.
typedef struct {
    // What the items of each frame are, such as "uint16"; NULL: frames have any shape, and each says what it is.
    const char *dtype;
    // How many axes each frame has.
    size_t ndim;
    // Items along each axis.
    const size_t *shape;
    // The dtype of what goes with each frame, as NumPy writes a structure: "[('exposure', '<f8')]". NULL: nothing does.
    const char *meta;
    // The ring's name, for people; or NULL.
    const char *name;
    // What a writer does while the slowest reader keeps all slots: "wait" for it (also NULL), "drop_oldest" or
    // "drop_newest".
    const char *when_full;
    // How many frames wait for readers at the most.
    size_t slots;
    // How many of the last frames stay whatever readers do, for one that comes late.
    size_t keep;
} nds_ring_format;

// Text, JSON or bytes of any length beside a frame.
typedef struct {
    // NDS_NOTE_TEXT, NDS_NOTE_JSON, NDS_NOTE_BYTES; or NDS_NO_NOTE, where there is none.
    uint32_t kind;
    // Its bytes; NULL where there is none. Behind those of a frame stands a zero byte, which does not count.
    const void *data;
    // How many they are.
    size_t len;
} nds_note;

// What a frame is. It stays until the frame is released.
typedef struct {
    // Its items, which may only be read.
    nds_array_info array;
    // Its number in the stream, from 0 on.
    uint64_t seq;
    // When it was made, in nanoseconds: what its writer says; else when it was published.
    uint64_t time_ns;
    // When it was published, in nanoseconds of the monotonic clock (CLOCK_MONOTONIC), whatever its writer says.
    uint64_t published_ns;
    // What goes with it, as the ring's format says; NULL if nothing does.
    const void *meta;
    // Bytes of that.
    size_t meta_bytes;
} nds_frame_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The sentence of the last error of this thread; "" if there was none. It stays until this thread has its next error.
const char *nds_error(void);

// The version of the library: "0.1.0".
const char *nds_version(void);

// Joins the session that the environment of this process names (`NDSHARE_SESSION`), or starts one. Other functions do
// so at their first need; a program that opens references joins the session that they are from.
nds_code nds_session_start(void);

// Joins the session of a text that `nds_session_locators`, or `NDSHARE_SESSION` of another process, has. Before the
// first use of anything else.
nds_code nds_session_join(const char *locators);

// The text that takes other processes into this session: the value of `NDSHARE_SESSION` for those that this program
// starts. NULL for an error. It stays until this thread asks for its next text.
const char *nds_session_locators(void);

// A new array of zeros, contiguous and aligned to 64 bytes, in the session. `dtype` is NumPy's text of what an item is,
// such as "uint16" or "<f4"; `shape` has `ndim` lengths.
nds_code nds_array_make(const char *dtype, size_t ndim, const size_t *shape, nds_array **array);

// Opens the array of a reference: the text that `nds_array_reference`, or `str(nds.ref(array))` in Python, gives.
// NDS_STALE when nobody has the array any more.
nds_code nds_array_open(const char *reference, double timeout, nds_array **array);

// Where its items are, and what. Who writes to an array that is readonly ends by a signal or harms others.
nds_code nds_array_get_info(const nds_array *array, nds_array_info *info);

// A text that names the array for other processes, in C, Rust or Python (`nds.ref(text).open()`). It opens as long as
// anybody has the array. NULL for an error. It stays until this thread asks for its next text.
const char *nds_array_reference(const nds_array *array);

// Lets go of the array. NULL is none.
nds_code nds_array_free(nds_array *array);

// Takes the locks of `count` arrays, all or none, as `nds.locked` in Python does.
//
// NDS_OWNER_DIED when the last one inside died; then nothing is held, and with `recover` it is taken all the same: put the
// content in order. NDS_MISUSE when this thread has one of them already, NDS_TIMEOUT at the timeout.
nds_code nds_arrays_lock(nds_array *const *arrays,
                         size_t count,
                         bool recover,
                         double timeout,
                         nds_lock **lock);

// Frees the locks. `clean`: the content is in order, and others need not be told of a death any more.
nds_code nds_unlock(nds_lock *lock, bool clean);

// A new ring in the session.
nds_code nds_ring_make(const nds_ring_format *format, nds_ring **ring);

// Opens the ring of a reference: the text that `nds_ring_reference`, or `str(nds.ref(ring))` in Python, gives.
nds_code nds_ring_open(const char *reference, double timeout, nds_ring **ring);

// What the ring is, as it was made. The texts stay as long as the handle.
nds_code nds_ring_get_format(const nds_ring *ring, nds_ring_format *format);

// A text that names the ring for other processes, in C, Rust or Python (`nds.ref(text).open()`). It opens as long as
// anybody has the ring. NULL for an error. It stays until this thread asks for its next text.
const char *nds_ring_reference(const nds_ring *ring);

// Ends the stream: readers get what is there, then NDS_CLOSED, and nobody can write any more.
nds_code nds_ring_close(nds_ring *ring, double timeout);

// Lets go of the ring; its writers, readers and frames go on. NULL is none.
nds_code nds_ring_free(nds_ring *ring);

// A new writer, for this process.
nds_code nds_writer_make(nds_ring *ring, double timeout, nds_writer **writer);

// Has the frames that are begun from now on have room for a note of so many bytes, by `nds_writing_publish_with_note`. A
// short note, up to some 400 bytes, needs no room.
nds_code nds_writer_reserve_note(nds_writer *writer,
                                 size_t note_bytes);

// Begins a frame of the ring's own shape: waits for room for it, and gives memory to fill. NDS_FULL at the timeout.
nds_code nds_writer_begin(nds_writer *writer, double timeout, nds_writing **writing);

// Begins a frame of another shape and dtype, which must not need more bytes than those of the ring. `dtype` may be NULL
// for the ring's.
nds_code nds_writer_begin_shaped(nds_writer *writer,
                                 const char *dtype,
                                 size_t ndim,
                                 const size_t *shape,
                                 double timeout,
                                 nds_writing **writing);

// Where the frame is to be filled. What stands there before is any bytes.
nds_code nds_writing_get_info(const nds_writing *writing, nds_array_info *info);

// Says when the frame was made, in nanoseconds, where the program knows better than the ring: a stamp of the camera, say.
// Readers get it as the frame's `time_ns`; without it they get the time of publication. The stamps of one writer do not go
// back: publishing an earlier one is NDS_INVALID_VALUE.
nds_code nds_writing_set_time_ns(nds_writing *writing,
                                 uint64_t time_ns);

// Publishes the frame, with `meta_bytes` bytes of meta, and frees the handle; nobody may write to the frame any more.
//
// `seq` (or NULL) gets the number of the frame, or NDS_DROPPED. NDS_FULL when there was no room before the timeout: then
// the handle stays, and may be published again or discarded; so it does after other errors.
nds_code nds_writing_publish(nds_writing *writing,
                             const void *meta,
                             size_t meta_bytes,
                             double timeout,
                             uint64_t *seq);

// The same with a note (NULL: none), which is copied. NDS_INVALID_VALUE when the frame has no room for it:
// `nds_writer_reserve_note` makes room in those that are begun later.
nds_code nds_writing_publish_with_note(nds_writing *writing,
                                       const void *meta,
                                       size_t meta_bytes,
                                       const nds_note *note,
                                       double timeout,
                                       uint64_t *seq);

// Throws the frame away. NULL is none.
nds_code nds_writing_discard(nds_writing *writing);

// Ends the writer in order, and frees the handle. If it was the last, the stream ends: readers get NDS_CLOSED when they
// have read all. Close writers before the program ends, or readers take the end for a death. The handle is freed whatever
// comes of it, also at NDS_TIMEOUT: then the stream ends when somebody next looks at its writers.
nds_code nds_writer_close(nds_writer *writer,
                          double timeout);

// A new reader, for this process: of every frame; or of the newest only, which holds nobody back (`latest`); or of
// those that a group, if it is not NULL, has for it. `start`: from the "next" frame on (also NULL), or from the "oldest".
nds_code nds_reader_make(nds_ring *ring,
                         bool latest,
                         const char *group,
                         const char *start,
                         double timeout,
                         nds_reader **reader);

// The next frame. NDS_EMPTY at the timeout; NDS_CLOSED when the stream has ended and all was read; NDS_WRITER_DIED, once,
// when a writer died without closing: a later call goes on, should others write.
nds_code nds_reader_get(nds_reader *reader,
                        double timeout,
                        nds_frame **frame);

// Where the items of a frame are, its number, its time, and its meta.
nds_code nds_frame_get_info(const nds_frame *frame, nds_frame_info *info);

// The note that goes with a frame: text, JSON or bytes of any length, or none. NDS_INVALID_VALUE for one that contradicts
// itself. It stays until the frame is released.
nds_code nds_frame_get_note(const nds_frame *frame,
                            nds_note *note);

// Lets go of a frame: its memory may become another one. NULL is none.
nds_code nds_frame_release(nds_frame *frame);

// Ends the reader, and frees the handle: it holds no writer back any more. A thread that waits in it gets NDS_CLOSED.
nds_code nds_reader_close(nds_reader *reader);

// Offers an array to all programs of this user under a name, also to those in Python (`nds.attach(name)`) and Rust. This
// process keeps the array until the name is taken back or replaced, or the process ends; whoever attached keeps it as well.
// NDS_MISUSE when another object that lives has the name, unless `replace` says that it loses it.
nds_code nds_publish_array(const char *name,
                           const nds_array *array,
                           bool replace,
                           double timeout);

// The same for a ring.
nds_code nds_publish_ring(const char *name, const nds_ring *ring, bool replace, double timeout);

// Opens the array that a program has published under a name, in whatever language; waits for it up to the timeout (0 looks
// once), then NDS_TIMEOUT. NDS_INVALID_TYPE when the name stands for something else.
nds_code nds_attach_array(const char *name,
                          double timeout,
                          nds_array **array);

// The same to read only: `readonly` of its info is true, and its memory has no write permission in this process, which
// ends by a signal if it writes there. What would change its arena, such as a new array in it, is NDS_READ_ONLY.
nds_code nds_attach_array_readonly(const char *name, double timeout, nds_array **array);

// Opens the ring that a program has published under a name, as nds_attach_array does for an array.
nds_code nds_attach_ring(const char *name, double timeout, nds_ring **ring);

// The same to read only: it has readers, and no writers (NDS_READ_ONLY). Frames have no write permission in this process.
nds_code nds_attach_ring_readonly(const char *name,
                                  double timeout,
                                  nds_ring **ring);

// Takes a name away, whoever published it; those who have the object keep it. `removed` (or NULL) gets whether there was
// such a name.
nds_code nds_unpublish(const char *name,
                       double timeout,
                       bool *removed);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NDSHARE_H */
