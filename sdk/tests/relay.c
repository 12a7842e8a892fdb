/* Passes messages on with "+c" behind them, in every way there is to receive and to send; and what must fail does. */
#include <nexusflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX "+c"
#define SUFFIX_LEN (sizeof SUFFIX - 1)

static void check(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "relay: %s (the last message: %s)\n", what, nexusflow_error_message());
    exit(1);
}

/* A copy with the suffix behind it. */
static nexusflow_message longer(nexusflow_message message) {
    char *copy = malloc(message.len + SUFFIX_LEN);
    nexusflow_message made = {copy, message.len + SUFFIX_LEN};
    check(copy != NULL, "no memory");
    memcpy(copy, message.data, message.len);
    memcpy(copy + message.len, SUFFIX, SUFFIX_LEN);
    return made;
}

static void what_must_fail(nexusflow_stage *stage, nexusflow_input *in, nexusflow_output *out) {
    nexusflow_stage *again;
    nexusflow_input *other;
    nexusflow_object_input *objects;
    void *room;
    size_t longest;
    check(nexusflow_stage_open(&again) == NEXUSFLOW_NOT_A_STAGE, "opened twice");
    check(nexusflow_stage_open(NULL) == NEXUSFLOW_INVALID, "null for a stage");
    check(nexusflow_stage_input(stage, "by_python", &other) == NEXUSFLOW_ALREADY_OPEN, "an edge twice");
    check(nexusflow_stage_input(stage, "nothing", &other) == NEXUSFLOW_UNKNOWN_EDGE, "an edge that is not");
    check(strstr(nexusflow_error_message(), "by_python") != NULL, "the words name what there is");
    check(nexusflow_stage_input(stage, NULL, &other) == NEXUSFLOW_INVALID, "null for a name");
    check(nexusflow_stage_input(NULL, "by_python", &other) == NEXUSFLOW_INVALID, "null for a stage");
    check(nexusflow_input_recv(in, NULL) == NEXUSFLOW_INVALID, "null for a message");
    check(nexusflow_input_recv(NULL, NULL) == NEXUSFLOW_INVALID, "null for an input");
    check(nexusflow_output_send(out, NULL, 1) == NEXUSFLOW_INVALID, "null for bytes");
    check(nexusflow_output_send_batch(out, NULL, 1) == NEXUSFLOW_INVALID, "null for messages");
    check(nexusflow_output_commit(out, 0) == NEXUSFLOW_INVALID, "nothing reserved");
    check(nexusflow_output_reserve(out, 4, &room) == NEXUSFLOW_OK, "reserve");
    check(nexusflow_output_commit(out, 5) == NEXUSFLOW_INVALID, "more than was reserved");
    check(nexusflow_output_max_message(out, &longest) == NEXUSFLOW_OK, "the longest"); /* gives the room up */
    check(nexusflow_output_commit(out, 4) == NEXUSFLOW_INVALID, "nothing reserved any more");
    check(nexusflow_output_reserve(out, longest + 1, &room) == NEXUSFLOW_TOO_LONG, "too long");
    check(nexusflow_input_recv_batch(in, 0, NULL, 1, &longest) == NEXUSFLOW_INVALID, "null for a batch");
    check(nexusflow_stage_object_input(stage, "by_python", &objects) != NEXUSFLOW_OK, "a ring is no object edge");
    check(nexusflow_object_release(NULL) == NEXUSFLOW_INVALID, "null released");
    check(nexusflow_input_close(NULL) == NEXUSFLOW_INVALID, "null closed");
}

