/*
 * Stages of nexusflow pipelines in C. docs/c.md tells how to use it; this file is made by cbindgen from sdk/c/src.
 *
 * Every function that can fail returns a nexusflow_status, and nexusflow_error_message() then has the words. A null
 * pointer where none may be is NEXUSFLOW_INVALID, a bug inside is NEXUSFLOW_BUG: nothing is thrown or aborted.
 *
 * Threads: a nexusflow_stage may be used by several threads at once. An input or an output may be handed from thread to
 * thread, but only one may use it at a time. Error messages belong to the thread.
 */

#ifndef NEXUSFLOW_H
#define NEXUSFLOW_H

#include <stddef.h>
#include <stdint.h>

/**
 * How a call ended. What is not 0 has words: see nexusflow_error_message().
 */
typedef enum nexusflow_status {
  /**
   * All well.
   */
  NEXUSFLOW_OK = 0,
  /**
   * The end: all producers have ended, no message will follow. No failure.
   */
  NEXUSFLOW_END = 1,
  /**
   * The time given has passed.
   */
  NEXUSFLOW_TIMED_OUT = 2,
  /**
   * Nobody reads the edge any more: stop producing. No failure of this stage.
   */
  NEXUSFLOW_CLOSED = 3,
  /**
   * The wait was ended from elsewhere.
   */
  NEXUSFLOW_INTERRUPTED = 4,
  /**
   * A null pointer, or another argument that cannot be.
   */
  NEXUSFLOW_INVALID = 5,
  /**
   * The process was not started by nexusflow as a stage, or is one already.
   */
  NEXUSFLOW_NOT_A_STAGE = 6,
  /**
   * The stage has no such edge in this direction.
   */
  NEXUSFLOW_UNKNOWN_EDGE = 7,
  /**
   * The edge was opened before.
   */
  NEXUSFLOW_ALREADY_OPEN = 8,
  /**
   * A message, batch or tag is longer than is taken.
   */
  NEXUSFLOW_TOO_LONG = 9,
  /**
   * The edge was finished: nothing can follow the end.
   */
  NEXUSFLOW_FINISHED = 10,
  /**
   * A peer left nonsense in the memory of the edge. It cannot be used any more.
   */
  NEXUSFLOW_POISONED = 11,
  /**
   * The runner has gone away.
   */
  NEXUSFLOW_RUNNER_GONE = 12,
  /**
   * The runner refused, or speaks another version of the protocol.
   */
  NEXUSFLOW_PROTOCOL = 13,
  /**
   * A system call failed.
   */
  NEXUSFLOW_IO = 14,
  /**
   * The edge distributes by key, and the message was sent without one.
   */
  NEXUSFLOW_NO_KEY = 17,
  /**
   * A transfer was given more than it can hold, or ends, with something it has not committed.
   */
  NEXUSFLOW_UNCOMMITTED = 18,
  /**
   * Something else that a newer version knows of.
   */
  NEXUSFLOW_OTHER = 15,
  /**
   * A bug in this library. The handle that was used must not be used again.
   */
  NEXUSFLOW_BUG = 16,
} nexusflow_status;

/**
 * Room for one object that is being made.
 */
typedef struct nexusflow_draft nexusflow_draft;

/**
 * An edge that this stage reads.
 */
typedef struct nexusflow_input nexusflow_input;

/**
 * An object that was received, until it is released.
 */
typedef struct nexusflow_object nexusflow_object;

/**
 * An object edge that this stage reads.
 */
typedef struct nexusflow_object_input nexusflow_object_input;

/**
 * An object edge that this stage writes.
 */
typedef struct nexusflow_object_output nexusflow_object_output;

/**
 * An edge that this stage writes.
 */
typedef struct nexusflow_output nexusflow_output;

/**
 * This process as a stage of a pipeline.
 */
typedef struct nexusflow_stage nexusflow_stage;

/**
 * A message in place, in the edge's memory, which is read-only here. Good until the next call with this input.
 *
 * Another process has written it, which is trusted to leave it alone now: every one that uses a nexusflow library does.
 */
typedef struct nexusflow_message {
  const void *data;
  size_t len;
} nexusflow_message;

/**
 * Who a stage is. The texts live as long as the stage.
 */
typedef struct nexusflow_identity {
  const char *pipeline;
  const char *run;
  /**
   * The stage's name in the pipeline file.
   */
  const char *stage;
  /**
   * Which replica this is: from 0.
   */
  uint32_t replica;
  uint32_t replicas;
  /**
   * Which process of this replica this is: 1, and one more after each restart.
   */
  uint32_t attempt;
} nexusflow_identity;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Waits for the next message. NEXUSFLOW_END: none will come. It releases the message before: that is done with, and
 * will not be given again to this stage should it be restarted.
 *
 * Contract: `input` is null or open; `message` is null or may be written.
 */
enum nexusflow_status nexusflow_input_recv(struct nexusflow_input *input,
                                           struct nexusflow_message *message);

