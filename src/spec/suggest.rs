//! The nearest of some words.

/// The candidate that `word` was most likely meant to be.
pub fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No name is that long, and the distance costs the product of both lengths.
    if word.len() > 128 {
        return None;
    }
    let plain = |s: &str| s.to_ascii_lowercase().replace('-', "_");
    let (wanted, allowed) = (plain(word), 1 + word.len() / 4);
    candidates
        .map(|c| (strsim::damerau_levenshtein(&wanted, &plain(c)), c))
        .filter(|(distance, c)| *distance <= allowed && *distance < c.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}
