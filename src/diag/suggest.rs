//! "Did you mean": the nearest of the words that would have been right.

/// No name is longer; what is longer is not a misspelt one.
const MAX_WORD_CHARS: usize = 64;

/// The candidate nearest to `word`, if one is near enough to be meant: a few letters wrong, missing or
/// swapped (the more the longer the word), another case, or `-` for `_`.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(word);
    let length = wanted.chars().count();
    if length > MAX_WORD_CHARS {
        return None;
    }
    let allowed = match length {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    let near = |candidate: &&'a str| {
        if candidate.len().abs_diff(word.len()) > 4 * allowed {
            return None;
        }
        let distance = strsim::damerau_levenshtein(&wanted, &fold(candidate));
        (distance <= allowed && distance < length).then_some((distance, *candidate))
    };
    candidates
        .into_iter()
        .filter(|c| *c != word)
        .filter_map(|c| near(&c))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["command", "cpus", "cpuset", "depends_on", "env", "shell", "stdin", "to"];
        let found = |word| did_you_mean(word, keys);
        assert_eq!(found("comand"), Some("command"));
        assert_eq!(found("Command"), Some("command"));
        assert_eq!(found("depends-on"), Some("depends_on"));
        assert_eq!(found("dependsOn"), Some("depends_on"));
        assert_eq!(found("cpu"), Some("cpus"));
        assert_eq!(found("sdtin"), Some("stdin"));
        assert_eq!(found("evn"), Some("env"));
        assert_eq!(found("To"), Some("to"));
        assert_eq!(found("x"), None);
        assert_eq!(found("ot"), None);
        assert_eq!(found("placement"), None);
        assert_eq!(found("shell"), None);
        assert_eq!(found(&"x".repeat(100_000)), None);
    }
}
