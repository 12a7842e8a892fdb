super::codes! {
    CYCLE = 301, "cycle", "Stages wait for one another in a circle, so none of them could ever start. The message shows the circle \
        as a path, and a label stands at each `depends_on` that is part of it. Take out the one that is not needed, or split the \
        stage in the middle into the part that comes first and the part that comes last.";
    UNKNOWN_STAGE = 302, "unknown-stage", "A name under `depends_on`, `near`, `apart`, or an edge's `from` and `to` is not the name of a stage of \
        this file. Names are compared letter by letter: `Parse` and `parse` are two stages. Correct the name, or add the stage under `stages:`.";
    UNKNOWN_EDGE = 303, "unknown-edge", "A stage binds an edge that the file does not have: `stdin`, `stdout` and `bind` name edges by their key under \
        `edges:`. Correct the name, or declare the edge: `edges: { lines: { from: read, to: count } }`.";
    EDGE_TO_ITSELF = 304, "edge-to-itself", "The same stage stands in `from` and in `to` of one edge. A stage that writes to itself stops as soon as the edge is \
        full, because it is the one that should be reading; what a process tells itself it can keep in its own memory. Feedback between \
        two stages is possible: two edges, one each way.";
    NAMED_TWICE = 305, "named-twice", "The same stage is named twice in one list. It would change nothing, so it is probably a slip: another stage was meant. Remove one of the two.";
    WAITS_FOR_MATE = 306, "waits-for-mate", "A stage waits for a stage of its own gang to end. Edges tie stages into a gang, and a gang starts together: no edge \
        works before all of them run, so the one that is waited for could not end and the one that waits would never start. The edge already \
        orders the two: a reader sees the end of the stream when its writers have ended. Remove the dependency, or weaken it to `started`.";
    GANG_CYCLE = 307, "gang-cycle", "Gangs wait for one another in a circle. Stages that edges tie together start together, so a gang starts when everything that \
        any of its stages waits for outside the gang holds; here something it waits for waits, in the end, for a stage of the same gang. In \
        the path `→` is a dependency and `⇄` joins two stages of one gang. Break the circle: remove a dependency, or hand the data over as a file instead of an edge.";
    WAITS_FOR_SERVICE = 308, "waits-for-service", "A service runs until everything that is not a service has ended, so waiting for it to complete or to exit would \
        wait for ever. A stage that reads an edge a service writes counts as a service too. Wait for it to have started: `depends_on: { db: started }`.";
    DISTRIBUTE_TO_ONE = 309, "distribute-to-one", "`delivery: distribute` hands each message to one of several consumers in turn; this edge has a single consumer with a single replica, so \
        there is nothing to distribute. Raise the consumer's `replicas`, name more stages in `to`, or leave `delivery` out.";
    PIPE_ENDS = 310, "pipe-ends", "A pipe edge is one kernel pipe between two processes: one stage with one replica at each end, and no delivery to choose, no message \
        limit to set. For more than two processes, or for messages, use a ring: `kind: ring`.";
    PIPE_NOT_BOUND = 311, "pipe-not-bound", "A pipe edge joins the standard output of its writer to the standard input of its reader, and both stages say so: \
        `cat: { command: [cat, f], stdout: { edge: text, framing: raw } }` and `wc: { command: [wc], stdin: { edge: text, framing: raw } }`. \
        It cannot be given as a path with `bind`.";
    WRONG_DIRECTION = 312, "wrong-direction", "A stage binds an edge the wrong way round: `stdin` needs an edge with this stage in `to`, `stdout` one with this stage in `from`, and \
        `bind` one with this stage at either end. Swap `from` and `to` of the edge if the data was meant to flow the other way.";
    RAW_NEEDS_ONE_PRODUCER = 313, "raw-needs-one-producer", "With `framing: raw` a message is any piece of a byte stream, cut where it happened to be read. Pieces of two writers, or every second piece of one, \
        make no stream: so raw needs an edge with one producer (one stage, one replica) and without `delivery: distribute`. Use `lines` or `u32le`, whose messages stay whole.";
    EDGE_CYCLE = 314, "edge-cycle", "Edges lead from a stage back to itself through others. Feedback is legitimate, but when all edges of the circle are full at once everyone waits for room and nobody \
        reads, and a stage never sees the end of its input, since that would come from itself. Make sure that each turn shrinks the data, \
        that the capacity holds all that can be under way, and that a message, not the end of the stream, says when to stop.";
    RING_SIZE = 315, "ring-size", "A ring must hold two of its longest messages at once, one being written and one being read, each with a header of eight bytes and \
        eight bytes behind it. So `max_message` is at most half the capacity (in whole pages) less 16 bytes, and a quarter if nothing is said; no message is longer than 4GiB less 8 bytes. Raise \
        `capacity`, or lower `max_message`.";
    NEAR_AND_APART = 316, "near-and-apart", "`near` and `apart` contradict each other or name the stage itself: two stages cannot both share a cache and be kept away from each other, whichever of the two says it.";
    NEAR_UNPLACED = 317, "near-unplaced", "`near` or `apart` names a stage without `placement`. Such a stage floats over all CPUs that nothing holds exclusively, so there is no \
        place to be near to or far from. Give it a placement too, for instance `placement: { cpus: 1 }`. Under `policy: prefer` this is only a warning.";
    EDGE_PATH = 318, "edge-path", "`${edge.NAME}` is the path (`/dev/fd/N`) under which a process finds an edge that its stage has put under `bind`. It means something in the \
        stage's own `command` and `env` only: `compare: { command: [paste, \"${edge.left}\"], bind: { left: lines } }`. In `shell` text every `$` belongs to the \
        shell: pass the path in a variable, `env: { LEFT: \"${edge.left}\" }`, and write `\"$LEFT\"`.";
    RING_LIMITS = 319, "ring-limits", "An edge expands into rings: one for each replica that writes it, and with `delivery: distribute` one for each pair of a writing and a reading replica. A ring has at most 128 \
        consumers and an edge at most 4096 rings, so that their descriptors can be handed out and waited for. Lower `replicas`, distribute instead of broadcasting, or put a stage in between.";
    RING_MEMORY = 320, "ring-memory", "The rings of this pipeline together ask for more than 1TiB of memory. `capacity` is per ring: an edge from 4 replicas distributed to 8 has 32 rings. Rings are populated before anything starts, so \
        the memory is really taken. Lower `capacity`.";
    FED_BY_SERVICE = 321, "fed-by-service", "The file says `service: false`, but a service writes an edge that this stage reads. Its input ends only when that service is stopped, which happens when all that is not a service \
        has ended; so it must count as a service too. Leave `service` out, or take the edge away.";
    TOO_MANY_TASKS = 322, "too-many-tasks", "All stages together, each counted with its replicas, are more processes than one run takes on (100,000). Lower `replicas`, or split the pipeline.";
    SHARED_FILE = 323, "shared-file", "Several processes have the same `stdout: { file: … }`. Each empties the file when it starts and writes from its beginning, so they overwrite one another and output is lost. \
        Give each replica a file of its own with its number, `stdout: { file: \"out-${replica}.txt\" }`, and each stage its own name; or send what belongs together over an edge to one stage that writes it. \
        Stages that run one after the other are no exception: the second empties what the first wrote. Devices are not files: any number may write to `/dev/stdout` or `/dev/null`.";
    KEY_OF_NONE = 324, "key-of-none", "With `by: key` each message goes to the consumer that its key belongs to, and the program that writes the message says the key. An unmodified program, bound with `stdout` \
        or `bind`, cannot say one. Distribute `by: round_robin` or `by: least_backlog`; or put a stage in between, written with the SDK, that knows what in a message is the key and sends with `send_to(key, message)`.";
    RESTART_SCOPE = 325, "restart-scope", "A program that knows nothing of edges is to be restarted, and the file does not say (or says wrongly) what that restarts. Nothing is right for all: alone (`scope: stage`) a restarted `zcat` sends everything again, \
        and a restarted `sort` has forgotten what it read, while a `tail -f` or a `grep` is served well. With `scope: gang` all stages that edges tie together are stopped, their edges emptied, and all start from the beginning: right for whatever can be done again as a whole. \
        A kernel pipe does not survive either of its sides, so there it can only be `gang`. Stages that use the SDK know where they were: for them `stage` is the default.";
    RESTART_ALWAYS = 326, "restart-always", "`restart: { when: always }` starts a process again also when it ends well, so the stage never completes, and a run waits for all its stages but the services. If it is to stay, make it a service (`service: true`): then it ends when nothing else is left. If it has an end, write `when: on_failure`.";
    REDELIVER_ROOM = 327, "redeliver-room", "An unmodified program is restarted alone (`scope: stage`) and reads an edge too short to keep what it may have taken along when it was killed: a pipe holds 64KiB, and programs read ahead. \
        The edge gives a new process again the last 128KiB that the old one was handed, if its `capacity` has room for that and for the producer besides: 1MiB. With less, messages could be lost, and nothing is lost by default. \
        Raise `capacity`; or, where you know the program, say how much is enough: `redeliver: 4KiB` for one that is handed little at a time.";
}
