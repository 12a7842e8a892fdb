//! Finds what somebody meant who wrote a name that does not exist.

/// The most names shown of what there is.
const SHOWN: usize = 8;

/// What to say about `wrong`, when `known` are what there is.
pub(crate) fn help(wrong: &str, known: &[&str], what: &str) -> String {
    let near = known.iter().map(|k| (distance(wrong, k), k)).min();
    let limit = (wrong.chars().count() / 3).max(1);
    match near {
        None => format!("this stage has no {what}s"),
        Some((distance, name)) if distance <= limit => format!("did you mean `{name}`?"),
        Some(_) => {
            let mut list = known.iter().take(SHOWN).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
            if known.len() > SHOWN {
                list.push_str(", …");
            }
            format!("this stage's {what}s are {list}")
        }
    }
}

/// How many characters to insert, delete or replace to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        assert_eq!(help("event", &["events", "errors"], "input"), "did you mean `events`?");
        assert_eq!(help("metrics", &["events", "errors"], "input"), "this stage's inputs are `events`, `errors`");
        assert_eq!(help("x", &[], "output"), "this stage has no outputs");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
