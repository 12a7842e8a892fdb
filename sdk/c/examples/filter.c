/* A filter: passes on the messages that begin with "ERROR".
 *
 *   cc filter.c $(pkg-config --cflags --libs nexusflow) -o filter
 */
#include <nexusflow.h>
#include <stdio.h>
#include <string.h>

/* Says what went wrong. The end of a stream, and nobody to read any more, are no failures. */
static int end(nexusflow_status status) {
    if (status == NEXUSFLOW_OK || status == NEXUSFLOW_END || status == NEXUSFLOW_CLOSED) return 0;
    fprintf(stderr, "filter: %s\n", nexusflow_error_message());
    return 1;
}

int main(void) {
    nexusflow_stage *stage;
    nexusflow_input *events;
    nexusflow_output *errors;
    nexusflow_message message;
    nexusflow_status status;

    if ((status = nexusflow_stage_open(&stage)) != NEXUSFLOW_OK) return end(status);
    if ((status = nexusflow_stage_input(stage, "events", &events)) != NEXUSFLOW_OK) return end(status);
    if ((status = nexusflow_stage_output(stage, "errors", &errors)) != NEXUSFLOW_OK) return end(status);

    /* The message lies in shared memory, and is good until the next one is asked for. */
    while ((status = nexusflow_input_recv(events, &message)) == NEXUSFLOW_OK) {
        if (message.len >= 5 && memcmp(message.data, "ERROR", 5) == 0) {
            status = nexusflow_output_send(errors, message.data, message.len);
            if (status != NEXUSFLOW_OK) break;
        }
    }
    /* The process exits with 0: that ends the stream. */
    return end(status);
}