/**
 * As nexusflow_input_recv, but waits no longer than `timeout_ms`: then NEXUSFLOW_TIMED_OUT. 0 does not wait at all,
 * below 0 is for ever.
 *
 * Contract: `input` is null or open; `message` is null or may be written.
 */
enum nexusflow_status nexusflow_input_recv_timeout(struct nexusflow_input *input,
                                                   int64_t timeout_ms,
                                                   struct nexusflow_message *message);

/**
 * The next messages, `max` at most and at least one: `count` says how many. It waits for the first only, as
 * nexusflow_input_recv_timeout does. All are good until the next call with this input, and released by it.
 *
 * Contract: `input` is null or open; `messages` is null or has room for `max`; `count` is null or may be written.
 */
enum nexusflow_status nexusflow_input_recv_batch(struct nexusflow_input *input,
                                                 int64_t timeout_ms,
                                                 struct nexusflow_message *messages,
                                                 size_t max,
                                                 size_t *count);

/**
 * Gives back the message that came last, for who will not ask for another soon.
 *
 * Contract: `input` is null or open.
 */
enum nexusflow_status nexusflow_input_release(struct nexusflow_input *input);

/**
 * Reads no more, and closes the input: the producers go on without this stage, or are told that nobody reads.
 *
 * Contract: `input` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_input_detach(struct nexusflow_input *input);

/**
 * Closes the input. What was not released will be given to the stage's next process, if there is one; until this
 * process ends, producers wait for it.
 *
 * Contract: `input` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_input_close(struct nexusflow_input *input);

/**
 * Waits for the next object, no longer than `timeout_ms` (0: not at all, below 0: for ever). NEXUSFLOW_END: none will come.
 * Each object stays until it is released, by nexusflow_object_release; several may be held at once.
 *
 * Contract: `input` is null or open; `object` is null or may be written.
 */
enum nexusflow_status nexusflow_object_input_recv(struct nexusflow_object_input *input,
                                                  int64_t timeout_ms,
                                                  struct nexusflow_object **object);

/**
 * Where the bytes of an object are. Read-only; good until it is released.
 *
 * Contract: `object` is null or not released; `bytes` is null or may be written.
 */
enum nexusflow_status nexusflow_object_bytes(struct nexusflow_object *object,
                                             struct nexusflow_message *bytes);

/**
 * Done with an object: once all consumers have released it, its memory is used again.
 *
 * Contract: `object` is null or not released, and is not used again.
 */
enum nexusflow_status nexusflow_object_release(struct nexusflow_object *object);

/**
 * Closes the input. Objects that are held stay good.
 *
 * Contract: `input` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_object_input_close(struct nexusflow_object_input *input);

/**
 * Room for an object of `len` bytes, when there is, or NEXUSFLOW_TIMED_OUT after `timeout_ms` (0: not at all, below 0: for
 * ever). Fill `room`, then seal the draft, or drop it.
 *
 * Contract: `output` is null or open; `draft` and `room` are null or may be written.
 */
enum nexusflow_status nexusflow_object_output_create(struct nexusflow_object_output *output,
                                                     size_t len,
                                                     int64_t timeout_ms,
                                                     struct nexusflow_draft **draft,
                                                     void **room);

/**
 * Hands the object over to the consumers. Its bytes are not to be touched any more.
 *
 * Contract: `draft` is null or neither sealed nor dropped, and is not used again.
 */
enum nexusflow_status nexusflow_draft_seal(struct nexusflow_draft *draft);

/**
 * Gives the room back: the object was never there.
 *
 * Contract: `draft` is null or neither sealed nor dropped, and is not used again.
 */
enum nexusflow_status nexusflow_draft_drop(struct nexusflow_draft *draft);

/**
 * Ends the stream and closes the output.
 *
 * Contract: `output` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_object_output_finish(struct nexusflow_object_output *output);

/**
 * How long a message on this edge may be.
 *
 * Contract: `output` is null or open; `max_message` is null or may be written.
 */
enum nexusflow_status nexusflow_output_max_message(struct nexusflow_output *output, size_t *max_message);

/**
 * Sends one message, copied from `data`, when there is room.
 *
 * Contract: `output` is null or open; `len` bytes at `data` may be read.
 */
enum nexusflow_status nexusflow_output_send(struct nexusflow_output *output, const void *data, size_t len);

/**
 * As nexusflow_output_send, but waits no longer than `timeout_ms`: then NEXUSFLOW_TIMED_OUT. 0 does not wait at all,
 * below 0 is for ever.
 *
 * Contract: `output` is null or open; `len` bytes at `data` may be read.
 */
enum nexusflow_status nexusflow_output_send_timeout(struct nexusflow_output *output,
                                                    const void *data,
                                                    size_t len,
                                                    int64_t timeout_ms);

/**
 * Sends one message to the consumer that its key belongs to, on edges that distribute `by: key`; elsewhere the key is not
 * looked at. `timeout_ms` is as in nexusflow_output_send_timeout.
 *
 * Contract: `output` is null or open; `key_len` bytes at `key` and `len` bytes at `data` may be read.
 */
