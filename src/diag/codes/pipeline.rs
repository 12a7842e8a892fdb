super::codes! {
    CYCLE = 301, "cycle", "Stages wait for one another in a circle, so none of them could ever start.";
}
