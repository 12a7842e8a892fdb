super::codes! {
    PLACEMENT_IMPOSSIBLE = 401, "placement-impossible", "This machine (as far as this process may use it) cannot honour a placement that the file insists on.";
}