static void send_one(nexusflow_output *out, nexusflow_message message, int way) {
    nexusflow_message made;
    void *room;
    switch (way) {
    case 0:
        made = longer(message);
        check(nexusflow_output_send(out, made.data, made.len) == NEXUSFLOW_OK, "send");
        free((void *)made.data);
        break;
    case 1:
        made = longer(message);
        check(nexusflow_output_send_timeout(out, made.data, made.len, 60000) == NEXUSFLOW_OK, "send in time");
        free((void *)made.data);
        break;
    case 2:
        check(nexusflow_output_reserve(out, message.len + SUFFIX_LEN, &room) == NEXUSFLOW_OK, "reserve");
        memcpy(room, message.data, message.len);
        memcpy((char *)room + message.len, SUFFIX, SUFFIX_LEN);
        check(nexusflow_output_commit(out, message.len + SUFFIX_LEN) == NEXUSFLOW_OK, "commit");
        break;
    default: /* reserved first for another message, then longer than needed */
        check(nexusflow_output_reserve(out, 1, &room) == NEXUSFLOW_OK, "reserve");
        check(nexusflow_output_reserve_timeout(out, message.len + 100, 60000, &room) == NEXUSFLOW_OK, "reserve");
        memcpy(room, message.data, message.len);
        memcpy((char *)room + message.len, SUFFIX, SUFFIX_LEN);
        check(nexusflow_output_commit(out, message.len + SUFFIX_LEN) == NEXUSFLOW_OK, "commit");
    }
}

int main(void) {
    nexusflow_stage *stage;
    nexusflow_identity who;
    nexusflow_input *in;
    nexusflow_output *out;
    nexusflow_message message, batch[10], many[10];
    nexusflow_status status;
    const char *name;
    size_t waiting = 0, count, i;
    uint64_t committed;
    unsigned long n;

    check(nexusflow_stage_open(&stage) == NEXUSFLOW_OK, "open");
    check(nexusflow_stage_identity(stage, &who) == NEXUSFLOW_OK, "identity");
    check(strcmp(who.stage, "c") == 0 && strcmp(who.pipeline, "polyglot") == 0, "who I am");
    check(who.replica == 0 && who.replicas == 1 && who.attempt == 1, "which I am");
    check(nexusflow_stage_input_name(stage, 0, &name) == NEXUSFLOW_OK && strcmp(name, "by_python") == 0, "input");
    check(nexusflow_stage_input_name(stage, 1, &name) == NEXUSFLOW_END, "one input");
    check(nexusflow_stage_output_name(stage, 0, &name) == NEXUSFLOW_OK && strcmp(name, "by_c") == 0, "output");
    check(nexusflow_stage_input(stage, "by_python", &in) == NEXUSFLOW_OK, "input");
    check(nexusflow_stage_output(stage, "by_c", &out) == NEXUSFLOW_OK, "output");
    what_must_fail(stage, in, out);
    check(nexusflow_stage_close(stage) == NEXUSFLOW_OK, "close");

    for (n = 0; n < 5000; n += count) {
        check(nexusflow_input_recv_batch(in, -1, many, 10, &count) == NEXUSFLOW_OK, "many");
        check(count >= 1 && count <= 10, "as many as there is room for");
        for (i = 0; i < count; i++) send_one(out, many[i], (int)(i % 4));
    }
    for (;; n++) { /* counts messages */
        status = n % 2 ? nexusflow_input_recv(in, &message) : nexusflow_input_recv_timeout(in, 0, &message);
        if (status == NEXUSFLOW_TIMED_OUT) {
            check(message.data == NULL && message.len == 0, "no message");
            status = nexusflow_input_recv(in, &message);
        }
        if (status != NEXUSFLOW_OK) break;
        /* Twenty by themselves, then ten together. */
        if (n / 20 % 2) {
            batch[waiting++] = longer(message);
        } else {
            send_one(out, message, n % 4);
        }
        if (n % 7 == 0) check(nexusflow_input_release(in) == NEXUSFLOW_OK, "release");
        if (waiting == 10) {
            check(nexusflow_output_send_batch(out, batch, waiting) == NEXUSFLOW_OK, "batch");
            while (waiting > 0) free((void *)batch[--waiting].data);
        }
    }
    check(status == NEXUSFLOW_END, "the end");
    check(nexusflow_output_committed(out, &committed) == NEXUSFLOW_OK && committed + waiting == n, "committed");
    check(nexusflow_output_send_batch(out, batch, waiting) == NEXUSFLOW_OK, "the last batch");
    while (waiting > 0) free((void *)batch[--waiting].data);
    check(nexusflow_output_finish(out) == NEXUSFLOW_OK, "finish");
    check(nexusflow_input_close(in) == NEXUSFLOW_OK, "close");
    return 0;
}