enum nexusflow_status nexusflow_output_send_to(struct nexusflow_output *output,
                                               const void *key,
                                               size_t key_len,
                                               const void *data,
                                               size_t len,
                                               int64_t timeout_ms);

/**
 * How many messages this stage has sent here, in all of its processes: a restarted producer goes on behind them.
 *
 * Contract: `output` is null or open; `count` is null or may be written.
 */
enum nexusflow_status nexusflow_output_committed(struct nexusflow_output *output,
                                                 uint64_t *count);

/**
 * Sends messages in this order, copied. Those that fit become visible together, which costs less. On an error those
 * before the one that failed are sent.
 *
 * Contract: `output` is null or open; `messages` has `count` messages whose bytes may be read.
 */
enum nexusflow_status nexusflow_output_send_batch(struct nexusflow_output *output,
                                                  const struct nexusflow_message *messages,
                                                  size_t count);

/**
 * Room in the edge itself for a message of at most `len` bytes, when there is: fill it, then commit. What was there
 * before may show. Any other call with this output gives the room up, and nothing is sent.
 *
 * Contract: `output` is null or open; `room` is null or may be written.
 */
enum nexusflow_status nexusflow_output_reserve(struct nexusflow_output *output,
                                               size_t len,
                                               void **room);

/**
 * As nexusflow_output_reserve, but waits no longer than `timeout_ms`: then NEXUSFLOW_TIMED_OUT. 0 does not wait at all,
 * below 0 is for ever.
 *
 * Contract: `output` is null or open; `room` is null or may be written.
 */
enum nexusflow_status nexusflow_output_reserve_timeout(struct nexusflow_output *output,
                                                       size_t len,
                                                       int64_t timeout_ms,
                                                       void **room);

/**
 * Sends the first `len` bytes of the room that was reserved last.
 *
 * Contract: `output` is null or open.
 */
enum nexusflow_status nexusflow_output_commit(struct nexusflow_output *output, size_t len);

/**
 * Ends the stream and closes the output: consumers read what was sent, then the end. A process that exits with 0 ends
 * all of its streams.
 *
 * Contract: `output` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_output_finish(struct nexusflow_output *output);

/**
 * Closes the output without an end: that comes when the process exits with 0.
 *
 * Contract: `output` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_output_close(struct nexusflow_output *output);

/**
 * Takes up the socket that nexusflow started this process with. Once per process.
 *
 * Contract: `stage` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_open(struct nexusflow_stage **stage);

/**
 * Who this stage is.
 *
 * Contract: `stage` is null or open; `identity` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_identity(const struct nexusflow_stage *stage,
                                               struct nexusflow_identity *identity);

/**
 * The name of input `number`, from 0; NEXUSFLOW_END behind the last. It lives as long as the stage.
 *
 * Contract: `stage` is null or open; `name` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_input_name(const struct nexusflow_stage *stage,
                                                 size_t number,
                                                 const char **name);

/**
 * The name of output `number`, from 0; NEXUSFLOW_END behind the last. It lives as long as the stage.
 *
 * Contract: `stage` is null or open; `name` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_output_name(const struct nexusflow_stage *stage,
                                                  size_t number,
                                                  const char **name);

/**
 * Opens an edge to read. It waits until everyone on the edge runs.
 *
 * Contract: `stage` is null or open; `name` is null or a text with a zero at its end; `input` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_input(const struct nexusflow_stage *stage,
                                            const char *name,
                                            struct nexusflow_input **input);

/**
 * Opens an edge to write. It waits until everyone on the edge runs.
 *
 * Contract: `stage` is null or open; `name` is null or a text with a zero at its end; `output` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_output(const struct nexusflow_stage *stage,
                                             const char *name,
                                             struct nexusflow_output **output);

/**
 * Opens an edge of `kind: object` to read. It waits until everyone on the edge runs.
 *
 * Contract: `stage` is null or open; `name` is null or a text with a zero at its end; `input` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_object_input(const struct nexusflow_stage *stage,
                                                   const char *name,
                                                   struct nexusflow_object_input **input);

/**
 * Opens an edge of `kind: object` to write. It waits until everyone on the edge runs.
 *
 * Contract: `stage` is null or open; `name` is null or a text with a zero at its end; `output` is null or may be written.
 */
enum nexusflow_status nexusflow_stage_object_output(const struct nexusflow_stage *stage,
                                                    const char *name,
                                                    struct nexusflow_object_output **output);

/**
 * Closes the stage's talk with the runner. Open inputs and outputs stay good.
 *
 * Contract: `stage` is null or open, and is not used again.
 */
enum nexusflow_status nexusflow_stage_close(struct nexusflow_stage *stage);

/**
 * The words for the last status of this thread that was not NEXUSFLOW_OK; empty if there was none. Never null; good
 * until the next call of this thread.
 */
const char *nexusflow_error_message(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NEXUSFLOW_H */
