super::codes! {
    START_FAILED = 501, "start-failed", "A stage's process could not be started. The message names the step that failed and the system's reason.";
}
