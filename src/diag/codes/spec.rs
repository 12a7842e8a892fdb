super::codes! {
    UNKNOWN_KEY = 201, "unknown-key", "This key is not part of the file format at this place.";
    NOT_SUPPORTED_YET = 202, "not-supported-yet", "The file format has this key, but this release does not act on it yet. It is an error rather than being ignored, so that a file never promises what is not done.";
}
