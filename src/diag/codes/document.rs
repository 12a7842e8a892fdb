super::codes! {
    UNREADABLE = 101, "unreadable", "The pipeline file could not be read. The message carries the system's reason.";
}
